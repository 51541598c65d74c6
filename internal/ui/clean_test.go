package ui

import (
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

func TestClean(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"":                                 "",
		"größer 機 ✓":                       "größer 機 ✓",
		"a\nb":                             "a\nb",
		"a\r\nb\r\n":                       "a\nb\n",
		"50%\r100%":                        "50%\n100%",
		"a\tb\n\tc":                        "a       b\n        c",
		"[\x1b[0;1;32m  OK  \x1b[0m] done": "[  OK  ] done",
		"\x1b[?25l\x1b[2J\x1b[1;1Hx\x1b[38;2;1;2;3my": "xy",
		"\x1b]0;title\x07x":                           "x",
		"\x1b]8;;http://h/\x1b\\link\x1b]8;;\x1b\\":   "link",
		"\x1bP1$r0m\x1b\\x":                           "x",
		"\x1b]52;c;cut off\nnext":                     "\nnext",
		"\x1b(B\x1b=\x1bMx\x1bc":                      "x",
		"\x1b[31":                                     "",
		"x\x1b":                                       "x",
		"\u009b31mred":                                "31mred",
		"\xffx\x9b1m":                                 "\ufffdx\ufffd1m",
		"a\x00\x07\x08\x0e\x7fb":                      "ab",
		"user\u202egpj.exe \u200b\u2066":              "usergpj.exe ",
		"\x1b\x1b[31mx":                               "x",
		"\x1b[\x1b[31mx":                              "x",
	} {
		if got := clean(in); got != want {
			t.Errorf("clean(%q) = %q, want %q", in, got, want)
		}
	}
}

func FuzzClean(f *testing.F) {
	for _, s := range []string{"plain", "\x1b[31mred\x1b[0m", "\x1b]0;t\x07", "\x1b[\x1b[", "\u009b2J", "a\r\tb\xff", "\x1bP\x1b\x1b\\"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got := clean(s)
		if !utf8.ValidString(got) {
			t.Errorf("clean(%q) = %q is not UTF-8", s, got)
		}
		for _, r := range got {
			if r != '\n' && !unicode.IsGraphic(r) {
				t.Errorf("clean(%q) = %q has %q", s, got, r)
			}
		}
		if clean(got) != got {
			t.Errorf("clean(%q) = %q is not clean yet", s, got)
		}
		if strings.Contains(line(s), "\n") {
			t.Errorf("line(%q) = %q is several", s, line(s))
		}
		if !strings.Contains(s, "\x1b") && strings.Count(got, "\n") < strings.Count(s, "\n") {
			t.Errorf("clean(%q) = %q lost a line", s, got)
		}
	})
}
