package ui

import (
	"bytes"
	"io"
)

// Render prints to Stderr what render writes, in one piece. It is told how
// wide lines may be (0: as wide as they are) and whether colours are seen.
func (u *UI) Render(render func(w io.Writer, width int, color bool) error) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.settle()
	width, _, _ := u.opt.Terminal(u.opt.Stderr)
	var b bytes.Buffer
	err := render(&b, width, bool(u.palette(u.opt.Stderr)))
	u.talk(b.Bytes())
	return err
}

// Foreign returns a writer to w for text from elsewhere, such as a guest's
// console. On a terminal each line is stripped of what the terminal would
// obey, once it is complete; the rest is written by Close. Elsewhere the text
// stays as it is.
func (u *UI) Foreign(w io.Writer) io.WriteCloser {
	return &foreign{w: w, clean: u.IsTerminal(w)}
}

type foreign struct {
	w     io.Writer
	clean bool
	rest  []byte // the beginning of a line
}

func (f *foreign) Write(p []byte) (int, error) {
	if !f.clean {
		return f.w.Write(p)
	}
	f.rest = append(f.rest, p...)
	end := bytes.LastIndexByte(f.rest, '\n') + 1
	if end == 0 {
		return len(p), nil
	}
	_, err := io.WriteString(f.w, clean(string(f.rest[:end])))
	f.rest = append(f.rest[:0], f.rest[end:]...)
	return len(p), err
}

func (f *foreign) Close() error {
	_, err := io.WriteString(f.w, clean(string(f.rest)))
	f.rest = nil
	return err
}
