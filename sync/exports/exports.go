// Package exports has folders of this host exported by the NFS server that
// belongs to the system: the kernel's on Linux, nfsd on macOS.
//
// What a project wants is one [Request]. It becomes a file of the project's own
// in /etc/exports.d, or a marked section of /etc/exports where there is no such
// directory. [Server.Check] says, without privileges, whether all is as wanted;
// [Server.Apply] makes it so, as root; [Client] goes from the one to the other
// through sudo. No line of anybody else's is ever changed.
//
// Guests act as the user: whoever they are, the server takes them for the user's
// uid and gid and for nobody else's. Lines are made here from folders, addresses
// and those two numbers, never taken from the caller, so that whoever may call
// Apply cannot export more than they can read and write themselves.
package exports

import (
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/hostctl/hostctl/internal/hint"
)

// Port is where the system's server listens.
const Port = 2049

// Export is a folder that guests may mount.
type Export struct {
	// Path is the folder as [Resolve] returns it; guests mount it by that name.
	Path string `json:"path"`
	// Clients are the addresses that guests come from: those of private networks
	// and of loopback only, where QEMU's user network comes from.
	Clients  []netip.Prefix `json:"clients"`
	ReadOnly bool           `json:"read_only,omitempty"`
}

// Request is all that a project wants exported. Without exports, nothing of the
// project's is to be left.
type Request struct {
	Project string   `json:"project"` // its id
	Exports []Export `json:"exports,omitempty"`
}

// Owner is the user who asks, and whom guests act as.
type Owner struct {
	UID, GID int
}

// Sentinels, matched with errors.Is.
var (
	// ErrNotInstalled means that this system has no NFS server.
	ErrNotInstalled = errors.New("the system's NFS server is not installed")
	// ErrNotRunning means that the server is there and serves nobody.
	ErrNotRunning = errors.New("the system's NFS server does not run")
	// ErrUnsupported means that there is none of this kind on such systems.
	ErrUnsupported = errors.New("this system has no NFS server that hostctl knows")
)

// Bounds of a request, which root reads from whoever asks.
const (
	maxExports = 256
	maxClients = 64
	maxPath    = 1000 // exportfs takes 1,023 bytes at most
)

var (
	validProject = regexp.MustCompile(`^[0-9a-f]{12}$`)
	// looksOctal is what exportfs decodes even in a name that was decoded before,
	// and once more when it reads its own table.
	looksOctal = regexp.MustCompile(`\\[0-3][0-7]{2}`)
)

// check refuses what cannot be exported on a system of that kind, whoever asks.
func (r Request) check(system string) error {
	if !validProject.MatchString(r.Project) {
		return fmt.Errorf("project id %q: want 12 hexadecimal digits", r.Project)
	}
	if len(r.Exports) > maxExports {
		return fmt.Errorf("%d folders, and a project may export %d", len(r.Exports), maxExports)
	}
	type access struct {
		path   string
		client netip.Prefix
	}
	seen := map[access]bool{} // whether read-only
	for _, e := range r.Exports {
		if err := e.check(system); err != nil {
			return fmt.Errorf("export %q: %w", e.Path, err)
		}
		for _, c := range e.Clients {
			if ro, ok := seen[access{e.Path, c}]; ok && ro != e.ReadOnly {
				return fmt.Errorf("export %q: %s may write and may not", e.Path, address(c))
			}
			seen[access{e.Path, c}] = e.ReadOnly
		}
	}
	return nil
}

func (e Export) check(system string) error {
	switch {
	case !filepath.IsAbs(e.Path) || filepath.Clean(e.Path) != e.Path:
		return errors.New("the path is not absolute and clean")
	case e.Path == "/":
		return errors.New("the whole file system is not exported")
	case len(e.Path) > maxPath:
		return fmt.Errorf("the path is longer than %d bytes", maxPath)
	case strings.ContainsRune(e.Path, 0):
		return errors.New("the path has a NUL")
	case system == darwin && strings.ContainsFunc(e.Path, unwritable):
		return hint.Wrap(errors.New("macOS's exports cannot have a quote, a backslash or a control character in a path"),
			`server = "embedded" serves any folder`)
	case system == linux && looksOctal.MatchString(e.Path):
		return hint.Wrap(errors.New("exportfs takes a backslash and three digits in a path for something else"),
			`server = "embedded" serves any folder`)
	case len(e.Clients) == 0:
		return errors.New("there is nobody to export it to")
	case len(e.Clients) > maxClients:
		return fmt.Errorf("%d addresses, and there may be %d", len(e.Clients), maxClients)
	}
	for _, c := range e.Clients {
		switch {
		case !c.IsValid() || c != c.Masked() || c.Addr().Is4In6():
			return fmt.Errorf("%v is no network", c)
		case !private(c):
			return fmt.Errorf("%v is neither of a private network nor loopback", c)
		case system == darwin && !c.Addr().Is4():
			return fmt.Errorf("%v: exports to IPv6 addresses are not written on macOS", c)
		}
	}
	return nil
}

// unwritable are what macOS's exports(5) gives no sure way to write.
func unwritable(r rune) bool { return r == '"' || r == '\'' || r == '\\' || r < ' ' || r == 0x7f }

// privateNetworks are those that nobody on the Internet is in: RFC 1918, RFC
// 4193, and loopback.
var privateNetworks = []netip.Prefix{
	netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("172.16.0.0/12"), netip.MustParsePrefix("192.168.0.0/16"),
	netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("fc00::/7"), netip.MustParsePrefix("::1/128"),
}

func private(p netip.Prefix) bool {
	return slices.ContainsFunc(privateNetworks, func(n netip.Prefix) bool {
		return n.Bits() <= p.Bits() && n.Contains(p.Addr())
	})
}

// block is what stands in a file for a project: the lines between two others that
// say whose they are.
type block struct {
	project string
	uid     int
	lines   []string
}

func (b block) begin() string {
	return fmt.Sprintf("# hostctl %s uid %d begin: written anew by hostctl, do not edit", b.project, b.uid)
}
func (b block) end() string { return fmt.Sprintf("# hostctl %s uid %d end", b.project, b.uid) }

func (b block) String() string {
	return strings.Join(slices.Concat([]string{b.begin()}, b.lines, []string{b.end(), ""}), "\n")
}
