package events

import (
	"strings"

	"github.com/go-git/go-git/v5/plumbing/format/gitignore"

	"github.com/hostctl/hostctl/sync/watch"
)

// stateDir is hostctl's own, where the machine file is: what it writes there
// would be told, noted there, and told.
const stateDir = ".hostctl/"

// Ignore returns what guests are not told of: lines of a .gitignore, and
// hostctl's own files.
func Ignore(lines []string) watch.Matcher {
	patterns := []gitignore.Pattern{}
	for _, line := range lines {
		line = strings.TrimRight(line, "\r\n")
		if strings.TrimSpace(line) != "" && !strings.HasPrefix(line, "#") {
			patterns = append(patterns, gitignore.ParsePattern(line, nil))
		}
	}
	patterns = append(patterns, gitignore.ParsePattern(stateDir, nil))
	return matcher{gitignore.NewMatcher(patterns)}
}

type matcher struct{ gitignore.Matcher }

// Match is for [watch.Matcher], which asks about folders before what is in them.
func (m matcher) Match(path string, dir bool) bool {
	return m.Matcher.Match(strings.Split(path, "/"), dir)
}
