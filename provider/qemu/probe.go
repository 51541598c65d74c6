package qemu

import (
	"errors"
	"fmt"
	"io/fs"
	"runtime"
	"slices"
	"strings"

	"github.com/hostctl/hostctl/provider"
)

// acceleration is what this host has to run guests of its own architecture on.
type acceleration struct {
	arch string // the host's architecture
	name string // "kvm", "hvf" or "whpx"; "" where QEMU has none for this system
	// err says why it cannot be used at all.
	err error
	// doubt says why it is not used unless asked for, though nothing refuses
	// it outright.
	doubt string
}

// choose decides what a guest runs on and, where that is slow, says so in one
// line. want is the machine file's accel or "". An accelerator that this host
// or this guest cannot have gives a *[provider.FieldError].
func choose(want, guest string, hw acceleration) (accel, notice string, err error) {
	label := map[string]string{"kvm": "KVM", "hvf": "HVF", "whpx": "WHPX"}[hw.name]
	switch {
	case want == "tcg":
		return "tcg", "", nil
	case want == "" && guest != hw.arch:
		return "tcg", fmt.Sprintf("an %s guest on an %s host runs under emulation, about ten times slower", guest, hw.arch), nil
	case want == "" && hw.name == "":
		return "tcg", "guests run under emulation, about ten times slower: QEMU has no accelerator for " + runtime.GOOS, nil
	case want == "" && hw.doubt != "":
		return "tcg", fmt.Sprintf("no %s: %s; guests run under emulation, about ten times slower", label, hw.doubt), nil
	case want == "" && hw.err != nil:
		return "tcg", fmt.Sprintf("no %s: %v; guests run under emulation, about ten times slower", label, withMend(hw.err)), nil
	case want == "":
		return hw.name, "", nil
	}
	refuse := func(advice, format string, args ...any) (string, string, error) {
		return "", "", &provider.FieldError{Field: "accel", Err: fmt.Errorf(format, args...), Advice: advice}
	}
	have := []string{"tcg"}
	if hw.name != "" {
		have = []string{hw.name, "tcg"}
	}
	switch {
	case !slices.Contains(have, want):
		return refuse("leave accel out to take the best there is", "%q is not one of this host's: %s", want, strings.Join(have, ", "))
	case guest != hw.arch:
		return refuse("leave accel out to run it under emulation", "%s cannot run an %s guest on an %s host", want, guest, hw.arch)
	case hw.err != nil:
		return refuse(mend(hw.err), "%s: %w", want, hw.err)
	}
	return want, "", nil
}

// mend says how to get an accelerator that the user may not open.
func mend(err error) string {
	if errors.Is(err, fs.ErrPermission) && runtime.GOOS == "linux" {
		return "run 'sudo usermod -aG kvm $USER' and log in again"
	}
	return ""
}

func withMend(err error) error {
	if m := mend(err); m != "" {
		return fmt.Errorf("%w (%s)", err, m)
	}
	return err
}
