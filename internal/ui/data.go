package ui

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"
)

// Column describes a column of a [UI.Table].
type Column struct {
	Name  string
	Right bool                   // numbers
	Tone  func(cell string) Tone // nil: Plain
}

// Table prints rows to Stdout, with a line of the columns' names on top. The
// layout is the same in a pipe: columns parted by at least two spaces.
func (u *UI) Table(columns []Column, rows [][]string) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.settle()
	p := u.palette(u.opt.Stdout)

	t := table.NewWriter()
	style := table.Style{Name: "hostctl", Box: table.StyleBoxDefault, Options: table.OptionsNoBordersAndSeparators}
	style.Box.PaddingLeft, style.Box.PaddingRight = "", "  "
	t.SetStyle(style)
	t.SuppressTrailingSpaces()

	header := make(table.Row, len(columns))
	configs := make([]table.ColumnConfig, len(columns))
	for i, c := range columns {
		header[i] = p.paint(Faint, c.Name)
		configs[i].Number = i + 1
		if c.Right {
			configs[i].Align, configs[i].AlignHeader = text.AlignRight, text.AlignRight
		}
	}
	t.SetColumnConfigs(configs)
	t.AppendHeader(header)
	for _, cells := range rows {
		row := make(table.Row, len(cells))
		for i, cell := range cells {
			cell = line(cell)
			if tone := columns[i].Tone; tone != nil {
				row[i] = p.paint(tone(cell), cell)
			} else {
				row[i] = cell
			}
		}
		t.AppendRow(row)
	}
	_, err := io.WriteString(u.opt.Stdout, t.Render()+"\n")
	return err
}

// JSON prints v to Stdout, indented.
func (u *UI) JSON(v any) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.settle()
	return writeJSON(u.opt.Stdout, v, "  ")
}

// writeJSON writes v and a newline in one piece.
func writeJSON(w io.Writer, v any, indent string) error {
	var b strings.Builder
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", indent)
	if err := enc.Encode(v); err != nil {
		return err
	}
	_, err := io.WriteString(w, escapeControls(b.String()))
	return err
}

// escapeControls escapes what encoding/json leaves as it is although terminals
// may obey it: DEL and the C1 controls. In JSON they occur in strings only, so
// the value stays the same.
func escapeControls(s string) string {
	isControl := func(r rune) bool { return r >= 0x7f && r <= 0x9f }
	if strings.IndexFunc(s, isControl) < 0 {
		return s
	}
	var b strings.Builder
	for _, r := range s {
		if isControl(r) {
			fmt.Fprintf(&b, `\u%04x`, r)
		} else {
			b.Write(utf8.AppendRune(nil, r))
		}
	}
	return b.String()
}
