package network

import (
	"bufio"
	"strings"
)

// hardwarePorts reads what macOS's networksetup -listallhardwareports prints:
// labels as VirtualBox and Vagrant make them ("en0: Wi-Fi"), by interface.
func hardwarePorts(printed string) map[string]string {
	out := make(map[string]string)
	port := ""
	for s := bufio.NewScanner(strings.NewReader(printed)); s.Scan(); {
		if v, ok := strings.CutPrefix(s.Text(), "Hardware Port: "); ok {
			port = v
		}
		if v, ok := strings.CutPrefix(s.Text(), "Device: "); ok && v != "" {
			out[v] = v + ": " + port
		}
	}
	return out
}
