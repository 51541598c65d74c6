#!/usr/bin/env bash
# What the agent's proxy costs: MB/s to a guest and from it, with one stream and
# with four, over four ways to one and the same guest, in turn:
#
#   direct    from this host to the guest's address
#   proxy     the agent's proxy, the same way behind it
#   ssh -L    OpenSSH, the same way behind it
#   hostfwd   QEMU's user network, which forwards by itself
#
# Then the memory of a proxy with 10,000 idle connections, to a program on this
# host: a guest that runs Docker tracks connections, by default too few. Prints
# the figures of every round and the medians of the ratios within a round, and
# fails when the proxy has less than 0.8 of the direct way, less than 3 times
# ssh -L, or more than 100 MiB. The load is scripts/bench/forward, a static program that is
# copied into the guest.
#
# The guest and its networks live in namespaces of this script's own and end
# with it. Other users than root need user namespaces and a /dev/net/tun that
# they may open.
#
# usage: scripts/bench/forward.sh [rounds [seconds of each way and load]]
set -euo pipefail
cd "$(dirname "$0")/../.."

host=172.28.8.1 guest=172.28.8.2 port=7000
mac=52:54:00:68:6f:73

outside() {
	local missing=() program rootless=()
	for program in go ip ssh unshare; do
		command -v "$program" >/dev/null || [[ -x /usr/sbin/$program ]] || missing+=("$program")
	done
	if [[ ${#missing[@]} -gt 0 ]]; then
		echo "missing: ${missing[*]}; scripts/setup bench installs them" >&2
		exit 1
	fi
	[[ -w /dev/net/tun ]] || { echo "/dev/net/tun cannot be opened" >&2; exit 1; }
	[[ $(id -u) -eq 0 ]] || rootless=(--user --map-root-user)
	# A disk, not /tmp where that is memory: the guest's disk lies there.
	dir=$(mktemp -d -p /var/tmp)
	trap 'rm -rf "$dir"' EXIT
	CGO_ENABLED=0 go build -trimpath -ldflags '-s -w' -o "$dir/forward" ./scripts/bench/forward
	unshare "${rootless[@]}" --net --mount --pid --fork --mount-proc --kill-child \
		"$PWD/scripts/bench/forward.sh" --inside "$dir" "$@"
}

# start_guest boots a machine whose QEMU has a second card, on a tap device.
# hostctl finds the QEMU that adds it first in its PATH.
start_guest() {
	local emulator
	ip link set lo up
	ip tuntap add bench0 mode tap
	ip address add "$host/24" dev bench0
	ip link set bench0 up
	mkdir "$dir/bin" "$dir/project"
	for emulator in qemu-system-x86_64 qemu-system-aarch64; do
		command -v "$emulator" >/dev/null || continue
		cat >"$dir/bin/$emulator" <<-SH
			#!/bin/sh
			case " \$* " in *" -uuid "*)
			    set -- "\$@" -netdev tap,id=bench,ifname=bench0,script=no,downscript=no -device virtio-net-pci,netdev=bench,mac=$mac ;;
			esac
			exec $(command -v "$emulator") "\$@"
		SH
		chmod +x "$dir/bin/$emulator"
	done
	cat >"$dir/project/machine.hcl" <<-HCL
		machine "bench" {
		  image  = "dockerhost"
		  memory = "1GiB"
		  cpus   = 2

		  forward "load" {
		    guest = $port
		    host  = $port
		  }
		}
	HCL
	PATH=$dir/bin:$PATH "$hostctl" -C "$dir/project" up
	"$hostctl" -C "$dir/project" ssh-config >"$dir/ssh_config"
	in_guest "sudo tee /usr/local/bin/forward >/dev/null && sudo chmod +x /usr/local/bin/forward" <"$dir/forward"
	in_guest "card=\$(ip -o link | sed -n 's/^[0-9]*: \([^:]*\):.*$mac.*/\1/p') &&
		sudo ip address add $guest/24 dev \"\$card\" && sudo ip link set \"\$card\" up &&
		sudo systemd-run --quiet --unit=load --property=LimitNOFILE=65536 /usr/local/bin/forward serve :$port" </dev/null
}

in_guest() { ssh -F "$dir/ssh_config" bench "$@"; }

# start_ways makes the ways that are not there by themselves.
start_ways() {
	mkfifo "$dir/never"
	exec 3<>"$dir/never" # the proxy ends with its input
	"$dir/forward" proxy 127.0.0.1:7001 "$guest:$port" <&3 >/dev/null &
	ssh -F "$dir/ssh_config" -o HostName="$guest" -o Port=22 -o ExitOnForwardFailure=yes -N \
		-L "127.0.0.1:7002:127.0.0.1:$port" bench 3>&- &
	for way in "${ways[@]}"; do answers "${address[$way]}"; done
}

answers() {
	for _ in {1..300}; do
		"$dir/forward" load "$1" up 1 1ms >/dev/null 2>&1 && return
		sleep 0.1
	done
	echo "nothing answers on $1" >&2
	exit 1
}

# measure_loads prints a line for each round and load, and keeps it.
measure_loads() {
	local rounds=$1 seconds=$2 i s n load direction streams way moved
	declare -A got
	printf '%-6s %-22s %9s %9s %9s %9s   (MB/s)\n' round load "${ways[@]}"
	for ((i = 1; i <= rounds; i++)); do
		for load in "to guest, 1 stream" "from guest, 1 stream" "to guest, 4 streams" "from guest, 4 streams"; do
			direction=down
			[[ $load == from* ]] || direction=up
			streams=${load//[^0-9]/}
			for way in "${ways[@]}"; do got[$way]=; done
			# What else this host does comes and goes: the ways take turns by the
			# second, and each turn begins with another one.
			for ((s = 0; s < seconds; s++)); do
				for ((n = 0; n < ${#ways[@]}; n++)); do
					way=${ways[(n + i + s) % ${#ways[@]}]}
					moved=$("$dir/forward" load "${address[$way]}" "$direction" "$streams" 1s)
					got[$way]+="$moved "
				done
			done
			for way in "${ways[@]}"; do
				got[$way]=$(awk '{ for (i = 1; i <= NF; i++) sum += $i; printf "%.1f", sum / NF }' <<<"${got[$way]}")
			done
			printf '%-6d %-22s %9s %9s %9s %9s\n' "$i" "$load" "${got[direct]}" "${got[proxy]}" "${got[ssh -L]}" "${got[hostfwd]}"
			echo "$load;${got[direct]};${got[proxy]};${got[ssh -L]};${got[hostfwd]}" >>"$dir/figures"
		done
	done
}

# ratios prints the medians of what the proxy has of another way's speed, and
# fails where that is less than the bar.
ratios() {
	local name=$1 column=$2 bar=$3
	awk -F ';' -v c="$column" '{ print $1 ";" $3 / $c }' "$dir/figures" | sort -t ';' -k 1,1 -k 2,2n |
		awk -F ';' -v name="$name" -v bar="$bar" '
			function median(  m) {
				m = v[int((n + 1) / 2)]
				printf "  %-22s %6.2f\n", load, m
				if (bar && m < bar) missed = 1
			}
			BEGIN { printf "proxy / %s%s\n", name, bar ? ", at least " bar " wanted:" : ":" }
			load != $1 { if (n) median(); n = 0; load = $1 }
			{ v[++n] = $2 }
			END { median(); exit missed }'
}

# measure_idle holds as many connections as the limit on open files allows:
# the proxy needs two for each.
measure_idle() {
	local count=10000 limit proxy_pid
	limit=$(ulimit -Hn)
	if [[ $limit != unlimited ]] && ((limit < 2 * count + 100)); then
		count=$(((limit - 100) / 2))
	fi
	"$dir/forward" serve 127.0.0.1:7003 3>&- &
	"$dir/forward" proxy 127.0.0.1:7004 127.0.0.1:7003 <&3 >/dev/null &
	proxy_pid=$!
	answers 127.0.0.1:7004
	"$dir/forward" idle 127.0.0.1:7004 "$count" "$proxy_pid" |
		awk -v count="$count" -v limit="$limit" '{
			printf "%d idle connections: the proxy takes %.0f MiB", count, $1 / 1024
			printf "%s, at most 100 wanted\n", count < 10000 ? " (ulimit -Hn " limit " allows no more)" : ""
			exit $1 > 100 * 1024 }'
}

inside() {
	local failed=0
	hostctl=$PWD/bin/hostctl
	export XDG_STATE_HOME=$dir/state XDG_RUNTIME_DIR=$dir
	ways=(direct proxy "ssh -L" hostfwd)
	declare -gA address=([direct]=$guest:$port [proxy]=127.0.0.1:7001 ["ssh -L"]=127.0.0.1:7002 [hostfwd]=127.0.0.1:$port)
	start_guest
	start_ways
	measure_loads "${1:-5}" "${2:-4}"
	ratios direct 2 0.8 || failed=1
	ratios "ssh -L" 4 3 || failed=1
	ratios hostfwd 5 ""
	measure_idle || failed=1
	exit "$failed"
}

if [[ ${1:-} == --inside ]]; then
	dir=$2
	inside "${@:3}"
else
	outside "$@"
fi
