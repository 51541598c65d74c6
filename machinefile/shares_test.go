package machinefile

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/hashicorp/hcl/v2"
)

const sharesFile = `
share "code" {
  type          = "nfs"
  host          = "~/code/share"
  guest         = "/home/core/share"
  mount_options = ["nolock", "vers=3"]
}

share "docs" {
  host     = "../docs"
  guest    = "/srv//docs/"
  create   = true
  readonly = true
  events   = false
}

machine "core" {
  count = 2
  image = "dockerhost"

  share "docs" {
    type      = "sftp"
    host      = "."
    guest     = "/srv/docs-${index}"
    direction = "both"
    ignore    = ["*.o", "!keep.o"]
  }
  dynamic "share" {
    for_each = ["a", "b"]
    labels   = ["in-${share.value}"]
    content {
      host   = "/data/${share.value}"
      guest  = "/srv/in ${share.value}"
      server = "system"
      mount_options = "vers=4,noatime"
    }
  }
}

machine "plain" {
  image = "dockerhost"
}
`

func TestShares(t *testing.T) {
	t.Parallel()
	home, err := os.UserHomeDir()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	config, _, diags := load(filepath.Join(dir, "machine.hcl"), []byte(sharesFile), Options{Catalog: testCatalog})
	if len(diags) > 0 {
		t.Fatal(diags)
	}
	code := Share{
		Name: "code", Type: NFS, Host: filepath.Join(home, "code/share"), Guest: "/home/core/share", Server: EmbeddedServer,
		MountOptions: []string{"nolock", "vers=3"}, Events: true,
	}
	docs := Share{
		Name: "docs", Type: NFS, Host: filepath.Join(dir, "../docs"), Guest: "/srv/docs", Server: EmbeddedServer,
		Create: true, ReadOnly: true,
	}
	in := func(letter string) Share {
		return Share{
			Name: "in-" + letter, Type: NFS, Host: "/data/" + letter, Guest: "/srv/in " + letter, Server: SystemServer,
			MountOptions: []string{"vers=4", "noatime"}, Events: true,
		}
	}
	mirrored := Share{Name: "docs", Type: SFTP, Host: dir, Guest: "/srv/docs-1", Direction: Both, Ignore: []string{"*.o", "!keep.o"}}
	equal := func(what string, got, want []Share) {
		t.Helper()
		if diff := cmp.Diff(want, got, cmpopts.IgnoreUnexported(Share{}), cmpopts.IgnoreFields(Share{}, "Range")); diff != "" {
			t.Errorf("%s (-want +got):\n%s", what, diff)
		}
	}
	equal("of all", config.Shares, []Share{code, docs})
	equal("of a machine without its own", config.Machines[2].Shares, []Share{code, docs})
	equal("of a machine with its own", config.Machines[1].Shares, []Share{code, mirrored, in("a"), in("b")})
	if got := config.Machines[0].Shares[1].Guest; got != "/srv/docs-0" {
		t.Errorf("the first machine's is at %s", got)
	}
	if r := config.Shares[1].RangeOf("create"); r.Start.Line != 12 {
		t.Errorf("create is on line %d", r.Start.Line)
	}
}

// No shell reads a share's folder.
func TestShareOfAVariable(t *testing.T) {
	t.Parallel()
	for host, want := range map[string]string{
		"$HOME/x":    `$HOME is not expanded: write "~/x". A folder of that very name is "./$HOME/x".`,
		"$HOME":      `$HOME is not expanded: write "~/". A folder of that very name is "./$HOME".`,
		"$${HOME}/x": `${HOME} is not expanded: write "~/x". A folder of that very name is "./${HOME}/x".`,
		"$PWD/x/y":   `$PWD is not expanded: write "./x/y", which begins in the machine file's folder. A folder of that very name is "./$PWD/x/y".`,
		"$GOPATH/x":  `$GOPATH is not expanded: write "${env("GOPATH")}/x". A folder of that very name is "./$GOPATH/x".`,
		"./$HOME/x":  "",
		"a$b":        "",
	} {
		text := "share \"code\" {\n  host = \"" + host + "\"\n  guest = \"/srv/code\"\n}\nmachine \"core\" {\n  image = \"dockerhost\"\n}\n"
		_, _, diags := load("machine.hcl", []byte(text), Options{Catalog: testCatalog})
		switch {
		case want == "" && len(diags) > 0:
			t.Errorf("%s: %v", host, diags)
		case want != "" && (len(diags) != 1 || diags[0].Detail != want || diags[0].Subject.Start.Line != 2):
			t.Errorf("%s: %v", host, diags)
		}
	}
}

