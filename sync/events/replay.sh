# Reads operations: a line "OPERATION NAMES", and as many lines with a name each.
# Of a name with line breaks the operation is "OPERATION 0 BYTES", and so many
# bytes follow. A line "done N" is repeated. Names are only ever arguments.
run() {
	op=$1
	shift
	case $op in
	list) sync -d -- "$@" ;;
	remove) rm -f -- "$@" ;;
	rmdir) rmdir -- "$@" ;;
	mkdir) mkdir -- "$@" ;;
	# A fifo, since that is one call. The server says what it is instead.
	make) mkfifo -- "$@" ;;
	# The time of change alone: that is what the kernel takes for a write.
	write) touch -c -h -m -- "$@" ;;
	attributes) touch -c -h -- "$@" ;;
	close)
		for name; do
			dd "of=$name" count=0 conv=notrunc,nocreat oflag=nonblock,nofollow status=none
		done
		;;
	*) exit 2 ;;
	esac </dev/null 2>/dev/null
}
echo ready
while read -r op n bytes; do
	if [ "$op" = "done" ]; then
		echo "done $n"
		continue
	fi
	set --
	if [ -n "$bytes" ]; then
		# What a substitution ends with is kept only before something else.
		name=$(head -c "$bytes" && echo .)
		set -- "${name%?}"
	fi
	while [ $# -lt "$n" ] && IFS= read -r name; do
		set -- "$@" "$name"
	done
	run "$op" "$@"
done
