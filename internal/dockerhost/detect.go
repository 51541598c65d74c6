package dockerhost

import (
	"errors"
	"fmt"
	"iter"
	"os"
	"slices"
	"strings"

	"github.com/shirou/gopsutil/v4/process"

	"github.com/hostctl/hostctl/internal/hint"
)

// Shell is a dialect that [Env] can be written in.
type Shell string

// Dialects.
const (
	POSIX      Shell = "sh" // bash, zsh, dash and all their kin
	Fish       Shell = "fish"
	Tcsh       Shell = "tcsh"
	PowerShell Shell = "powershell"
	Cmd        Shell = "cmd"
)

// Shells returns the names by which users know the shells, sorted.
func Shells() []string {
	return []string{"bash", "cmd", "fish", "powershell", "sh", "tcsh", "zsh"}
}

// lookup finds the dialect of a program's name or path, as processes and $SHELL
// give it: "-bash" is a login shell, "pwsh.exe" a file on Windows.
func lookup(name string) (Shell, bool) {
	name = name[strings.LastIndexAny(name, `/\`)+1:]
	name = strings.TrimSuffix(strings.ToLower(strings.TrimPrefix(name, "-")), ".exe")
	switch name {
	case "sh", "bash", "zsh", "dash", "ash", "ksh", "ksh93", "mksh":
		return POSIX, true
	case "fish":
		return Fish, true
	case "tcsh", "csh", "bsd-csh":
		return Tcsh, true
	case "powershell", "pwsh":
		return PowerShell, true
	case "cmd":
		return Cmd, true
	}
	return "", false
}

// ParseShell returns the dialect of a shell's name or path. The hint of its
// error has the names it knows.
func ParseShell(name string) (Shell, error) {
	if s, ok := lookup(name); ok {
		return s, nil
	}
	advice := "known shells are " + strings.Join(Shells(), ", ")
	if nearest := hint.Nearest(name, Shells()); nearest != "" {
		advice = fmt.Sprintf("did you mean %q? %s", nearest, advice)
	}
	return "", hint.Wrap(fmt.Errorf("unknown shell %q", name), "%s", advice)
}

// Detect finds the shell that will evaluate the output: the nearest of the
// processes above this one that is a shell, else the login shell, which is what
// $SHELL holds. The two differ whenever somebody starts another shell by hand.
func Detect(ancestors iter.Seq[string], login string) (Shell, error) {
	for name := range ancestors {
		if s, ok := lookup(name); ok {
			return s, nil
		}
	}
	if login == "" {
		return "", hint.Wrap(errors.New("cannot tell which shell this is"),
			"say so with --shell: %s", strings.Join(Shells(), ", "))
	}
	return ParseShell(login)
}

// generations is how far Ancestors looks: over make, sudo, time and the like,
// not up to the login of the desktop.
const generations = 8

// Ancestors yields what the processes above this one are called, the nearest
// first: of each its name and then its program's path, as a script goes by its
// own name. It ends early where the system does not tell.
func Ancestors() iter.Seq[string] {
	return func(yield func(string) bool) {
		pid := int32(os.Getppid()) // 1 is a shell as well, in containers
		var seen []int32           // Windows reuses the pids of parents that ended
		for range generations {
			if pid < 1 || slices.Contains(seen, pid) {
				return
			}
			seen = append(seen, pid)
			p := &process.Process{Pid: pid}
			if name, err := p.Name(); err == nil && !yield(name) {
				return
			}
			if path, err := p.Exe(); err == nil && !yield(path) {
				return
			}
			parent, err := p.Ppid()
			if err != nil {
				return
			}
			pid = parent
		}
	}
}
