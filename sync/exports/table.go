package exports

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// entry is a folder in one of Linux's tables of exports.
type entry struct {
	line    int // the first is 1
	path    string
	clients []client
}

// exports reports whether the folder is exported to whom the name is of.
func (e entry) exports(path, name string) bool {
	return e.path == path && slices.ContainsFunc(e.clients, func(c client) bool { return c.name == name })
}

type client struct {
	name    string // a host, a network, a pattern; "" is everybody
	options []string
}

// Mistake is a line that is wrong in a table of exports.
type Mistake struct {
	File string `json:"file"`
	Line int    `json:"line"` // the first is 1; 0 where it is not known
	What string `json:"what"`
	// Stops says that the server reads no further: what is below is not exported.
	Stops bool `json:"stops"`
}

func (m *Mistake) Error() string {
	if m.Line == 0 {
		return fmt.Sprintf("%s: %s", m.File, m.What)
	}
	return fmt.Sprintf("%s:%d: %s", m.File, m.Line, m.What)
}

// parseTable reads a table as exportfs of nfs-utils 2.6 does (exports(5), and
// what the program was seen to do). It goes on after a mistake, with the next
// line, where exportfs may not.
func parseTable(file string, data []byte) ([]entry, []*Mistake) {
	p := &parser{file: file, data: data, line: 1}
	var entries []entry
	for p.skip(true); !p.done(); p.skip(true) {
		if e, ok := p.entry(); ok {
			entries = append(entries, e)
		} else {
			p.nextLine()
		}
	}
	return entries, p.mistakes
}

type parser struct {
	file     string
	data     []byte
	pos      int
	line     int // of data[pos]
	mistakes []*Mistake
}

func (p *parser) done() bool { return p.pos >= len(p.data) }

func (p *parser) mistake(line int, stops bool, format string, args ...any) {
	p.mistakes = append(p.mistakes, &Mistake{File: p.file, Line: line, Stops: stops, What: fmt.Sprintf(format, args...)})
}

// peek returns the next character and its length: a backslash at a line's end and
// the blanks after it are one blank.
func (p *parser) peek() (c byte, length int) {
	if !strings.HasPrefix(string(p.data[p.pos:min(len(p.data), p.pos+2)]), "\\\n") {
		return p.data[p.pos], 1
	}
	length = 2
	for p.pos+length < len(p.data) && (p.data[p.pos+length] == ' ' || p.data[p.pos+length] == '\t') {
		length++
	}
	return ' ', length
}

func (p *parser) advance(length int) {
	p.line += strings.Count(string(p.data[p.pos:p.pos+length]), "\n")
	p.pos += length
}

// skip goes to the next word of the line, or of the file.
func (p *parser) skip(lines bool) {
	for !p.done() {
		switch c, n := p.peek(); {
		case c == ' ' || c == '\t' || c == '\n' && lines:
			p.advance(n)
		case c == '#': // to the line's end, whatever stands there
			for !p.done() && p.data[p.pos] != '\n' {
				p.pos++
			}
		default:
			return
		}
	}
}

// nextLine leaves the rest of a line that is wrong.
func (p *parser) nextLine() {
	for !p.done() {
		c, n := p.peek()
		p.advance(n)
		if c == '\n' {
			return
		}
	}
}

// word reads up to a blank: quotes hide blanks, and \040 is the character of that
// octal number. It is false, with the mistake noted, where exportfs stops.
func (p *parser) word() (string, bool) {
	var out []byte
	start, quoted := p.line, false
	for !p.done() {
		c, n := p.peek()
		if c == '\n' && quoted {
			p.mistake(start, true, "a quote is not closed")
			return "", false
		}
		if !quoted && space(c) {
			if c != '\n' && c != ' ' && c != '\t' && c != '\r' {
				p.mistake(start, true, "a control character between words")
				return "", false
			}
			break
		}
		p.advance(n)
		if c == '"' {
			quoted = !quoted
			continue
		}
		out = append(out, c)
		// As exportfs does it: the backslash may be one that was itself an
		// octal number. See octal.
		if i := len(out) - 4; i >= 0 && out[i] == '\\' {
			if v, err := strconv.ParseUint(string(out[i+1:]), 8, 8); err == nil {
				out = append(out[:i], byte(v))
			}
		}
	}
	switch {
	case quoted:
		p.mistake(start, true, "a quote is not closed")
		return "", false
	case len(out) == 0:
		p.mistake(start, true, "an empty word")
		return "", false
	case slices.Contains(out, 0):
		p.mistake(start, true, `\000 ends a word`)
		return "", false
	}
	if !p.done() && p.data[p.pos] == '\r' {
		p.pos++ // a file with Windows' line ends is read all the same
	}
	return string(out), true
}

