package main

import (
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"testing"

	"github.com/hostctl/hostctl/internal/lifecycle"
	"github.com/hostctl/hostctl/sync/exports"
)

// A folder that is shared by two names is exported by one, to each guest in one way.
func TestExportRequest(t *testing.T) {
	t.Parallel()
	if runtime.GOOS == "windows" {
		t.Skip("links need privileges on Windows")
	}
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	code, link := filepath.Join(dir, "code"), filepath.Join(dir, "link")
	if err := os.Mkdir(code, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(code, link); err != nil {
		t.Fatal(err)
	}
	one, two := netip.MustParsePrefix("10.0.0.1/32"), netip.MustParsePrefix("10.0.0.2/32")
	s := &systemExports{client: &exports.Client{Server: exports.Server{System: runtime.GOOS}}}
	for range 20 { // maps have no order
		r, err := s.request("0123456789ab", []lifecycle.SystemExport{
			{Folder: link, ReadOnly: true, Clients: []netip.Prefix{one, two}},
			{Folder: code, Clients: []netip.Prefix{one, one}},
			{Folder: filepath.Join(dir, "gone"), Clients: []netip.Prefix{one}},
		})
		if err != nil || len(r.Exports) != 2 {
			t.Fatalf("%+v %v", r, err)
		}
		for _, e := range r.Exports {
			want := []netip.Prefix{one}
			if e.ReadOnly {
				want = []netip.Prefix{two}
			}
			if filepath.Base(e.Path) != "code" || !slices.Equal(e.Clients, want) {
				t.Errorf("%+v", e)
			}
		}
	}
}
