package machinefile

import (
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
		{`["vers=2", "intr"]`, []string{"vers=3"}, []string{"is left out", "version 3 instead"}},
		{`["nfsvers=3", "actimeo=2", "noatime"]`, []string{"vers=3", "actimeo=2", "noatime"}, nil},
		{`[]`, nil, nil},
		{`null`, nil, nil},
	} {
		text := "machine \"core\" {\n  image = \"dockerhost\"\n  share \"code\" {\n    host = \".\"\n    guest = \"/srv/code\"\n    mount_options = " + c.options + "\n  }\n}\n"
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
