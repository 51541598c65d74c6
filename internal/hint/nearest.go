package hint

import (
	"slices"
	"strings"
)

// Nearest returns the name that was probably meant by given, or "": of those that
// differ in at most two, and in no more than a third of their characters, the one that differs least, and the
// first in the alphabet of several such. Upper case is no difference.
func Nearest(given string, names []string) string {
	best, least := "", 0
	for _, name := range slices.Sorted(slices.Values(names)) {
		a, b := []rune(strings.ToLower(given)), []rune(strings.ToLower(name))
		d := distance(a, b)
		if d <= 2 && 3*d <= max(len(a), len(b)) && (best == "" || d < least) {
			best, least = name, d
		}
	}
	return best
}

// distance counts the characters that are to be put in, taken out or replaced to
// make b of a, or swapped with the next (the optimal string alignment distance).
func distance(a, b []rune) int {
	var before, above []int
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range a {
		before, above, row = above, row, make([]int, len(b)+1)
		row[0] = i + 1
		for j := range b {
			replaced := above[j]
			if a[i] != b[j] {
				replaced++
			}
			row[j+1] = min(above[j+1]+1, row[j]+1, replaced)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				row[j+1] = min(row[j+1], before[j-1]+1)
			}
		}
	}
	return row[len(b)]
}
