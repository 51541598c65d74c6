package qemu

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
)

// bridgeConf says which bridges qemu-bridge-helper may plug guests into; its
// place is compiled in.
const bridgeConf = "/etc/qemu/bridge.conf"

var (
	errNoHelper     = errors.New("qemu-bridge-helper is not installed")
	errHelperWeak   = errors.New("qemu-bridge-helper is not setuid root")
	errBridgeDenied = errors.New("qemu-bridge-helper may not use it")
)

// mayUse reports whether the helper will plug a tap into the bridge.
func (p *Provider) mayUse(bridge string) error {
	helper := p.findHelper()
	if helper == "" {
		return errNoHelper
	}
	info, err := os.Stat(helper)
	if err != nil {
		return err
	}
	if info.Mode()&os.ModeSetuid == 0 && os.Geteuid() != 0 && !hasFileCapabilities(helper) {
		return errHelperWeak
	}
	allowed, err := bridgeAllowed(bridge, bridgeConf, func(name string) (io.ReadCloser, error) { return os.Open(name) })
	if errors.Is(err, os.ErrPermission) {
		return nil // only the helper may read it
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if !allowed {
		return errBridgeDenied
	}
	return nil
}

// helperAdvice says how to mend what mayUse found.
func helperAdvice(err error, bridge string) string {
	switch {
	case errors.Is(err, errNoHelper):
		return "install it with QEMU (Debian: qemu-system-common), or run hostctl as root"
	case errors.Is(err, errHelperWeak):
		return "run 'sudo chmod u+s " + helperPlaces[0] + "', or hostctl as root"
	default:
		return fmt.Sprintf("add the line 'allow %s' to %s", bridge, bridgeConf)
	}
}

// maxIncludes bounds how deep one file can include the next.
const maxIncludes = 8

// bridgeAllowed reads the helper's rules (QEMU 7.2, qemu-bridge-helper.c): a
// bridge is allowed when some rule allows it, or all, and none denies it.
func bridgeAllowed(bridge, file string, open func(name string) (io.ReadCloser, error)) (bool, error) {
	allowed, denied := false, false
	var read func(file string, depth int) error
	read = func(file string, depth int) error {
		f, err := open(file)
		if err != nil {
			return err
		}
		defer f.Close()
		in := bufio.NewScanner(f)
		for in.Scan() {
			words := strings.Fields(in.Text())
			if len(words) == 0 || strings.HasPrefix(words[0], "#") {
				continue
			}
			if len(words) != 2 {
				return fmt.Errorf("%s: %q is not a rule", file, in.Text())
			}
			match := words[1] == "all" || words[1] == bridge
			switch words[0] {
			case "allow":
				allowed = allowed || match
			case "deny":
				denied = denied || match
			case "include":
				if depth == maxIncludes {
					return fmt.Errorf("%s includes too many files", file)
				}
				if err := read(words[1], depth+1); err != nil && !errors.Is(err, os.ErrNotExist) {
					return err
				}
			default:
				return fmt.Errorf("%s: %q is not a rule", file, in.Text())
			}
		}
		return in.Err()
	}
	err := read(file, 0)
	return allowed && !denied, err
}