func space(c byte) bool { return c == ' ' || c >= '\t' && c <= '\r' }

// entry reads a folder and whom it is exported to.
func (p *parser) entry() (entry, bool) {
	e := entry{line: p.line}
	var ok bool
	if e.path, ok = p.word(); !ok {
		return e, false
	}
	if !strings.HasPrefix(e.path, "/") {
		p.mistake(e.line, false, "%q is not an absolute path", e.path)
	}
	var defaults []string
	for {
		p.skip(false)
		if p.done() || p.data[p.pos] == '\n' {
			return e, true
		}
		line := p.line
		word, ok := p.word()
		if !ok {
			return e, false
		}
		if list, ok := strings.CutPrefix(word, "-"); ok {
			options, ok := p.options(line, list)
			if !ok {
				return e, false
			}
			defaults = append(slices.Clip(defaults), options...)
			continue
		}
		c := client{options: defaults}
		name, list, found := strings.Cut(word, "(")
		c.name = name
		if found {
			list, rest, closed := strings.Cut(list, ")")
			if !closed || rest != "" {
				p.mistake(line, true, "bad option list in %q", word)
				return e, false
			}
			options, ok := p.options(line, list)
			if !ok {
				return e, false
			}
			c.options = slices.Concat(defaults, options)
			if name == "" {
				p.mistake(line, false, "a blank before (%s) exports to everybody", list)
			}
		}
		if what := badNetwork(name); what != "" {
			p.mistake(line, false, "%s", what)
		}
		e.clients = append(e.clients, c)
	}
}

// options reads a list of them.
func (p *parser) options(line int, list string) ([]string, bool) {
	if list == "" {
		return nil, true
	}
	options := strings.Split(list, ",")
	for _, o := range options {
		if what := badOption(o); what != "" {
			p.mistake(line, true, "%s", what)
			return nil, false
		}
	}
	return options, true
}

// flags are the options without a value, up to nfs-utils 2.8.
var flags = []string{
	"ro", "rw", "hide", "nohide", "crossmnt", "nocrossmnt", "wdelay", "no_wdelay", "sync", "async", "secure", "insecure",
	"root_squash", "no_root_squash", "all_squash", "no_all_squash", "subtree_check", "no_subtree_check", "auth_nlm", "no_auth_nlm",
	"secure_locks", "insecure_locks", "acl", "no_acl", "rdirplus", "nordirplus", "pnfs", "no_pnfs", "security_label",
	"mountpoint", "mp", "map_identity", "",
}

// valued are those with one.
var valued = []string{"mountpoint", "mp", "fsid", "anonuid", "anongid", "refer", "replicas", "sec", "xprtsec", "reexport",
	"squash_uids", "squash_gids"}

// badOption says what is wrong with an option, or "".
func badOption(o string) string {
	name, value, has := strings.Cut(o, "=")
	switch {
	case !has && slices.Contains(flags, name):
	case !has || !slices.Contains(valued, name):
		return fmt.Sprintf("unknown option %q", o)
	case name == "anonuid" || name == "anongid":
		if _, err := strconv.ParseInt(value, 10, 64); err != nil {
			return fmt.Sprintf("%q is not a number", o)
		}
	case name == "fsid":
		if _, err := strconv.ParseUint(value, 0, 32); err != nil && value != "root" && !looksLikeUUID(value) {
			return fmt.Sprintf("%q is neither a number nor a UUID", o)
		}
	}
	return ""
}

// looksLikeUUID takes what exportfs takes: 32 hexadecimal digits with anything
// that is none between them.
func looksLikeUUID(s string) bool {
	n := 0
	for _, c := range s {
		if strings.ContainsRune("0123456789abcdefABCDEF", c) {
			n++
		}
	}
	return n == 32
}

// badNetwork says what is wrong with an address and mask, or "".
func badNetwork(name string) string {
	left, right, found := strings.Cut(name, "/")
	addr, err := netip.ParseAddr(left)
	if !found || err != nil {
		return ""
	}
	if bits, err := strconv.Atoi(right); err == nil && bits >= 0 && bits <= addr.BitLen() {
		return ""
	}
	if mask, err := netip.ParseAddr(right); err == nil && mask.Is4() && addr.Is4() {
		return ""
	}
	return fmt.Sprintf("%q has no such network mask", name)
}
