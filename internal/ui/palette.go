package ui

// Tone is what a piece of text means; the colour follows from it.
type Tone int

// Tones. The zero value is text in the terminal's own colour.
const (
	Plain Tone = iota
	Strong
	Faint
	Good
	Caution
	Bad
)

// Only the eight basic colours and attributes: they follow the user's theme,
// and are legible on dark and light backgrounds.
var sgr = [...]string{Strong: "1", Faint: "2", Good: "32", Caution: "33", Bad: "31"}

// palette paints when it is true.
type palette bool

func (p palette) paint(t Tone, s string) string {
	if !p || t == Plain || s == "" {
		return s
	}
	return "\x1b[" + sgr[t] + "m" + s + "\x1b[0m"
}
