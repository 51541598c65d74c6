#!/usr/bin/env bash
# How long the commands that only look take, for a running machine: hostctl
# status, env and a second up. Where vagrant is installed, vagrant status too,
# at its best: its machine's provider is a few lines of Ruby that say "running"
# and ask no hypervisor. A command that fails is not measured, and why is said.
#
# usage: scripts/bench/start.sh [runs]
set -euo pipefail
cd "$(dirname "$0")/../.."
runs=${1:-20}
hostctl=$PWD/bin/hostctl
dir=$(mktemp -d)
export XDG_STATE_HOME=$dir/state VAGRANT_HOME=$dir/vagrant-home VAGRANT_CHECKPOINT_DISABLE=1
trap '"$hostctl" -C "$dir" destroy --yes >/dev/null 2>&1 || true; rm -rf "$dir"' EXIT

cat >"$dir/machine.hcl" <<'HCL'
machine "bench" {
  image  = "dockerhost"
  memory = "1GiB"
}
HCL
cat >"$dir/Vagrantfile" <<'RUBY'
class BenchProvider < Vagrant.plugin("2", :provider)
  def state = Vagrant::MachineState.new(:running, "running", "")
end
class BenchPlugin < Vagrant.plugin("2")
  name "bench"
  provider(:bench) { BenchProvider }
end
Vagrant.configure("2") do |config|
  config.vm.box = "bench"
  config.vm.provider "bench"
end
RUBY
"$hostctl" -C "$dir" up

# measure NAME COUNT COMMAND... prints the wall time of COUNT runs in
# milliseconds: minimum, median, maximum. The run before them counts for
# nothing: it fills caches.
measure() {
	local name=$1 count=$2 i start end
	shift 2
	: >"$dir/times"
	for ((i = 0; i <= count; i++)); do
		start=$(date +%s%N)
		if ! (cd "$dir" && "$@") >"$dir/said" 2>&1; then
			printf '%-18s not measured: it failed:\n' "$name"
			sed 's/^/    /' "$dir/said"
			return 1
		fi
		end=$(date +%s%N)
		((i == 0)) || echo $(((end - start) / 1000)) >>"$dir/times"
	done
	sort -n "$dir/times" | awk -v name="$name" '{ v[NR] = $1 / 1000 }
		END { printf "%-18s %8.1f %8.1f %8.1f\n", name, v[1], v[int((NR + 1) / 2)], v[NR] }' | tee -a "$dir/figures"
}

failed=0
printf '%-18s %8s %8s %8s   (ms)\n' command min median max
measure "hostctl status" "$runs" "$hostctl" status || failed=1
measure "hostctl env" "$runs" "$hostctl" env --shell bash || failed=1
measure "hostctl up (again)" "$runs" "$hostctl" up || failed=1
if ! command -v vagrant >/dev/null; then
	echo "vagrant is not installed: nothing to compare with (apt-get install --no-install-recommends vagrant)"
elif measure "vagrant status" $((runs < 5 ? runs : 5)) vagrant status; then
	awk '$1 == "hostctl" && $2 == "status" { h = $4 }
		$1 == "vagrant" && h { printf "vagrant status takes %.0f times as long as hostctl status\n", $4 / h }' "$dir/figures"
fi
exit "$failed"
