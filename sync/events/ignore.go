package events

import (
	"slices"

	"github.com/hostctl/hostctl/sync/watch"
)

// stateDir is hostctl's own, where the machine file is: what it writes there
// would be told, noted there, and told.
const stateDir = ".hostctl/"

// ignored is what guests are not told of: lines of a .gitignore, and hostctl's own
// files.
func ignored(lines []string) watch.Matcher {
	return watch.Ignore(slices.Concat(lines, []string{stateDir})...)
}
