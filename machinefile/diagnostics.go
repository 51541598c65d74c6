package machinefile

import (
	"bytes"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
	"unicode"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/hashicorp/hcl/v2/hclwrite"
	"github.com/mattn/go-runewidth"
	"github.com/mitchellh/go-wordwrap"
)

// Source holds the texts that diagnostics point into: the machine file, files
// of variables, and values from the command line and the environment.
type Source struct {
	files map[string]*hcl.File
}

func newSource() *Source { return &Source{files: map[string]*hcl.File{}} }

// parse keeps a file's text and returns its body, which holds what could be
// read even when there are errors.
func (s *Source) parse(name string, text []byte) (*hclsyntax.Body, hcl.Diagnostics) {
	file, diags := hclsyntax.ParseConfig(text, name, hcl.InitialPos)
	s.files[name] = file
	sortDiagnostics(diags, name)
	// Without its closing quote, a text ends at the next one: what follows is
	// read inside out, and HCL complains about every line.
	if i := slices.IndexFunc(diags, func(d *hcl.Diagnostic) bool { return d.Summary == "Invalid multi-line string" }); i >= 0 {
		diags = diags[:i+1]
	}
	for _, d := range diags {
		if d.Summary == "Missing newline after argument" && d.Context != nil {
			if m := unquoted.FindSubmatch(d.Context.SliceBytes(text)); m != nil {
				d.Detail = fmt.Sprintf("A value with a unit, and any other text, must be in quotes: %s = %s.", m[1], quote(string(m[2])))
			}
		}
	}
	return file.Body.(*hclsyntax.Body), diags
}

// unquoted is an argument such as memory = 1GiB, which HCL takes for a number with
// something after it.
var unquoted = regexp.MustCompile(`^([a-z_]+)\s*=\s*([0-9.]+[^\s"]+)$`)

// add keeps a text that is in no file, and returns its range.
func (s *Source) add(name, text string) hcl.Range {
	s.files[name] = &hcl.File{Bytes: []byte(text)}
	end := hcl.InitialPos
	end.Byte = len(text)
	end.Column = len([]rune(text)) + 1
	return hcl.Range{Filename: name, Start: hcl.InitialPos, End: end}
}

// WriteDiagnostics writes each diagnostic as Terraform users know it, with its
// place, the line of source and the span marked by carets:
//
//	Error: Invalid size
//
//	  on machine.hcl line 4, in machine "core":
//	   4:   memory = "1GB"
//	                 ^^^^^
//
//	memory must be a size such as "1GiB" ...
//
// width is the column where advice is wrapped; 0 means never. HCL's own writer
// marks the span with escape sequences alone, which logs and pipes lose.
func WriteDiagnostics(w io.Writer, src *Source, diags hcl.Diagnostics, width int, color bool) error {
	var text strings.Builder
	for _, d := range diags {
		src.render(&text, d, width, color)
	}
	if _, err := io.WriteString(w, text.String()); err != nil {
		return fmt.Errorf("write diagnostics: %w", err)
	}
	return nil
}

// render writes one diagnostic. A nil source has no texts.
func (s *Source) render(w *strings.Builder, d *hcl.Diagnostic, width int, color bool) {
	severity, paint := "Error", "\x1b[31m"
	if d.Severity == hcl.DiagWarning {
		severity, paint = "Warning", "\x1b[33m"
	}
	reset := "\x1b[0m"
	if !color {
		paint, reset = "", ""
	}
	fmt.Fprintf(w, "%s%s%s: %s\n\n", paint, severity, reset, printable(d.Summary))
	if d.Subject != nil {
		gutter := s.place(w, d.Subject)
		if line, before, span, ok := s.snippet(d.Subject); ok {
			carets := strings.Repeat("^", max(1, runewidth.StringWidth(span)))
			fmt.Fprintf(w, "%s%s\n%s%s%s%s%s\n", gutter, line, strings.Repeat(" ", len(gutter)), blank(before), paint, carets, reset)
		}
		w.WriteString("\n")
		if d.Expression != nil && d.EvalContext != nil {
			if facts := facts(d.Expression, d.EvalContext); len(facts) > 0 {
				fmt.Fprintf(w, "with %s.\n\n", printable(list(facts, "and")))
			}
		}
	}
	if d.Detail != "" {
		detail := printable(d.Detail)
		if width > 0 {
			detail = wordwrap.WrapString(detail, uint(width))
		}
		fmt.Fprintf(w, "%s\n\n", detail)
	}
}

// place writes where subject is and returns what the line of source starts
// with: its number, when it is a line of a file.
func (s *Source) place(w *strings.Builder, subject *hcl.Range) (gutter string) {
	var file *hcl.File
	if s != nil {
		file = s.files[subject.Filename]
	}
	if file != nil && file.Body == nil {
		fmt.Fprintf(w, "  in %s:\n", printable(subject.Filename))
		return "    "
	}
	fmt.Fprintf(w, "  on %s line %d", printable(subject.Filename), subject.Start.Line)
	if file != nil {
		if nav, ok := file.Nav.(interface{ ContextString(offset int) string }); ok {
			if block := nav.ContextString(subject.Start.Byte); block != "" {
				fmt.Fprintf(w, ", in %s", printable(block))
			}
		}
	}
	w.WriteString(":\n")
	return fmt.Sprintf("%4d: ", subject.Start.Line)
}

// snippet returns the line where subject starts, and what of that line is
// before and in the span.
func (s *Source) snippet(subject *hcl.Range) (line, before, span string, ok bool) {
	if s == nil || s.files[subject.Filename] == nil {
		return "", "", "", false
	}
	text := s.files[subject.Filename].Bytes
	start := subject.Start.Byte
	if start > len(text) {
		return "", "", "", false
	}
	first := bytes.LastIndexByte(text[:start], '\n') + 1
	last := len(text)
	if n := bytes.IndexByte(text[start:], '\n'); n >= 0 {
		last = start + n
	}
	end := min(max(subject.End.Byte, start), last)
	return printable(strings.TrimRight(string(text[first:last]), "\r")),
		printable(string(text[first:start])),
		printable(strings.TrimRight(string(text[start:end]), "\r")), true
}

// facts tells the simple values that expr refers to: the same expression has
// other values in each machine of a block.
func facts(expr hcl.Expression, ctx *hcl.EvalContext) []string {
	var facts []string
	for _, ref := range expr.Variables() {
		v, diags := ref.TraverseAbs(ctx)
		if diags.HasErrors() || !v.IsKnown() || v.IsNull() || !v.Type().IsPrimitiveType() {
			continue
		}
		fact := string(hclwrite.TokensForTraversal(ref).Bytes()) + " = " + string(hclwrite.TokensForValue(v).Bytes())
		if !slices.Contains(facts, fact) {
			facts = append(facts, fact)
		}
	}
	return facts
}

// printable replaces control characters: a machine file must not steer the
// terminal of its reader.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) && r != '\n' && r != '\t' {
			return '?'
		}
		return r
	}, text)
}

// blank returns white space as wide as text.
func blank(text string) string {
	var b strings.Builder
	for _, r := range text {
		if r == '\t' {
			b.WriteByte('\t')
			continue
		}
		b.WriteString(strings.Repeat(" ", runewidth.RuneWidth(r)))
	}
	return b.String()
}
