package ui

import (
	"os"

	"golang.org/x/term"
)

// terminal is the real [Options.Terminal].
func terminal(stream any) (width, height int, ok bool) {
	f, ok := stream.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return 0, 0, false
	}
	// A terminal that does not tell its size, such as a serial line or, on
	// Windows, the input side of a console, is a terminal all the same.
	width, height, err := term.GetSize(int(f.Fd()))
	if err != nil || width <= 0 || height <= 0 {
		width, height = 80, 24
	}
	return width, height, enableEscapes(f)
}
