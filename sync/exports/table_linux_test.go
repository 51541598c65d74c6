package exports

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// tables are what people write, what hostctl finds wrong in it, and where exportfs
// reads no further.
var tables = map[string]struct {
	text string
	want []string // mistakes; "!" first: exportfs stops there
}{
	"well":              {text: "/home/a 10.0.0.0/8(rw,sync,no_subtree_check) 10.1.0.1\n"},
	"comments":          {text: "# a comment \\\n/home/a 10.0.0.1(rw) # and \"another\n\n  # x\n\t/home/b 10.0.0.1(ro)"},
	"continued":         {text: "/home/a \\\n   10.0.0.1(rw) \\\n\t10.0.0.2(ro)\n"},
	"quoted and octal":  {text: "\"/home/a b\" 10.0.0.1(rw)\n/home/a\\040b 10.0.0.2(rw)\n"},
	"windows line ends": {text: "/home/a 10.0.0.1(rw)\r\n/home/b 10.0.0.1(ro)\r\n"},
	"default options":   {text: "/home/a -rw,sync 10.0.0.1 10.0.0.2(ro)\n"},
	"mask":              {text: "/home/a 10.0.0.0/255.0.0.0(rw) fd00::/64(ro) *(ro) @group(ro)\n"},
	"numbers":           {text: "/home/a 10.0.0.1(rw,anonuid=-2,anongid=1000,fsid=0,sec=sys:krb5) 10.0.0.2(fsid=root)\n"},
	"unknown option": {
		text: "/home/a 10.0.0.1(rw)\n/home/b 10.0.0.1(rw,no_rootsquash)\n",
		want: []string{`!/etc/exports:2: unknown option "no_rootsquash"`},
	},
	"unknown default": {
		text: "/home/a -rx 10.0.0.1\n", want: []string{`!/etc/exports:1: unknown option "rx"`},
	},
	"in a continued line": {
		text: "/home/a 10.0.0.1(rw) \\\n 10.0.0.2(rx)\n", want: []string{`!/etc/exports:2: unknown option "rx"`},
	},
	"open list": {
		text: "/home/a 10.0.0.1(rw\n/home/b 10.0.0.1(rw)\n", want: []string{`!/etc/exports:1: bad option list in "10.0.0.1(rw"`},
	},
	"blank in a list": {
		text: "/home/a 10.0.0.1(rw, sync)\n", want: []string{`!/etc/exports:1: bad option list in "10.0.0.1(rw,"`},
	},
	"after a list": {
		text: "/home/a 10.0.0.1(rw)# no\n", want: []string{`!/etc/exports:1: bad option list in "10.0.0.1(rw)#"`},
	},
	"uid": {
		text: "/home/a 10.0.0.1(anonuid=alice)\n", want: []string{`!/etc/exports:1: "anonuid=alice" is not a number`},
	},
	"fsid": {
		text: "/home/a 10.0.0.1(fsid=home)\n", want: []string{`!/etc/exports:1: "fsid=home" is neither a number nor a UUID`},
	},
	"blank before the list": {
		text: "/home/a 10.0.0.1 (rw)\n", want: []string{"/etc/exports:1: a blank before (rw) exports to everybody"},
	},
	"relative": {
		text: "home/a 10.0.0.1(rw)\n/home/b 10.0.0.1(rw)\n", want: []string{`/etc/exports:1: "home/a" is not an absolute path`},
	},
	"no such mask": {
		text: "/home/a 10.0.0.0/33(rw)\n/home/b 10.0.0.1(rw)\n", want: []string{`/etc/exports:1: "10.0.0.0/33" has no such network mask`},
	},
	"two of them": {
		text: "/home/a 10.0.0.1(rx)\n/home/b 10.0.0.1(ry)\n",
		want: []string{`!/etc/exports:1: unknown option "rx"`, `!/etc/exports:2: unknown option "ry"`},
	},
}

