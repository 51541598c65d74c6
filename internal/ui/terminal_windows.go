package ui

import (
	"os"

	"golang.org/x/sys/windows"
)

// enableEscapes makes the console obey escape sequences, which it has done
// since Windows 10 1511 when asked. Shells set the mode anew after each
// program, so it is not restored. Input needs nothing.
func enableEscapes(f *os.File) bool {
	var mode uint32
	h := windows.Handle(f.Fd())
	if f == os.Stdin || windows.GetConsoleMode(h, &mode) != nil {
		return true
	}
	const vt = windows.ENABLE_VIRTUAL_TERMINAL_PROCESSING
	return mode&vt != 0 || windows.SetConsoleMode(h, mode|vt) == nil
}
