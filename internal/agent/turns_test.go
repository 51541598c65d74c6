//go:build linux || darwin

package agent

import (
	"encoding/binary"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/hostctl/hostctl/internal/project"
	"github.com/hostctl/hostctl/sync/nfs"
)

// sharesIn are of a project in a folder, that has a key.
func sharesIn(t *testing.T, home string, known func() []string) (s *shares, key []byte) {
	t.Helper()
	p, err := project.Open(home, project.Options{StateHome: home})
	must(t, err)
	unlock, err := p.Lock(t.Context(), "test", nil)
	must(t, err)
	key, err = p.ShareKey()
	must(t, err)
	must(t, unlock())
	s = newShares(p, known, slog.New(slog.DiscardHandler))
	t.Cleanup(s.end)
	return s, key
}

func wantOf(dir string) want {
	shares := []project.ShareSpec{{Name: "code", Host: dir}}
	return want{listen: netip.MustParseAddr("127.0.0.1"), shares: shares, stay: shares, owner: 500}
}

// What one machine's guest has in use is not stale because another machine's is
// served first, or ends first: it waits.
func TestGuestsWaitForTheirTurn(t *testing.T) {
	t.Parallel()
	home := t.TempDir()
	first, second := wantOf(filepath.Join(home, "first")), wantOf(filepath.Join(home, "second"))
	for _, w := range []want{first, second} {
		must(t, os.Mkdir(w.shares[0].Host, 0o755))
	}
	names := []string{first.export(first.shares[0]).Name, second.export(second.shares[0]).Name}
	s, key := sharesIn(t, home, func() []string { return slices.Clone(names) })
	must(t, s.set("core-01", first))
	must(t, s.set("core-02", second))
	addr := s.status("core-02", nil)[0].Address.String()
	root := rpcReply(t, addr, 100005, nfs.Path(key, names[1]))
	root = root[8 : 8+binary.BigEndian.Uint32(root[4:])]
	getattr := func() uint32 { return binary.BigEndian.Uint32(rpcReply(t, addr, 100003, string(root))) }
	const ok, stale, later = 0, 70, 10008 // RFC 1813, section 2.6
	if st := getattr(); st != ok {
		t.Fatalf("status %d", st)
	}
	must(t, s.set("core-02", want{}))
	if st := getattr(); st != later {
		t.Errorf("without the worker: status %d, want %d", st, later)
	}
	names = names[:1]
	must(t, s.set("core-01", first))
	if st := getattr(); st != stale {
		t.Errorf("without the share: status %d, want %d", st, stale)
	}
}

// rpcReply makes procedure 1 of a program with one argument, and returns what it gives.
func rpcReply(t *testing.T, addr string, prog uint32, arg string) []byte {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	must(t, err)
	defer conn.Close()
	var msg []byte
	for _, v := range []uint32{0, 1, 0, 2, prog, 3, 1, 0, 0, 0, 0, uint32(len(arg))} {
		msg = binary.BigEndian.AppendUint32(msg, v)
	}
	msg = append(msg, arg...)
	msg = append(msg, make([]byte, -len(arg)&3)...)
	binary.BigEndian.PutUint32(msg, uint32(len(msg)-4)|1<<31)
	_, err = conn.Write(msg)
	must(t, err)
	var mark [4]byte
	_, err = io.ReadFull(conn, mark[:])
	must(t, err)
	reply := make([]byte, binary.BigEndian.Uint32(mark[:])&^(1<<31))
	_, err = io.ReadFull(conn, reply)
	must(t, err)
	return reply[24:]
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
