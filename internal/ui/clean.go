package ui

import (
	"regexp"
	"strings"
	"sync"
	"unicode"
)

// escapeSequence matches the control functions of ECMA-48 in their 7-bit
// form: control sequences, control strings (which end with the line at the
// latest, so that a cut-off one takes no more with it), and other escapes.
// Compiled at first use: most commands show no foreign text.
var escapeSequence = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`\x1b(?:\[[0-?]*[ -/]*[@-~]?|[\]PX^_][^\x07\x1b\n]*(?:\x07|\x1b\\)?|[ -/]*[0-~]?)`)
})

var lineEnd = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`\r+\n`) })

// clean makes foreign text harmless and legible on a terminal: lines end in
// "\n", tabs are spaces, and what is left are printable characters only.
// Escape sequences go with their parameters; so do C1 controls, which some
// terminals obey, and the direction marks of Unicode, which can make a line
// read as another. Invalid UTF-8 becomes U+FFFD.
func clean(s string) string {
	if isClean(s) {
		return s
	}
	s = escapeSequence().ReplaceAllString(s, "")
	// A carriage return alone starts over on the same line. Nothing shall be
	// lost, so a new line it is. Consoles end lines with several.
	s = lineEnd().ReplaceAllString(s, "\n")
	var b strings.Builder
	column := 0
	for _, r := range s {
		switch {
		case r == '\n' || r == '\r':
			b.WriteByte('\n')
			column = 0
		case r == '\t':
			n := 8 - column%8
			b.WriteString(strings.Repeat(" ", n))
			column += n
		case unicode.IsGraphic(r):
			b.WriteRune(r)
			column++
		}
	}
	return b.String()
}

func isClean(s string) bool {
	for _, r := range s {
		if r != '\n' && !unicode.IsGraphic(r) || r == unicode.ReplacementChar {
			return false
		}
	}
	return true
}

// line is clean for where there is room for one line.
func line(s string) string {
	return strings.ReplaceAll(strings.TrimSpace(clean(s)), "\n", " ")
}
