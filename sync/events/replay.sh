# Reads operations: a line "OPERATION BYTES", and names that end with NUL, of so
# many bytes in all. A line "done N" is repeated. Names never meet the shell.
echo ready
while read -r op n; do
	case $op in
	done) echo "done $n"; continue ;;
	list) set -- sync -d -- ;;
	remove) set -- rm -f -- ;;
	rmdir) set -- rmdir -- ;;
	mkdir) set -- mkdir -- ;;
	# A fifo, since that is one call. The server says what it is instead.
	make) set -- mkfifo -- ;;
	# The time of change alone: that is what the kernel takes for a write.
	write) set -- touch -c -h -m -- ;;
	attributes) set -- touch -c -h -- ;;
	close) set -- -I '{}' dd count=0 conv=notrunc,nocreat oflag=nonblock,nofollow status=none 'of={}' ;;
	*) exit 2 ;;
	esac
	head -c "$n" | xargs -0 -r "$@" 2>/dev/null
done