// A mounted folder that has the project's keys is warned of, once for all machines.
func TestShareOfTheProject(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		host, more string
		warned     bool
	}{
		{".", "", true}, {"./", `server = "system"`, true}, {"..", "readonly = true", true}, {".hostctl", "", true}, {"/", "", true},
		{"src", "", false}, {"../docs", "", false}, {".hostctl-data", "", false}, {".", `type = "sftp"`, false},
	} {
		text := fmt.Sprintf("machine \"core\" {\n  count = 2\n  image = \"dockerhost\"\n  share \"code\" {\n    host = %q\n    guest = \"/srv/code\"\n    %s\n  }\n}\n", c.host, c.more)
		_, _, diags := load("machine.hcl", []byte(text), Options{Catalog: testCatalog})
		if diags.HasErrors() || (len(diags) > 0) != c.warned {
			t.Errorf("%s %s: %v", c.host, c.more, diags)
		}
		if c.warned && (len(diags) != 1 || diags[0].Subject.Start.Line != 5 || !strings.Contains(diags[0].Detail, "Share a folder of its own")) {
			t.Errorf("%s %s: %v", c.host, c.more, diags)
		}
	}
}

// Old files have options that kernels refuse. They load, with a warning that
// says what was done.
func TestMountOptionsOfOldFiles(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		options string
		kept    []string
		warns   []string // words of each warning
	}{
		{`["nolock", "vers=3", "udp"]`, []string{"nolock", "vers=3"}, []string{`"tcp" instead`}},
		{`["nolock,vers=3,proto=udp"]`, []string{"nolock", "vers=3"}, []string{`"tcp" instead`}},
		{`["mountproto=udp"]`, nil, []string{`"tcp" instead`}},
		{`["tcp", "proto=tcp", "rw"]`, nil, nil},
		{`["vers=2", "intr"]`, []string{"vers=3"}, []string{"version 3 instead", "is left out"}},
		{`["nfsvers=3", "actimeo=2", "noatime"]`, []string{"vers=3", "actimeo=2", "noatime"}, nil},
		{`["soft", "timeo=600"]`, []string{"soft", "timeo=600"}, []string{"can be lost"}},
		{`[]`, nil, nil},
		{`null`, nil, nil},
	} {
		text := "machine \"core\" {\n  image = \"dockerhost\"\n  share \"code\" {\n    host = \"code\"\n    guest = \"/srv/code\"\n    mount_options = " + c.options + "\n  }\n}\n"
		config, _, diags := load("machine.hcl", []byte(text), Options{Catalog: testCatalog})
		if diags.HasErrors() {
			t.Errorf("%s: %v", c.options, diags)
			continue
		}
		if got := config.Machines[0].Shares[0].MountOptions; !slices.Equal(got, c.kept) {
			t.Errorf("%s: kept %q, want %q", c.options, got, c.kept)
		}
		if len(diags) != len(c.warns) {
			t.Errorf("%s: %d warnings: %v", c.options, len(diags), diags)
			continue
		}
		for i, d := range diags {
			if d.Severity != hcl.DiagWarning || d.Subject.Start.Line != 6 || !strings.Contains(d.Detail, c.warns[i]) {
				t.Errorf("%s: %v", c.options, d)
			}
		}
	}
}

