#!/usr/bin/env bash
# How fast shares of type sftp are, in one guest and in turn: hostctl sync,
# rsync -a -e ssh and scp -r, each into an empty folder, with small files and
# with one large one; and again with nothing changed.
#
# Prints the seconds of every round and the medians of the ratios within a
# round, and fails when hostctl takes longer than the others by more than the
# noise, longer than half of rsync's time with nothing changed, or more than
# 64 MiB.
#
# usage: scripts/bench/mirror.sh [rounds [files [MiB of the large one]]]
set -euo pipefail
cd "$(dirname "$0")/../.."

# What medians may be worse by than equal: rounds differ by as much.
noise=1.05
memory_kib=$((64 * 1024))
rounds=${1:-3} files=${2:-10000} mib=${3:-1024}

missing=()
for program in go rsync scp ssh; do
	command -v "$program" >/dev/null || missing+=("$program")
done
if [[ ${#missing[@]} -gt 0 ]]; then
	echo "missing: ${missing[*]}; scripts/setup bench installs them" >&2
	exit 1
fi
# A disk, not /tmp where that is memory.
dir=$(mktemp -d -p /var/tmp)
hostctl=$dir/hostctl
export XDG_STATE_HOME=$dir/state
trap '"$hostctl" -C "$dir" destroy --yes >/dev/null 2>&1 || true; rm -rf "$dir"' EXIT
CGO_ENABLED=0 go build -trimpath -ldflags '-s -w' -o "$hostctl" ./cmd/hostctl

machine() {
	printf 'machine "bench" {\n  image = "dockerhost"\n  memory = "1GiB"\n'
	# The agent would mirror by itself what up was told of.
	[[ $# -eq 0 ]] || printf '  share "bench" {\n    type = "sftp"\n    host = "%s"\n    guest = "/home/core/hostctl"\n  }\n' "$1"
	printf '}\n'
}

make_trees() {
	local i
	mkdir "$dir/small" "$dir/large"
	for ((i = 0; i < files; i++)); do
		[[ $((i % 50)) -ne 0 ]] || mkdir -p "$dir/small/d$((i / 50))"
		head -c "$((200 + i * 7919 % 9000))" /dev/urandom >"$dir/small/d$((i / 50))/f$i.c"
	done
	head -c "${mib}M" /dev/urandom >"$dir/large/file"
}

in_guest() { ssh -F "$dir/ssh_config" bench "$@" </dev/null; }

# run TOOL TREE copies the tree.
run() {
	case $1 in
	hostctl)
		machine "$dir/$2" >"$dir/machine.hcl"
		"$hostctl" -C "$dir" sync >"$dir/log" 2>&1
		;;
	rsync) rsync -a -e "ssh -F $dir/ssh_config" "$dir/$2/" bench:/home/core/rsync/ >"$dir/log" 2>&1 ;;
	scp) scp -q -r -F "$dir/ssh_config" "$dir/$2/." bench:/home/core/scp/ >"$dir/log" 2>&1 ;;
	esac || { cat "$dir/log" >&2; exit 1; }
}

# measure TOOL TREE prints seconds, and keeps the most memory of hostctl.
measure() {
	local TIMEFORMAT=%R
	{ time run "$1" "$2" 2>&3; } 3>&2 2>&1
}

ratio() { awk -v a="$1" -v b="$2" 'BEGIN { printf "%.3f", a / b }'; }

median() { sort -n | awk '{ v[NR] = $1 } END { print v[int((NR + 1) / 2)] }'; }

machine >"$dir/machine.hcl"
"$hostctl" -C "$dir" up
"$hostctl" -C "$dir" ssh-config >"$dir/ssh_config"
make_trees

failed=0
declare -A ratios
for ((round = 1; round <= rounds; round++)); do
	for tree in small large; do
		in_guest "rm -rf hostctl rsync scp && mkdir rsync scp && sync"
		rm -f "$dir"/.hostctl/machines/bench/*.mirror
		for what in first again; do
			declare -A took=()
			for tool in hostctl rsync scp; do
				[[ $what == first || $tool != scp ]] || continue
				took[$tool]=$(measure "$tool" "$tree")
				in_guest sync
			done
			echo "round $round, $tree, $what: hostctl ${took[hostctl]} s, rsync ${took[rsync]} s, scp ${took[scp]:--} s"
			ratios[$tree,$what,rsync]+="$(ratio "${took[hostctl]}" "${took[rsync]}")"$'\n'
			[[ -z ${took[scp]:-} ]] || ratios[$tree,$what,scp]+="$(ratio "${took[hostctl]}" "${took[scp]}")"$'\n'
		done
	done
done
for key in "${!ratios[@]}"; do
	m=$(printf %s "${ratios[$key]}" | median)
	limit=$noise
	[[ $key != *,again,* ]] || limit=0.5
	echo "hostctl's time of that of $key: $m (at most $limit)"
	awk -v m="$m" -v l="$limit" 'BEGIN { exit !(m <= l) }' || failed=1
done

# The memory of one more run into an empty folder.
for tree in small large; do
	in_guest "rm -rf hostctl"
	rm -f "$dir"/.hostctl/machines/bench/*.mirror
	machine "$dir/$tree" >"$dir/machine.hcl"
	"$hostctl" -C "$dir" sync >"$dir/log" 2>&1 &
	pid=$! peak=0
	while kb=$(awk '/^VmHWM/ { print $2 }' "/proc/$pid/status" 2>/dev/null) && [[ -n $kb ]]; do
		peak=$kb
		sleep 0.1
	done
	wait "$pid" || { cat "$dir/log" >&2; exit 1; }
	echo "memory, $tree: $((peak / 1024)) MiB"
	((peak <= memory_kib)) || failed=1
done
exit "$failed"
