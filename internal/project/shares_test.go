package project_test

import (
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// What others wrote into the file of ports is an error, or no ports.
func TestSharePorts(t *testing.T) {
	t.Parallel()
	p, unlock := newHome(t).locked(realTempDir(t))
	defer unlock()
	loopback := netip.MustParseAddr("127.0.0.1")
	kept := map[netip.Addr]uint16{loopback: 20490}
	if err := p.KeepSharePorts(kept); err != nil {
		t.Fatal(err)
	}
	if got, err := p.SharePorts(); err != nil || !maps.Equal(got, kept) {
		t.Errorf("%v, %v; want %v", got, err, kept)
	}
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(p.StateDir(), "shares.json"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("null")
	got, err := p.SharePorts()
	if err != nil || len(got) > 0 {
		t.Fatalf("%v, %v; want none", got, err)
	}
	got[loopback] = 1 // as the agent does
	write("[]")
	if _, err := p.SharePorts(); err == nil || !strings.Contains(err.Error(), "shares.json") {
		t.Errorf("%v; want the file's name", err)
	}
}
