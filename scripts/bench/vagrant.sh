#!/usr/bin/env bash
# How long hostctl up takes on libvirt against vagrant up with vagrant-libvirt:
# both boot the same image with the same Ignition, memory and cores under the
# same libvirtd, in turn, from nothing to the first answer of Docker's /_ping
# through the forwarded port. Prints seconds and the ratio, and fails when the
# median ratio is above 0.75.
#
# libvirtd, vagrant and the guests live in namespaces of this script's own and
# end with it: it needs root, and leaves the host's libvirt, networks and ports
# alone. The packages that it wants: scripts/setup bench.
#
# usage: scripts/bench/vagrant.sh [rounds]
set -euo pipefail
cd "$(dirname "$0")/../.."

# The bar: this much of vagrant's time at most.
bar=0.75
# Debian's vagrant finds its plugins among the system's gems.
plugin='/usr/share/rubygems-integration/all/specifications/vagrant-libvirt-*.gemspec'

outside() {
	local missing=() program
	for program in vagrant virsh libvirtd dnsmasq curl ip unshare; do
		command -v "$program" >/dev/null || [[ -x /usr/sbin/$program ]] || missing+=("$program")
	done
	compgen -G "$plugin" >/dev/null || missing+=(vagrant-libvirt)
	if [[ ${#missing[@]} -gt 0 ]]; then
		echo "missing: ${missing[*]}; scripts/setup bench installs them" >&2
		exit 1
	fi
	[[ $(id -u) -eq 0 ]] || { echo "namespaces of its own need root" >&2; exit 1; }
	# A disk, not /tmp where that is memory: guests' disks lie there.
	dir=$(mktemp -d -p /var/tmp)
	trap 'rm -rf "$dir"' EXIT
	unshare --net --mount --pid --fork --mount-proc --kill-child \
		"$PWD/scripts/bench/vagrant.sh" --inside "$dir" "$@"
}

# start_libvirtd runs one that knows nothing of the host's.
start_libvirtd() {
	local place
	ip link set lo up
	for place in /run /etc/libvirt /var/lib/libvirt /var/log/libvirt /var/cache/libvirt; do
		mount -t tmpfs -o mode=0755 tmpfs "$place"
	done
	mkdir -p /var/lib/libvirt/images /var/lib/libvirt/dnsmasq "$dir/images"
	mount --bind "$dir/images" /var/lib/libvirt/images
	# No virtlogd, no cgroups to own, no second user: root is alone here.
	cat >/etc/libvirt/qemu.conf <<-'CONF'
		security_driver = "none"
		user = "root"
		group = "root"
		stdio_handler = "file"
		cgroup_controllers = []
		namespaces = []
	CONF
	cat >/etc/libvirt/libvirtd.conf <<-'CONF'
		auth_unix_rw = "none"
	CONF
	PATH=$PATH:/usr/sbin libvirtd >"$dir/libvirtd.log" 2>&1 &
	for _ in {1..100}; do
		virsh --quiet list >/dev/null 2>&1 && return
		sleep 0.1
	done
	cat "$dir/libvirtd.log" >&2
	exit 1
}

# The guest's processor: as hostctl chooses it.
choose_accelerator() {
	if grep -qE '^flags.*\b(vmx|svm)\b' /proc/cpuinfo && [[ -w /dev/kvm ]]; then
		accel=kvm driver=kvm cpu=host-passthrough
	else
		accel=tcg driver=qemu cpu=maximum
	fi
}

write_project() {
	mkdir "$dir/hostctl"
	cat >"$dir/hostctl/machine.hcl" <<-HCL
		machine "bench" {
		  provider = "libvirt"
		  image    = "dockerhost"
		  memory   = "1GiB"
		  cpus     = 2
		  disk     = "20GiB"
		  accel    = "$accel"

		  forward "docker" {
		    guest = 2375
		    host  = 2375
		  }
		}
	HCL
}

write_box() {
	mkdir "$dir/vagrant" "$dir/box"
	cat >"$dir/vagrant/Vagrantfile" <<-RUBY
		Vagrant.configure("2") do |config|
		  config.vm.box = "bench"
		  config.vm.synced_folder ".", "/vagrant", disabled: true
		  config.vm.network "forwarded_port", guest: 2375, host: 2375, host_ip: "127.0.0.1"
		  config.ssh.username = "core"
		  config.ssh.private_key_path = "$dir/key"
		  config.ssh.insert_key = false
		  config.vm.provider "libvirt" do |libvirt|
		    libvirt.driver = "$driver"
		    libvirt.cpu_mode = "$cpu"
		    libvirt.machine_type = "q35"
		    libvirt.memory = 1024
		    libvirt.cpus = 2
		    libvirt.machine_virtual_size = 20
		    libvirt.graphics_type = "none"
		    libvirt.qemuargs value: "-fw_cfg"
		    libvirt.qemuargs value: "name=opt/com.coreos/config,file=$dir/ignition.json"
		  end
		end
	RUBY
	local image
	image=$("$hostctl" image list -o json | sed -n 's/.*"path": "\(.*\/dockerhost\/.*\)",*/\1/p' | head -n 1)
	echo '{"provider": "libvirt", "format": "qcow2", "virtual_size": 20}' >"$dir/box/metadata.json"
	echo 'Vagrant.configure("2") { |config| }' >"$dir/box/Vagrantfile"
	ln -s "$image" "$dir/box/box.img"
	tar -C "$dir/box" --dereference -cf "$dir/bench.box" metadata.json Vagrantfile box.img
	vagrant box add --force bench "$dir/bench.box" >"$dir/said" 2>&1 || fail "vagrant box add"
}

fail() {
	echo "$1 failed:" >&2
	cat "$dir/said" >&2
	exit 1
}

# measure NAME DIR COMMAND... runs the command in the directory and writes the
# seconds until Docker first answers, whether or not the command has returned by
# then, to NAME.s.
measure() {
	local name=$1 where=$2 start now pid
	shift 2
	start=$(date +%s.%N)
	(cd "$where" && exec "$@") >"$dir/said" 2>&1 &
	pid=$!
	until [[ $(curl --silent --max-time 5 http://127.0.0.1:2375/_ping) == OK ]]; do
		kill -0 "$pid" 2>/dev/null || wait "$pid" || fail "$name"
		now=$(date +%s)
		((now - ${start%.*} < 900)) || fail "$name"
		sleep 0.1
	done
	awk -v a="$start" -v b="$(date +%s.%N)" 'BEGIN { printf "%.2f", b - a }' >"$dir/$name.s"
	wait "$pid" || fail "$name"
}

with_hostctl() {
	measure hostctl "$dir/hostctl" "$hostctl" up
	"$hostctl" -C "$dir/hostctl" config --secrets >"$dir/ignition.json"
	install -m 0600 "$dir/hostctl/.hostctl/id_ed25519" "$dir/key"
	"$hostctl" -C "$dir/hostctl" destroy --yes >"$dir/said" 2>&1 || fail "hostctl destroy"
}

with_vagrant() {
	measure vagrant "$dir/vagrant" vagrant up
	(cd "$dir/vagrant" && vagrant destroy --force) >"$dir/said" 2>&1 || fail "vagrant destroy"
}

inside() {
	local rounds=${1:-3} i
	hostctl=$PWD/bin/hostctl
	export XDG_STATE_HOME=$dir/state XDG_RUNTIME_DIR=$dir VAGRANT_HOME=$dir/vagrant-home
	export VAGRANT_CHECKPOINT_DISABLE=1 VAGRANT_DEFAULT_PROVIDER=libvirt
	start_libvirtd
	choose_accelerator
	write_project
	write_box
	# Both find the image in libvirt's reach: what the first up of all copies
	# counts for neither.
	for ((i = 0; i <= rounds; i++)); do
		with_hostctl
		with_vagrant
		if ((i == 0)); then
			printf '%-8s %10s %10s %8s\n' round hostctl vagrant ratio
			continue
		fi
		awk -v i="$i" -v h="$(cat "$dir/hostctl.s")" -v v="$(cat "$dir/vagrant.s")" \
			'BEGIN { printf "%-8d %8.2f s %8.2f s %8.2f\n", i, h, v, h / v }' | tee -a "$dir/rounds"
	done
	awk '{ print $NF }' "$dir/rounds" | sort -n | awk -v bar="$bar" '{ r[NR] = $1 }
		END { m = r[int((NR + 1) / 2)]; printf "median ratio %.2f, at most %.2f wanted\n", m, bar; exit m > bar }'
}

if [[ ${1:-} == --inside ]]; then
	dir=$2
	inside "${@:3}"
else
	outside "$@"
fi
