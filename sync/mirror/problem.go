package mirror

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"syscall"

	"github.com/hostctl/hostctl/internal/hint"
	"github.com/hostctl/hostctl/internal/sshclient"
)

// Problem is a path that is not mirrored, and why.
type Problem struct {
	Path string
	Err  error
}

// PartialError means that all but some paths were mirrored. The next run tries
// them again.
type PartialError struct{ Problems []Problem }

// Error names one more path than it does of many: "and 1 others" tells less.
func (e *PartialError) Error() string {
	const named = 2
	problems := e.Problems
	if len(problems) == 1 {
		return fmt.Sprintf("%s was not mirrored: %v", problems[0].Path, problems[0].Err)
	}
	if len(problems) > named+1 {
		problems = problems[:named]
	}
	var text strings.Builder
	fmt.Fprintf(&text, "%d paths were not mirrored: ", len(e.Problems))
	for i, p := range problems {
		text.WriteString(p.Path)
		switch last := i+1 == len(problems); {
		case last:
			fmt.Fprintf(&text, ": %v", p.Err)
		case problems[i+1].Err.Error() == p.Err.Error():
			text.WriteString(", ")
		default:
			fmt.Fprintf(&text, ": %v; ", p.Err)
		}
	}
	if n := len(e.Problems) - len(problems); n > 0 {
		fmt.Fprintf(&text, "; and %d others", n)
	}
	return text.String()
}

// Unwrap gives the causes.
func (e *PartialError) Unwrap() []error {
	errs := make([]error, len(e.Problems))
	for i, p := range e.Problems {
		errs[i] = p.Err
	}
	return errs
}

// Hint gives the first problem's advice.
func (e *PartialError) Hint() string {
	for _, p := range e.Problems {
		if h := hint.Of(p.Err); h != "" {
			return h
		}
	}
	return ""
}

// denied says on which side a permission is missing, which err does not. What the
// guest's SFTP server denies has no number, as what the system here denies has.
func (c *Config) denied(err error) error {
	if !errors.Is(err, fs.ErrPermission) {
		return err
	}
	if _, here := errors.AsType[syscall.Errno](err); here {
		return fmt.Errorf("on this computer: %w", err)
	}
	err = fmt.Errorf("%w in the guest, maybe as a container made it or its directory", err)
	return hint.Wrap(err, "%s", c.adviceForDenied())
}

// adviceForDenied is what to do where a container's root made files in the copy.
func (c *Config) adviceForDenied() string {
	command := []string{"hostctl", "ssh"}
	if c.Machine != "" {
		command = append(command, c.Machine)
	}
	command = append(command, "-c", `sudo chown -R "$USER:" `+sshclient.Quote(c.Guest))
	return sshclient.Quote(command...) + " makes all of it the guest's user's; it stays so if the container runs as that user"
}

// ErrBusy means that another hostctl mirrors this share right now.
var ErrBusy = errors.New("this share is being mirrored already")

var (
	errGuestEdited  = errors.New("deleted on the host, and left in the guest: it was changed there")
	errNotEmpty     = errors.New("the directory is not empty")
	errMounted      = errors.New("another file system is mounted there in the guest")
	errReadOnlyHere = errors.New("this computer's file system is mounted read-only")
	errMountedHere  = errors.New("another file system is mounted there on this computer")
	errLeadsOutside = errors.New("a link of the guest that would lead out of the share on the host")
)
