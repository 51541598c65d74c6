#!/usr/bin/env bash
# How long the commands that only look take, for a running machine: hostctl
# status, env and a second up. Where vagrant is installed, vagrant status runs
# in turn with them, on a project that describes the same machine.
#
# usage: scripts/bench/start.sh [runs]
set -euo pipefail
cd "$(dirname "$0")/../.."
runs=${1:-20}
hostctl=$PWD/bin/hostctl
dir=$(mktemp -d)
export XDG_STATE_HOME=$dir/state VAGRANT_HOME=$dir/vagrant-home
trap '"$hostctl" -C "$dir" destroy --yes >/dev/null 2>&1 || true; rm -rf "$dir"' EXIT

cat >"$dir/machine.hcl" <<'HCL'
machine "bench" {
  image  = "dockerhost"
  memory = "1GiB"
}
HCL
cat >"$dir/Vagrantfile" <<'RUBY'
Vagrant.configure("2") { |config| config.vm.box = "bench" }
RUBY
"$hostctl" -C "$dir" up

# Wall time of each run in milliseconds: minimum, median, maximum.
measure() {
	local name=$1 i start end
	shift
	for ((i = 0; i < runs; i++)); do
		start=$(date +%s%N)
		(cd "$dir" && "$@") >/dev/null 2>&1
		end=$(date +%s%N)
		echo $(((end - start) / 1000))
	done | sort -n | awk -v name="$name" '{ v[NR] = $1 / 1000 }
		END { printf "%-18s %8.1f %8.1f %8.1f\n", name, v[1], v[int((NR + 1) / 2)], v[NR] }' | tee -a "$dir/figures"
}

printf '%-18s %8s %8s %8s   (ms)\n' command min median max
measure "hostctl status" "$hostctl" status
measure "hostctl env" "$hostctl" env --shell bash
measure "hostctl up (again)" "$hostctl" up
if command -v vagrant >/dev/null; then
	runs=5
	measure "vagrant status" vagrant status
	awk '$1 == "hostctl" && $2 == "status" { h = $4 } $1 == "vagrant" { printf "vagrant status takes %.0f times as long as hostctl status\n", $4 / h }' "$dir/figures"
else
	echo "vagrant is not installed: nothing to compare with (apt-get install vagrant)"
fi
