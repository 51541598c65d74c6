package exports

import (
	"bytes"
	"fmt"
	"regexp"
	"strconv"
)

// marker is a line that begins or ends a project's section. What stands behind
// the word is for people.
var marker = regexp.MustCompile(`^# hostctl ([0-9a-f]{12}) uid ([0-9]+) (begin|end)\b`)

// section is a project's part of a file: data[from:to], whole lines.
type section struct {
	from, to int
	line     int // of its begin; the first is 1
	uid      int
}

// has reports whether a line of data is in the section.
func (s *section) has(data []byte, line int) bool {
	return line >= s.line && line < s.line+bytes.Count(data[s.from:s.to], []byte("\n"))
}

// findSection returns the project's section, nil where there is none. Markers
// that do not pair, of whichever project, are a mistake that a person has to mend:
// nobody could say which lines are whose.
func findSection(file string, data []byte, project string) (*section, *Mistake) {
	var found *section
	var open []byte // the begin that waits for its end
	from, uid, number, pos := 0, 0, 0, 0
	openLine := 0
	for line := range bytes.Lines(data) {
		number++
		start := pos
		pos += len(line)
		m := marker.FindSubmatch(line)
		if m == nil {
			continue
		}
		wrong := func(what string) *Mistake {
			return &Mistake{File: file, Line: number, What: fmt.Sprintf("hostctl's section %s %s", m[1], what)}
		}
		id := []byte(string(m[1]) + " " + string(m[2]))
		if string(m[3]) == "begin" {
			if open != nil {
				return nil, wrong("begins inside another")
			}
			n, err := strconv.Atoi(string(m[2]))
			if err != nil {
				return nil, wrong("has no uid")
			}
			open, openLine, from, uid = id, number, start, n
			continue
		}
		if !bytes.Equal(open, id) {
			return nil, wrong("ends without having begun")
		}
		open = nil
		if string(m[1]) != project {
			continue
		}
		if found != nil {
			return nil, wrong("is there twice")
		}
		found = &section{from: from, to: pos, line: openLine, uid: uid}
	}
	if open != nil {
		return nil, &Mistake{File: file, Line: openLine, What: fmt.Sprintf("hostctl's section %s does not end", open[:12])}
	}
	return found, nil
}

// withSection returns data with b in place of s, or at the end where s is nil. A
// block without lines is left out.
func withSection(data []byte, s *section, b block) []byte {
	var text []byte
	if len(b.lines) > 0 {
		text = []byte(b.String())
	}
	if s != nil {
		return bytes.Join([][]byte{data[:s.from], text, data[s.to:]}, nil)
	}
	if len(text) > 0 && len(data) > 0 && data[len(data)-1] != '\n' {
		text = append([]byte("\n"), text...)
	}
	return bytes.Join([][]byte{data, text}, nil)
}
