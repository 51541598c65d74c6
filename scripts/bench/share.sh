#!/usr/bin/env bash
# How fast shares are, in one guest and in turn:
#
#   nfs      the agent's NFS server against nfs-ganesha, which runs as root:
#            256 MiB written with fsync and read again, 4 KiB written and read at
#            random, tar x of small files, find and git status over them, rm -r
#   sftp     hostctl sync against rsync -a -e ssh and scp -r, each into an empty
#            folder: small files, and one large one; and hostctl sync against
#            rsync once more, with nothing changed
#
# Prints the seconds of every round and the medians of the ratios within a
# round, and fails when hostctl takes longer than the other in one of them by
# more than the noise, with nothing changed longer than half of rsync's time,
# or the agent, which in the end mirrors all of it as well, more than 64 MiB at
# any time.
#
# Everything lives in namespaces of this script's own and ends with it. It needs
# root: so does ganesha, to give files to the guest's users.
#
# usage: scripts/bench/share.sh [--nfs | --sftp] [rounds [files [MiB of the large one]]]
set -euo pipefail
cd "$(dirname "$0")/../.."

# What medians may be worse by than equal: rounds differ by as much.
noise=1.05
memory_mib=64
ganesha_port=3049 ganesha_mount_port=3048

outside() {
	local missing=() program
	for program in go git fio tar ssh rsync scp unshare ganesha.nfsd rpcbind ip; do
		command -v "$program" >/dev/null || [[ -x /usr/sbin/$program ]] || missing+=("$program")
	done
	if [[ ${#missing[@]} -gt 0 ]]; then
		echo "missing: ${missing[*]}; scripts/setup bench installs them" >&2
		exit 1
	fi
	[[ -w /dev/net/tun ]] || { echo "/dev/net/tun cannot be opened" >&2; exit 1; }
	[[ $(id -u) -eq 0 ]] || { echo "this needs root, as ganesha does" >&2; exit 1; }
	# A disk, not /tmp where that is memory.
	dir=$(mktemp -d -p /var/tmp)
	trap 'rm -rf "$dir"' EXIT
	chmod 755 "$dir"
	unshare --net --mount --pid --fork --mount-proc --kill-child \
		"$PWD/scripts/bench/share.sh" --inside "$dir" "$@"
}

# machine writes the machine file: a share that the agent serves, and one of a
# folder that is mirrored, where one is named.
machine() {
	{
		printf 'machine "bench" {\n  image = "dockerhost"\n  memory = "2GiB"\n  cpus = 2\n'
		printf '  share "nfs" {\n    host = "share"\n    guest = "/srv/nfs"\n  }\n'
		[[ $# -eq 0 ]] || printf '  share "sftp" {\n    type = "sftp"\n    host = "%s"\n    guest = "/home/core/hostctl"\n  }\n' "$1"
		echo '}'
	} >"$dir/project/machine.hcl"
}

# start_guest boots the machine with the first of them.
start_guest() {
	ip link set lo up
	mkdir -p "$dir/project/share"
	machine
	"$hostctl" -C "$dir/project" up
	"$hostctl" -C "$dir/project" ssh-config >"$dir/ssh_config"
}

in_guest() { ssh -F "$dir/ssh_config" bench "$@"; }

# start_ganesha serves another folder, and mounts it with the same options.
start_ganesha() {
	local options
	mkdir "$dir/ganesha"
	# It insists on an address besides loopback, and on a folder in /run.
	ip tuntap add bench0 mode tap
	ip address add 198.18.0.1/32 dev bench0
	ip link set bench0 up
	mount -t tmpfs none /run
	mkdir /run/rpcbind /run/ganesha
	rpcbind -w
	cat >"$dir/ganesha.conf" <<-CONF
		NFS_CORE_PARAM { Protocols = 3; NFS_Port = $ganesha_port; MNT_Port = $ganesha_mount_port; Enable_NLM = false; Enable_RQUOTA = false; }
		EXPORT { Export_Id = 1; Path = $dir/ganesha; Pseudo = /bench; Access_Type = RW; Squash = No_Root_Squash; SecType = sys; Protocols = 3; Transports = TCP; FSAL { Name = VFS; } }
	CONF
	ganesha.nfsd -F -f "$dir/ganesha.conf" -L "$dir/ganesha.log" -N NIV_WARN &
	options=$(in_guest "findmnt --noheadings --output OPTIONS /srv/nfs")
	options=$(sed -E "s/,?\b(addr|mountaddr|clientaddr)=[^,]*//g; s/\bport=[0-9]+/port=$ganesha_port/; s/\bmountport=[0-9]+/mountport=$ganesha_mount_port/" <<<"$options")
	in_guest "sudo mkdir /srv/ganesha
		for i in \$(seq 60); do sudo mount -t nfs -o '$options' 10.0.2.2:$dir/ganesha /srv/ganesha 2>/tmp/mount.log && exit; sleep 1; done
		cat /tmp/mount.log >&2; exit 1" || { cat "$dir/ganesha.log" >&2; exit 1; }
}

# give_tools puts programs into the guest that its image lacks, with their
# libraries, into a folder that is made the root for them.
give_tools() {
	local program library tools=$dir/tools
	mkdir -p "$tools"/{bin,lib,lib64,usr/lib/git-core,tmp,dev,proc,srv}
	for program in bash git fio tar find rm dd; do
		cp -L "$(command -v "$program")" "$tools/bin/"
	done
	ln -s ../../../bin/git "$tools/usr/lib/git-core/git"
	for program in "$tools"/bin/*; do
		ldd "$program" | grep -o '/[^ ]*' || true
	done | sort -u | while read -r library; do
		mkdir -p "$tools${library%/*}"
		cp -L "$library" "$tools$library"
	done
	tar -C "$dir/small" -cf "$tools/tree.tar" .
	tar -C "$dir/small" -cf "$tools/few.tar" d0 d1 d2 d3
	git init --quiet "$dir/repository"
	git --git-dir "$dir/repository/.git" --work-tree "$dir/small" add .
	# Without the files' contents, which git status does not look at.
	tar -C "$dir/repository" --exclude='.git/objects/[0-9a-f][0-9a-f]' -cf "$tools/git.tar" .git
	tar -C "$tools" -c . | in_guest "sudo mkdir /srv/tools && sudo tar -x -C /srv/tools &&
		sudo mount --bind /dev /srv/tools/dev && sudo mount -t proc proc /srv/tools/proc && sudo mount --rbind /srv /srv/tools/srv"
}

# make_trees makes files as a source tree has them, and a large one.
make_trees() {
	local i
	mkdir "$dir/small" "$dir/large"
	for ((i = 0; i < files; i++)); do
		[[ $((i % 30)) -ne 0 ]] || mkdir -p "$dir/small/d$((i / 30))"
		head -c "$((200 + i * 7919 % 9000))" /dev/urandom >"$dir/small/d$((i / 30))/f$i.c"
	done
	head -c "${mib}M" /dev/urandom >"$dir/large/file"
}

# loads are run in this order, each in the state that the ones before it left.
loads=("write" "read" "random write" "random read" "tar x" "find" "git status" "rm -r")

# load NAME [TREE] prints what the guest runs.
load() {
	case $1 in
	"write") echo 'dd if=/dev/zero of=big bs=1M count=256 conv=fsync' ;;
	"read") echo 'dd if=big of=/dev/null bs=1M' ;;
	"random write") echo 'fio --name=w --filename=big --size=256M --io_size=24M --bs=4k --rw=randwrite --ioengine=psync --end_fsync=1' ;;
	"random read") echo 'fio --name=r --filename=big --size=256M --io_size=16M --bs=4k --rw=randread --ioengine=psync' ;;
	"tar x") echo "tar xf /${2:-tree}.tar" ;;
	"find") echo 'find . -ls' ;;
	# The index is of other files, as a checkout's is after a copy: git looks
	# into each.
	"git status") echo 'git -c safe.directory=* status' ;;
	"rm -r") echo 'cd .. && rm -r work' ;;
	esac
}

# measure SERVER LOAD [TREE] prints seconds.
measure() {
	in_guest "sudo sh -c 'mkdir -p /srv/$1/work; sync; echo 3 >/proc/sys/vm/drop_caches'" </dev/null
	if [[ $2 == "git status" ]]; then
		in_guest "sudo tar -x -C /srv/$1/work -f /srv/tools/git.tar && echo 3 | sudo tee /proc/sys/vm/drop_caches >/dev/null" </dev/null
	fi
	in_guest "sudo chroot /srv/tools /bin/bash -c 'TIMEFORMAT=%R
		cd /srv/$1/work || exit
		time { $(load "${@:2}"); } >/tmp/log 2>&1 || { cat /tmp/log; exit 1; }'" </dev/null 2>&1
}

# compared ROUND LOAD SECONDS OTHER SECONDS FILE prints a line, and keeps it.
compared() {
	printf '%-6d %-16s %8.2f s %8.2f s %-8s %6.2f\n' "$1" "$2" "$3" "$5" "$4" "$(awk -v a="$3" -v b="$5" 'BEGIN { print a / b }')"
	echo "$2;$3;$5" >>"$dir/$6"
}

# measure_nfs takes short loads three times in a round, the servers in turn: what
# else this host does comes and goes.
measure_nfs() {
	local i j load server orders=("nfs ganesha" "ganesha nfs") times took
	declare -A seconds
	# An emulated guest runs what it has not run before more slowly.
	for load in "${loads[@]}"; do
		for server in nfs ganesha; do
			measure "$server" "$load" few >/dev/null
		done
	done
	for ((i = 1; i <= rounds; i++)); do
		for load in "${loads[@]}"; do
			case $load in "tar x" | "git status" | "rm -r") times=1 ;; *) times=3 ;; esac
			seconds=([nfs]=0 [ganesha]=0)
			for ((j = 0; j < times; j++)); do
				for server in ${orders[(i + j + 1) % 2]}; do
					took=$(measure "$server" "$load")
					seconds[$server]=$(awk -v sum="${seconds[$server]}" -v took="$took" -v n="$times" 'BEGIN { print sum + took / n }')
				done
			done
			compared "$i" "$load" "${seconds[nfs]}" ganesha "${seconds[ganesha]}" nfs
		done
	done
}

# copy TOOL TREE brings the tree into the guest, and prints seconds.
copy() {
	local TIMEFORMAT=%R argv=()
	case $1 in
	hostctl) argv=("$hostctl" -C "$dir/project" sync) ;;
	rsync) argv=(rsync -a -e "ssh -F $dir/ssh_config" "$dir/$2/" bench:rsync/) ;;
	scp) argv=(scp -q -r -F "$dir/ssh_config" "$dir/$2/." bench:scp/) ;;
	esac
	in_guest sync </dev/null
	{ time "${argv[@]}" </dev/null >"$dir/log" 2>&1; } 2>&1 || { cat "$dir/log" >&2; exit 1; }
}

measure_sftp() {
	local i tree tool
	declare -A seconds
	for ((i = 1; i <= rounds; i++)); do
		for tree in small large; do
			in_guest "rm -rf hostctl rsync scp && mkdir rsync scp" </dev/null
			machine
			"$hostctl" -C "$dir/project" up >"$dir/log" 2>&1 || { cat "$dir/log" >&2; exit 1; }
			rm -f "$dir"/project/.hostctl/machines/bench/*.mirror
			machine "$dir/$tree"
			for tool in hostctl rsync scp; do
				seconds[$tool]=$(copy "$tool" "$tree")
			done
			for tool in rsync scp; do
				compared "$i" "$tree, $tool" "${seconds[hostctl]}" "$tool" "${seconds[$tool]}" sftp
			done
			# As it is in use: the agent is told of the share.
			"$hostctl" -C "$dir/project" up >"$dir/log" 2>&1 || { cat "$dir/log" >&2; exit 1; }
			for tool in hostctl rsync; do
				seconds[$tool]=$(copy "$tool" "$tree")
			done
			compared "$i" "$tree, unchanged" "${seconds[hostctl]}" rsync "${seconds[rsync]}" unchanged
		done
	done
}

# mirror_all has the agent mirror everything.
mirror_all() {
	mkdir "$dir/mirrored"
	machine "$dir/mirrored"
	"$hostctl" -C "$dir/project" up
	mv "$dir/small" "$dir/large" "$dir/mirrored/"
	in_guest "until [ -e hostctl/large/file ] && [ \$(find hostctl/small -type f | wc -l) -eq $files ]; do sleep 0.5; done" </dev/null
}

# ratios FILE BAR prints the medians of the second column to the third, and
# fails where that is more than the bar.
ratios() {
	awk -F ';' '{ print $1 ";" $2 / $3 }' "$1" | sort -t ';' -k 1,1 -k 2,2n |
		awk -F ';' -v bar="$2" '
			function median(  m) {
				m = v[int((n + 1) / 2)]
				printf "  %-16s %6.2f%s\n", load, m, (m > bar ? "  missed" : "")
				if (m > bar) missed = 1
			}
			BEGIN { printf "hostctl / the other, at most %s wanted:\n", bar }
			load != $1 { if (n) median(); n = 0; load = $1 }
			{ v[++n] = $2 }
			END { median(); exit missed }'
}

# agent_memory prints what the agent took at most.
agent_memory() {
	local pid
	pid=$(find "$dir/run" "$dir/state" -name agent.pid -exec cat {} +)
	awk -v most="$memory_mib" '/^VmHWM:/ {
		printf "the agent took %.0f MiB at most, %d wanted\n", $2 / 1024, most
		exit $2 > most * 1024 }' "/proc/$pid/status"
}

inside() {
	local failed=0 half=${1:-}
	[[ $half != --* ]] || shift
	rounds=${1:-3} files=${2:-10000} mib=${3:-1024}
	hostctl=$PWD/bin/hostctl
	export XDG_STATE_HOME=$dir/state XDG_RUNTIME_DIR=$dir/run
	mkdir -m 700 "$dir/run"
	start_guest
	make_trees
	printf '%-6s %-16s %10s %10s %15s\n' round load hostctl other ratio
	if [[ $half != --sftp ]]; then
		start_ganesha
		give_tools
		measure_nfs
		ratios "$dir/nfs" "$noise" || failed=1
	fi
	if [[ $half != --nfs ]]; then
		measure_sftp
		ratios "$dir/sftp" "$noise" || failed=1
		ratios "$dir/unchanged" 0.5 || failed=1
		mirror_all
	fi
	agent_memory || failed=1
	exit "$failed"
}

case ${1:-} in
--inside)
	dir=$2
	inside "${@:3}"
	;;
--nfs | --sftp | [0-9]* | "") outside "$@" ;;
*) sed -n 's/^# usage: /usage: /p' "$0" >&2; exit 2 ;;
esac
