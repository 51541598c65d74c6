package project_test

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"golang.org/x/crypto/ssh"

	"github.com/hostctl/hostctl/internal/hint"
	"github.com/hostctl/hostctl/internal/project"
)

func TestKeysAreMadeOnce(t *testing.T) {
	t.Parallel()
	h := newHome(t)
	p, unlock := h.locked(t.TempDir())
	pairs := make([]project.KeyPair, 8)
	var wg sync.WaitGroup
	for i := range pairs {
		wg.Go(func() {
			var err error
			if pairs[i], err = p.Keys(); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	unlock()
	again, err := h.open(p.Dir()).Keys()
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range pairs {
		if k.Private != again.Private || k.Public != again.Public {
			t.Error("two key pairs")
		}
	}
	if again.File != filepath.Join(p.StateDir(), "id_ed25519") {
		t.Errorf("File = %s", again.File)
	}
	public, comment, _, rest, err := ssh.ParseAuthorizedKey([]byte(again.Public))
	if err != nil || comment != "hostctl" || len(rest) != 0 || strings.Contains(again.Public, "\n") {
		t.Errorf("Public = %q, %v", again.Public, err)
	}
	if !bytes.Equal(public.Marshal(), again.Signer.PublicKey().Marshal()) {
		t.Error("Public and Private are not a pair")
	}
	if got, err := os.ReadFile(again.File + ".pub"); err != nil || string(got) != again.Public+"\n" {
		t.Errorf(".pub = %q, %v", got, err)
	}
}

// What OpenSSH reads in the files is the same key.
func TestKeysForOpenSSH(t *testing.T) {
	t.Parallel()
	h := newHome(t)
	p, _ := h.locked(t.TempDir())
	k, err := p.Keys()
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("ssh-keygen", "-y", "-f", k.File).Output()
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.TrimSpace(string(out)); got != k.Public {
		t.Errorf("ssh-keygen reads %q, want %q", got, k.Public)
	}
}

func TestHostKey(t *testing.T) {
	t.Parallel()
	h := newHome(t)
	p, unlock := h.locked(t.TempDir())
	for _, name := range []string{"core-01", "core-02"} {
		if err := p.MakeMachineDir(name); err != nil {
			t.Fatal(err)
		}
	}
	one, err := p.HostKey("core-01")
	if err != nil {
		t.Fatal(err)
	}
	two, err := p.HostKey("core-02")
	if err != nil {
		t.Fatal(err)
	}
	if one.Private == two.Private {
		t.Error("two machines have one host key")
	}
	known, err := os.ReadFile(p.KnownHosts("core-01"))
	if want := "hostctl-" + p.ID() + "-core-01 " + one.Public + "\n"; err != nil || string(known) != want {
		t.Errorf("known_hosts = %q, %v; want %q", known, err, want)
	}

	// A crash came between the files.
	for _, path := range []string{one.File + ".pub", p.KnownHosts("core-01")} {
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
	again, err := p.HostKey("core-01")
	if err != nil || again.Private != one.Private {
		t.Errorf("another key, %v", err)
	}
	for _, path := range []string{one.File + ".pub", p.KnownHosts("core-01")} {
		if _, err := os.Stat(path); err != nil {
			t.Error(err)
		}
	}

	unlock()
	if _, err := p.HostKey("core-03"); !errors.Is(err, project.ErrNoState) || err.Error() != "host key of core-03: no machines were made here yet" {
		t.Errorf("unknown machine: %v", err)
	}
}

func TestDamagedKey(t *testing.T) {
	t.Parallel()
	h := newHome(t)
	p, _ := h.locked(t.TempDir())
	k, err := p.Keys()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(k.File, []byte("?"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err = p.Keys()
	if want := k.File + ": ssh: no key found"; err == nil || err.Error() != want {
		t.Errorf("Keys() error = %v, want %s", err, want)
	}
	if got, want := hint.Of(err), "the guests know only this key: restore it from a backup, or destroy the machines and make them again"; got != want {
		t.Errorf("hint = %q", got)
	}
	if got, err := os.ReadFile(k.File); err != nil || string(got) != "?" {
		t.Errorf("the file is now %q, %v", got, err)
	}
}
