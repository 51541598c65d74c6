package exports

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"

	"github.com/hostctl/hostctl/internal/hint"
)

var (
	// plainUser is a name that sudoers(5) takes for nothing else: not an alias, a
	// group, or a number.
	plainUser = regexp.MustCompile(`^[a-z_][a-z0-9_-]*$`)
	// plainCommand has nothing that means something in sudoers(5).
	plainCommand = regexp.MustCompile(`^/[A-Za-z0-9/._+-]+$`)
)

// SudoersFile is where the rule belongs.
const SudoersFile = "/etc/sudoers.d/hostctl"

// Sudoers returns the rule that lets the user run helper as root without a
// password. It is refused for a program that somebody but root could replace:
// the rule would let its owner run anything.
func Sudoers(user string, uid int, helper []string) (string, error) {
	path := helper[0]
	if !plainCommand.MatchString(path) {
		return "", install(fmt.Errorf("%q has characters that have a meaning in sudoers", path))
	}
	if err := rootOnly(path); err != nil {
		return "", install(err)
	}
	if !plainUser.MatchString(user) {
		user = fmt.Sprintf("#%d", uid)
	}
	return fmt.Sprintf(`# hostctl: %s may export folders of %s's own by the system's NFS server, without a
# password, to private networks and loopback, with no rights but %s's.
# Install it with: hostctl share sudoers | sudo tee %s
%s ALL=(root) NOPASSWD:NOSETENV: %s %s
`, user, user, user, SudoersFile, user, path, helper[1]), nil
}

func install(err error) error {
	return hint.Wrap(err, "install hostctl as root first, and use it from there: sudo install -m 755 $(command -v hostctl) /usr/local/bin/hostctl")
}

// rootOnly fails when somebody but root can change the file at path, or what path
// leads to.
func rootOnly(path string) error {
	for at := path; ; at = filepath.Dir(at) {
		info, err := os.Lstat(at)
		switch {
		case err != nil:
			return err
		case info.Mode()&os.ModeSymlink != 0:
			return fmt.Errorf("%s is a link", at)
		case writableByOthers(info):
			return fmt.Errorf("%s can be changed by others than root", at)
		case at == filepath.Dir(at):
			return nil
		}
	}
}
