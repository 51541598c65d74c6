package qemu

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/hostctl/hostctl/internal/usernet"
	"github.com/hostctl/hostctl/network"
	"github.com/hostctl/hostctl/provider"
)

// surroundings is what the host adds to a domain to make a command line.
type surroundings struct {
	accel    string             // "kvm", "hvf", "whpx" or "tcg"
	socket   string             // absolute path of the QMP socket
	firmware *provider.Firmware // nil: the BIOS that QEMU brings
	plugs    []plug             // one for each of the domain's NICs
}

// args is QEMU's command line without the program. Files of the domain are
// named relative to its directory. The names are those of QEMU 7.2's manual.
func args(d provider.Domain, s surroundings) []string {
	a := []string{
		"-name", d.Name,
		"-uuid", d.ID, // how the process is recognised
		"-no-user-config",
		"-nodefaults",
		"-display", "none",
		"-machine", machine(d.Arch),
		"-accel", acceleratorOption(s.accel),
		"-cpu", cpu(d.Arch, s.accel),
		"-smp", strconv.Itoa(d.CPUs),
		"-m", fmt.Sprintf("%dM", d.Memory),
		"-rtc", "base=utc",
		"-pidfile", pidFile,
		"-chardev", "socket,id=qmp,path=" + escape(s.socket) + ",server=on,wait=off",
		"-mon", "chardev=qmp,mode=control",
		"-chardev", "file,id=serial,path=" + serialFile + ",append=on",
		"-serial", "chardev:serial",
	}
	if s.firmware != nil {
		a = append(a,
			"-drive", "if=pflash,unit=0,readonly=on,format="+s.firmware.Format+",file="+escape(s.firmware.Code),
			"-drive", "if=pflash,unit=1,format="+s.firmware.Format+",file="+varsFile,
		)
	}
	a = append(a,
		"-drive", "if=none,id=disk,format=qcow2,discard=unmap,file="+diskFile,
		"-device", "virtio-blk-pci,drive=disk,bootindex=0",
	)
	if !d.NoNAT {
		a = append(a,
			"-netdev", netdev(d.Forwards),
			"-device", card(natID, network.MAC(d.ID, "").String()),
		)
	}
	a = append(a,
		"-object", "rng-builtin,id=rng",
		"-device", "virtio-rng-pci,rng=rng",
		"-fw_cfg", "name="+escape(d.Ignition.Key)+",file="+ignitionFile,
	)
	// Behind everything else, whose places on the bus stay the same.
	for i, nic := range d.NICs {
		a = append(a, nicArgs(i, nic, s.plugs[i])...)
	}
	return a
}

func machine(arch string) string {
	if arch == "arm64" {
		// The best interrupt controller there is: the host's under KVM, which
		// offers no other. QEMU's default, version 2, ends at 8 CPUs.
		return "virt,gic-version=max"
	}
	return "q35"
}

func acceleratorOption(accel string) string {
	if accel == "tcg" {
		return "tcg,thread=multi"
	}
	return accel
}

func cpu(arch, accel string) string {
	switch {
	case accel == "kvm" || accel == "hvf":
		return "host"
	case accel == "tcg" && arch == "arm64":
		// What Flatcar's own script emulates (flatcar/scripts
		// qemu_template.sh), and every QEMU has. "max" would add pointer
		// authentication, which is costly to emulate, and address sizes that
		// older kernels do not expect.
		return "cortex-a57"
	case accel == "tcg":
		// A plainer CPU (x86-64-v2) would not run container images built for
		// AVX2. What a guest takes for fast and emulation makes slow is left
		// out: copying and clearing by "rep movsb", a step for each byte, and
		// a fifth level of page tables. It saves a sixth of a boot.
		return "max,erms=off,fsrm=off,la57=off"
	default:
		return "max" // WHPX has no "host"
	}
}

// card is a network card on a -netdev. Without its ROM it does not offer to
// boot from the network.
func card(netdev, mac string) string {
	return "virtio-net-pci,netdev=" + netdev + ",romfile=,mac=" + mac
}

// natID is what the user network is called in QEMU.
const natID = "net"

// netdev is QEMU's user network: the guest reaches the host's loopback at
// 10.0.2.2 and the world through the host, without privileges.
func netdev(forwards []network.Forward) string {
	var b strings.Builder
	b.WriteString("user,id=" + natID)
	for _, f := range forwards {
		b.WriteString(",hostfwd=" + usernet.Rule(f))
	}
	return b.String()
}

// escape protects a value in QEMU's option syntax: a comma is doubled.
func escape(value string) string { return strings.ReplaceAll(value, ",", ",,") }
