package watch

import (
	"strings"

	"github.com/go-git/go-git/v5/plumbing/format/gitignore"
)

// Ignore returns what lines of a .gitignore leave alone.
func Ignore(lines ...string) Matcher {
	var patterns []gitignore.Pattern
	for _, line := range lines {
		line = strings.TrimRight(line, "\r\n")
		if strings.TrimSpace(line) != "" && !strings.HasPrefix(line, "#") {
			patterns = append(patterns, gitignore.ParsePattern(line, nil))
		}
	}
	return ignore{gitignore.NewMatcher(patterns)}
}

type ignore struct{ gitignore.Matcher }

// Match implements [Matcher], whose caller asks about folders before what is in
// them.
func (i ignore) Match(path string, dir bool) bool {
	return i.Matcher.Match(strings.Split(path, "/"), dir)
}
