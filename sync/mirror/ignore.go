package mirror

import (
	"slices"
	"strings"

	"github.com/hostctl/hostctl/sync/watch"
)

// DefaultIgnore is what is never worth mirroring, as lines of a .gitignore. A
// share's own lines come after it, so that "!*.bak" takes one back.
var DefaultIgnore = []string{
	".hostctl/",               // hostctl's own state, with its keys
	"*.swp", "*.swo", "*.swx", // vim's swap files, and the file it tries a directory with
	"4913",
	".#*", `\#*\#`, "*~", // Emacs's locks and copies; backups
	".*.kate-swp", ".goutputstream-*", "___jb_tmp___", "___jb_old___",
	".~lock.*#",
	".DS_Store", "._*", ".Spotlight-V100/", ".Trashes/", ".fseventsd/",
	"Thumbs.db", "desktop.ini",
	".nfs????????*", ".fuse_hidden*", // deleted, and still open somewhere
}

// Names of our own on either side, which no line takes back.
const (
	// guestDir is in the root of the guest's copy: its identity, and what is
	// not whole yet.
	guestDir = ".hostctl-mirror"
	// tempPrefix is what the host's files begin with that are not whole yet.
	tempPrefix = ".hostctl-tmp-"
)

// Matcher decides what is left out.
type Matcher struct{ lines watch.Matcher }

// NewMatcher takes lines of a .gitignore, which come after [DefaultIgnore].
func NewMatcher(lines []string) Matcher {
	return Matcher{watch.Ignore(slices.Concat(DefaultIgnore, lines)...)}
}

// Match reports whether the path itself is left out. That its directories are
// not is for the caller to know: what is in a directory that is left out
// cannot be taken back, as in Git.
func (m Matcher) Match(p string, isDir bool) bool {
	name := p[len(parent(p)):]
	if name[0] == '/' {
		name = name[1:]
	}
	return p == guestDir || strings.HasPrefix(name, tempPrefix) || m.lines.Match(p, isDir)
}
