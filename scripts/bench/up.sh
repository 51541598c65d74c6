#!/usr/bin/env bash
# How much hostctl up adds to what bare QEMU needs: both boot the same image
# with the same config and the same QEMU options, in turn, from start to the
# first answer of Docker's /_ping. Prints seconds and the ratio.
#
# usage: scripts/bench/up.sh [rounds]
set -euo pipefail
cd "$(dirname "$0")/../.."
rounds=${1:-3}
hostctl=$PWD/bin/hostctl
dir=$(mktemp -d)
export XDG_STATE_HOME=$dir/state
qemu_pid=

cleanup() {
	[[ -z $qemu_pid ]] || kill "$qemu_pid" 2>/dev/null || true
	"$hostctl" -C "$dir/project" destroy --yes >/dev/null 2>&1 || true
	rm -rf "$dir"
}
trap cleanup EXIT

mkdir "$dir/project"
cat >"$dir/project/machine.hcl" <<'HCL'
machine "bench" {
  image  = "dockerhost"
  memory = "1GiB"
}
HCL

now() { date +%s.%N; }
since() { awk -v a="$1" -v b="$(now)" 'BEGIN { printf "%.2f", b - a }'; }

# One hostctl up, from nothing.
with_hostctl() {
	local start
	start=$(now)
	"$hostctl" -C "$dir/project" up 2>"$dir/up.log" || { cat "$dir/up.log" >&2; exit 1; }
	since "$start"
}

# What the running machine's QEMU was started with, and its config; then down.
capture() {
	local state=$dir/project/.hostctl machine pid
	machine=$state/machines/bench
	pid=$(pgrep -f -- "-uuid $(sed -n 's/.*"domain_id": "\(.*\)",*/\1/p' "$state/state.json")" | head -n 1)
	mapfile -d '' -t argv <"/proc/$pid/cmdline"
	rm -rf "$dir/bare"
	mkdir "$dir/bare"
	cp "$machine"/ignition.json "$dir/bare/"
	base=$(qemu-img info -U --output=json "$machine/disk.qcow2" | sed -n 's/.*"full-backing-filename": "\(.*\)",*/\1/p')
	url=http://$("$hostctl" -C "$dir/project" port bench docker)/_ping
	"$hostctl" -C "$dir/project" destroy --yes 2>/dev/null
}

# The same QEMU by hand, with an overlay of its own.
bare() {
	local start
	start=$(now)
	(
		cd "$dir/bare"
		qemu-img create -q -f qcow2 -F qcow2 -b "$base" disk.qcow2
		exec "${argv[@]/path=*.qmp,/path=$dir/bare/qmp,}" >/dev/null 2>&1
	) &
	qemu_pid=$!
	until [[ $(curl --silent --max-time 5 "$url") == OK ]]; do
		kill -0 "$qemu_pid" || { echo "bare QEMU ended" >&2; exit 1; }
		sleep 0.1
	done
	since "$start"
}

end_bare() {
	kill "$qemu_pid"
	wait "$qemu_pid" 2>/dev/null || true
	qemu_pid=
}

printf '%-8s %10s %10s %10s %8s\n' round hostctl bare difference ratio
for ((i = 1; i <= rounds; i++)); do
	with_hostctl >"$dir/hostctl.s"
	capture
	bare >"$dir/bare.s"
	end_bare
	awk -v i="$i" -v h="$(cat "$dir/hostctl.s")" -v b="$(cat "$dir/bare.s")" \
		'BEGIN { printf "%-8d %8.2f s %8.2f s %8.2f s %8.2f\n", i, h, b, h - b, h / b }'
done