func TestMistakes(t *testing.T) {
	t.Parallel()
	for name, c := range tables {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, mistakes := parseTable(tableFile, []byte(c.text))
			var got []string
			for _, m := range mistakes {
				stops := ""
				if m.Stops {
					stops = "!"
				}
				got = append(got, stops+m.Error())
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
	for name, text := range map[string]string{
		"a quote is not closed":             "\"/home/a 10.0.0.1(rw)\n/home/b 10.0.0.1(rw)\n",
		"an empty word":                     "\"\" 10.0.0.1(rw)\n",
		"a control character between words": "/home/a\v10.0.0.1(rw)\n",
		`\000 ends a word`:                  "/home/a\\000b 10.0.0.1(rw)\n",
	} {
		if _, m := parseTable(tableFile, []byte(text)); len(m) == 0 || m[0].What != name || !m[0].Stops || m[0].Line != 1 {
			t.Errorf("%q: %v, want %q", text, m, name)
		}
	}
}

// What is said of tables is what the real exportfs makes of them: it names the
// line where it stops, and exports what was read of the others.
func TestTablesByExportfs(t *testing.T) {
	needLab(t)
	folder(t, 0, "a")
	folder(t, 0, "b")
	folder(t, 0, "a b")
	for name, c := range tables {
		write(t, tableFile, c.text)
		write(t, liveTable, "")
		out, _ := runExportfs(t)
		entries, mistakes := parseTable(tableFile, []byte(c.text))
		stop := 0
		for _, m := range mistakes {
			if m.Stops {
				stop = m.Line
				break
			}
		}
		names := func(line int) bool {
			return strings.Contains(out, fmt.Sprintf("%s:%d: ", tableFile, line)) || strings.Contains(out, fmt.Sprintf("%s: %d: ", tableFile, line))
		}
		if stop != 0 && !names(stop) {
			t.Errorf("%s: exportfs does not stop at line %d: %s", name, stop, out)
		}
		for line := range 9 {
			if stop == 0 && names(line) {
				t.Errorf("%s: exportfs stops at line %d: %s", name, line, out)
			}
		}
		// Where it stops it has exported what it had read, also of the line itself.
		if stop != 0 || len(mistakes) > 0 {
			continue
		}
		live, broken := parseTable(liveTable, []byte(read(t, liveTable)))
		if len(broken) > 0 {
			t.Errorf("%s: %s: %v", name, liveTable, broken)
		}
		if diff := cmp.Diff(accesses(entries), accesses(live)); diff != "" {
			t.Errorf("%s: exportfs read something else (-ours +its):\n%s", name, diff)
		}
	}
}

// accesses are all folders, to whom, and whether they may write.
func accesses(entries []entry) map[string]string {
	all := map[string]string{}
	for _, e := range entries {
		for _, c := range e.clients {
			access := "ro"
			for _, o := range c.options {
				if o == "ro" || o == "rw" {
					access = o
				}
			}
			name := c.name
			if a, mask, ok := strings.Cut(name, "/"); ok && strings.Contains(mask, ".") {
				name = a + "/8" // the only one there is here
			}
			all[e.path+" to "+name] = access
		}
	}
	return all
}

// Any name that a folder can have is read back by exportfs, and by us, as it is.
func TestNamesByExportfs(t *testing.T) {
	needLab(t)
	names := []string{
		"blank and\ttab", `quote"s 'n' quotes`, `back\slash`, `\401`, `\08`, `x\1`, `\`, "line\nbreak", "#hash", "x#y", "(rw)", "-ro", "ü", "*", "?[a]",
		"\x01\x7f\xff\xfe", "a,b=c:d", strings.Repeat("long\"", 40), `trailing\`, `12\34`, `12\34 5`, " ",
	}
	random := rand.New(rand.NewPCG(5, 3))
	for range 200 {
		name := make([]byte, 1+random.IntN(40))
		for i := range name {
			for name[i] == 0 || name[i] == '/' {
				name[i] = byte(random.IntN(256))
				if random.IntN(2) == 0 {
					name[i] = `\"01234567 #()`[random.IntN(14)]
				}
			}
		}
		names = append(names, "n"+string(name))
	}
	r := Request{Project: "0123456789ab"}
	seen := map[string]bool{}
	for _, name := range names {
		path := folder(t, 0, name)
		if looksOctal.MatchString(name) {
			if _, err := system().Check(wanted(projectA, path), Owner{}); err == nil || !strings.Contains(err.Error(), "three digits") {
				t.Errorf("%q: %v", path, err)
			}
			continue
		}
		if !seen[path] {
			r.Exports = append(r.Exports, Export{Path: path, Clients: []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}})
		}
		seen[path] = true
	}
	write(t, tableFile, "") // exportfs misses it
	if err := os.Mkdir(tableDir, 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := system().Apply(t.Context(), r, Owner{}); err != nil {
		t.Fatal(err)
	}
	if found, err := system().Check(r, Owner{}); err != nil || !found.Wanted {
		t.Errorf("%+v, %v", found, err)
	}
	// Not by our parser alone: exportfs has found every folder there.
	if out, ok := runExportfs(t); !ok || out != "" {
		t.Errorf("exportfs: %s", out)
	}
	if n := strings.Count(read(t, liveTable), "\n"); n != len(r.Exports) {
		t.Errorf("%d of %d folders are exported", n, len(r.Exports))
	}
}