// Every option that the guest's kernel does not take is named before anything
// starts, where it stands.
func TestMountOptionsThatKernelsRefuse(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ option, server, want string }{
		{"bogus=1", "", `"bogus" is no mount option of NFS. nfs(5) and mount(8) list them.`},
		{"foo", "", `"foo" is no mount option of NFS. nfs(5) and mount(8) list them.`},
		{"nolok", "", `"nolok" is no mount option of NFS. Did you mean "nolock"?`},
		{"rszie=8192", "", `"rszie" is no mount option of NFS. Did you mean "rsize"?`},
		{"hard=1", "", `"hard" takes no value. Did you mean "hard"?`},
		{"timeo", "", `"timeo" takes a whole number from 1 on, not "".`},
		{"timeo=0", "", `"timeo" takes a whole number from 1 on, not "0".`},
		{"rsize=1M", "", `"rsize" takes a whole number from 0 on, not "1M".`},
		{"nconnect=17", "", `"nconnect" takes a whole number from 1 to 16, not "17".`},
		{"lookupcache=positiv", "", `"lookupcache" takes "all", "positive", "pos" or "none", not "positiv". Did you mean "positive"?`},
		{"context", "", `"context" takes a value, as in "context=...".`},
		{"port=2049", "", `"port=2049" cannot be set: hostctl chooses the server's port, and keeps it. Leave it out.`},
		{"mountport=1", "system", `"mountport=1" cannot be set: hostctl chooses the server's port, and keeps it. Leave it out.`},
		{"addr=10.0.2.2", "", `"addr=10.0.2.2" cannot be set: hostctl knows under which address the guest reaches this computer. Leave it out.`},
		{"vers=4", "", `The embedded server has NFS version 3 only, so "vers=4" cannot be. Leave it out, or use server = "system".`},
		{"sloppy", "", `"sloppy" cannot be set: it would hide options that the guest's kernel does not take. Leave it out.`},
		{"nosoftreval", "", `"nosoftreval" cannot be set: it is how shares are mounted anyway, and kernels do not know the word although nfs(5) has it. Leave it out.`},
		{"vers=4.2", "system", ""}, {"softreval", "", ""},
		{"fsc", "", ""}, {"fsc=uniq", "", ""}, {"context=system_u:object_r:svirt_sandbox_file_t:s0", "", ""},
		{"nconnect=4", "", ""}, {"local_lock=flock", "", ""}, {"sec=sys", "", ""}, {"acregmin=0", "", ""}, {"nosharecache", "", ""},
	} {
		server := ""
		if c.server != "" {
			server = "\n    server = \"" + c.server + "\""
		}
		text := "machine \"core\" {\n  image = \"dockerhost\"\n  share \"code\" {\n    host = \"code\"\n    guest = \"/srv/code\"\n    mount_options = [\n      \"noatime\",\n      \"nodev," +
			c.option + "\",\n    ]" + server + "\n  }\n}\n"
		config, _, diags := load("machine.hcl", []byte(text), Options{Catalog: testCatalog})
		if c.want == "" {
			if len(diags) > 0 {
				t.Errorf("%s: %v", c.option, diags)
			} else if got, want := config.Machines[0].Shares[0].MountOptions, []string{"noatime", "nodev", c.option}; !slices.Equal(got, want) {
				t.Errorf("%s: kept %q, want %q", c.option, got, want)
			}
			continue
		}
		if len(diags) != 1 || diags[0].Severity != hcl.DiagError || diags[0].Detail != c.want || diags[0].Subject.Start.Line != 8 {
			t.Errorf("%s:\n got %v\nwant %s, on line 8", c.option, diags, c.want)
		}
	}
}

// A folder that misses its first slash is taken for the one that it names.
func TestAbsolute(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"home/core/a": "/home/core/a", "srv/src": "/srv/src", "./var/lib/app": "/var/lib/app",
		"src": "/home/core/src", "home/core": "/home/core/share", "": "/home/core/share",
	} {
		if got := absolute(text); got != want {
			t.Errorf("absolute(%q) = %q, want %q", text, got, want)
		}
	}
}
