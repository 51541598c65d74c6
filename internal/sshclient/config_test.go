package sshclient

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"

	"github.com/hostctl/hostctl/internal/golden"
)

func TestWriteConfig(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	err := WriteConfig(&b, []Host{{
		Name: "core-01", Addr: netip.MustParseAddrPort("127.0.0.1:2222"), User: "core",
		IdentityFile: "/home/me/project/.hostctl/id_ed25519",
		KnownHosts:   "/home/me/project/.hostctl/machines/core-01/known_hosts",
		HostKeyAlias: "hostctl-0123456789ab-core-01",
	}, {
		Name: "core-02", Addr: netip.MustParseAddrPort("[::1]:2200"), User: "core",
		IdentityFile: `/home/me/a b/100%/"q"/back\slash/機械/id_ed25519`,
		KnownHosts:   `/home/me/a b/100%/"q"/back\slash/機械/known_hosts`,
		HostKeyAlias: "hostctl-0123456789ab-core-02",
	}})
	if err != nil {
		t.Fatal(err)
	}
	golden.Equal(t, "ssh_config.golden", b.String())
}

func TestWriteConfigImpossiblePath(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	err := WriteConfig(&b, []Host{{Name: "core-01", IdentityFile: "/${HOME}/key"}})
	if want := `"/${HOME}/key": an SSH configuration cannot express this path`; err == nil || err.Error() != want || b.Len() != 0 {
		t.Errorf("WriteConfig() error = %v, wrote %q", err, &b)
	}
}

// The system's own client, with the configuration, in a directory whose name
// has everything that means something to it.
func TestSystemClient(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), `a b #1 100%h ~ "q" it's back\slash $HOME 機械`)
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	g := newGuest(t)
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if g.user, err = ssh.NewSignerFromKey(key); err != nil {
		t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(key, "")
	if err != nil {
		t.Fatal(err)
	}
	to := g.start()
	known := func(key ssh.PublicKey) []byte {
		return append([]byte("hostctl-0123456789ab-core-01 "), ssh.MarshalAuthorizedKey(key)...)
	}
	host := Host{
		Name: "core-01", Addr: to.Addr, User: "core",
		IdentityFile: filepath.Join(dir, "id_ed25519"),
		KnownHosts:   filepath.Join(dir, "known_hosts"),
		HostKeyAlias: "hostctl-0123456789ab-core-01",
	}
	var config bytes.Buffer
	err = errors.Join(
		os.WriteFile(host.IdentityFile, pem.EncodeToMemory(block), 0o600),
		os.WriteFile(host.KnownHosts, known(to.HostKey), 0o600),
		WriteConfig(&config, []Host{host}),
		os.WriteFile(filepath.Join(dir, "config"), config.Bytes(), 0o600),
	)
	if err != nil {
		t.Fatal(err)
	}
	client := func(args ...string) (stdout, stderr string, exit int) {
		cmd := exec.Command("ssh", append([]string{"-F", filepath.Join(dir, "config")}, args...)...)
		cmd.Env = append(os.Environ(), "SSH_AUTH_SOCK=")
		var out, errOut bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &errOut
		var exitError *exec.ExitError
		if err := cmd.Run(); err != nil && !errors.As(err, &exitError) {
			t.Fatal(err)
		}
		return out.String(), errOut.String(), cmd.ProcessState.ExitCode()
	}

	parsed, stderr, _ := client("-G", "core-01")
	for _, want := range []string{
		"host core-01", "hostname 127.0.0.1", "user core", "identitiesonly yes", "stricthostkeychecking true",
		"hostkeyalias hostctl-0123456789ab-core-01", "hostkeyalgorithms ssh-ed25519",
	} {
		if !strings.Contains("\n"+parsed, "\n"+want+"\n") {
			t.Errorf("ssh -G does not say %q: %s%s", want, parsed, stderr)
		}
	}
	if stdout, stderr, exit := client("core-01", "echo out; echo err >&2; exit 3"); stdout != "out\n" || stderr != "err\n" || exit != 3 {
		t.Errorf("ssh core-01 = %d, %q, %q", exit, stdout, stderr)
	}

	if err := os.WriteFile(host.KnownHosts, known(newSigner(t).PublicKey()), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, stderr, exit := client("core-01", "true"); exit != 255 || !strings.Contains(stderr, "Host key verification failed.") {
		t.Errorf("with another host key: %d, %q", exit, stderr)
	}
}
