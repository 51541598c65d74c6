package hint

import (
	"slices"
	"strings"
	"unicode/utf8"

	edlib "github.com/hbollon/go-edlib"
)

// Nearest returns the name that was probably meant by given, or "": of those that
// differ in at most two, and in no more than a third of their characters, the one that
// differs least, and the first in the alphabet of several such. Two characters that are
// swapped are one difference, and upper case is none.
func Nearest(given string, names []string) string {
	best, least := "", 0
	for _, name := range slices.Sorted(slices.Values(names)) {
		a, b := strings.ToLower(given), strings.ToLower(name)
		d := edlib.OSADamerauLevenshteinDistance(a, b)
		if d <= 2 && 3*d <= max(utf8.RuneCountInString(a), utf8.RuneCountInString(b)) && (best == "" || d < least) {
			best, least = name, d
		}
	}
	return best
}
