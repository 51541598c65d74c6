//go:build e2e

package e2e

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// smallShare is of a folder that has room for 8 MiB.
const smallShare = `
share "small" {
  type  = "nfs"
  host  = "~/small"
  guest = "/home/core/small"
}`

// shareFaults breaks what a share stands on while programs of the guest use it:
// they go on, or are told, and nothing is lost that they were told is safe. The
// guest is libvirt's, which has a network of the host's that can be cut.
func shareFaults(t *testing.T, s *site, machineFile string) {
	s = s.in(t)
	small := filepath.Join(filepath.Dir(s.state), "small")
	check(t, os.Mkdir(small, 0o755))
	check(t, syscall.Mount("small", small, "tmpfs", 0, "size=8m"))
	t.Cleanup(func() { check(t, syscall.Unmount(small, syscall.MNT_DETACH)) }) // after a failure it is in use
	folder := s.withShare(machineFile + smallShare)
	s.hostctl("up")

	t.Run("the host's disk is full", func(t *testing.T) { diskFull(t, s.in(t), small) })
	t.Run("the folder is deleted and made again", func(t *testing.T) { folderGone(t, s.in(t), folder) })
	t.Run("the agent is killed", func(t *testing.T) {
		s := s.in(t)
		s.writeWhile(folder, func() { s.killAgents(t) }, func() { s.hostctl("up") })
	})
	t.Run("the network is cut", func(t *testing.T) {
		s := s.in(t)
		s.writeWhile(folder, func() { s.links("down") }, func() {
			<-time.After(time.Minute)
			s.links("up")
		})
	})
	t.Run("the guest is reset", func(t *testing.T) { guestReset(t, s.in(t), folder) })
}

// diskFull fills the disk that the folder is on, and makes room again.
func diskFull(t *testing.T, s *site, folder string) {
	fill := filepath.Join(folder, "fill")
	check(t, os.WriteFile(fill, make([]byte, 7<<20), 0o644))
	for _, conv := range []string{"notrunc", "fsync"} { // told by close, and by fsync
		r := s.try(t.Context(), "ssh", "-c", "dd if=/dev/zero of=small/file bs=1M count=4 conv="+conv)
		if r.code != 1 || !strings.Contains(r.stderr, "No space left on device") {
			t.Errorf("conv=%s: exit %d\n%s", conv, r.code, r.stderr)
		}
	}
	check(t, os.Remove(fill))
	want := s.hostctl("ssh", "-c", "head -c 4M /dev/urandom >small/file && sync small/file && sha256sum <small/file")
	if got := sumOf(t, filepath.Join(folder, "file")); got != sum(want) {
		t.Error("what was written once there was room is not what the host has")
	}
}

// folderGone takes the share's folder away.
func folderGone(t *testing.T, s *site, folder string) {
	check(t, os.RemoveAll(folder))
	start := time.Now()
	r := s.try(t.Context(), "ssh", "-c", "timeout 60 cat share/from-host")
	t.Logf("the guest was told after %s: %s", time.Since(start).Round(time.Millisecond), strings.TrimSpace(r.stderr))
	if r.code != 1 || !strings.Contains(r.stderr, "Stale file handle") && !strings.Contains(r.stderr, "No such file or directory") {
		t.Errorf("in the guest: exit %d, %q\n%s", r.code, r.stdout, r.stderr)
	}
	for _, args := range [][]string{{"up"}, {"share", "status"}} {
		r := s.try(t.Context(), args...)
		if r.code == 0 {
			t.Errorf("%q: exit 0", args)
		}
		contains(t, strings.Join(args, " "), r.stderr, folder+" does not exist")
	}
	check(t, os.Mkdir(folder, 0o755))
	check(t, os.WriteFile(filepath.Join(folder, "from-host"), []byte("made again\n"), 0o644))
	s.hostctl("up")
	if got := s.hostctl("ssh", "-c", "cat share/from-host && echo and used >share/from-guest"); got != "made again\n" {
		t.Errorf("in the guest: %q", got)
	}
	if data, err := os.ReadFile(filepath.Join(folder, "from-guest")); err != nil || string(data) != "and used\n" {
		t.Errorf("on the host: %q, %v", data, err)
	}
}

// guestReset has the guest's processor reset under a program that writes. What
// that was told is on disk is there, and so is the share when the guest is back.
func guestReset(t *testing.T, s *site, folder string) {
	const boot = "cat /proc/sys/kernel/random/boot_id"
	before := s.hostctl("ssh", "-c", boot)
	safe := filepath.Join(t.TempDir(), "safe")
	out, err := os.Create(safe)
	check(t, err)
	defer out.Close()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	writer := s.command(ctx, hostctl, "ssh", "-c", `exec 3>share/synced; i=0; while i=$((i+1)); do echo $i >&3; sync share/synced || exit; echo $i; done`)
	writer.Stdout = out
	check(t, writer.Start())
	s.eventually("the guest writes", func() error {
		if n := len(lines(t, safe)); n < 20 {
			return fmt.Errorf("%d lines", n)
		}
		return nil
	})
	short, stop := context.WithTimeout(t.Context(), 10*time.Second)
	defer stop()
	s.try(short, "ssh", "-c", "echo b | sudo tee /proc/sysrq-trigger")
	s.eventually("the guest is back with its share", func() error {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		r := s.try(ctx, "ssh", "-c", boot+" && mountpoint -q share && cat share/from-host")
		if r.code != 0 || strings.HasPrefix(r.stdout, before) {
			return fmt.Errorf("exit %d, %q\n%s", r.code, r.stdout, r.stderr)
		}
		return nil
	})
	cancel()
	_ = writer.Wait() // its guest was reset
	told, kept := lines(t, safe), lines(t, filepath.Join(folder, "synced"))
	t.Logf("%d lines were told to be on disk, %d are", len(told), len(kept))
	if len(kept) < len(told) {
		t.Errorf("%d lines of the %d that were told to be on disk are", len(kept), len(told))
	}
	for i, line := range kept {
		if line != fmt.Sprint(i+1) {
			t.Fatalf("line %d is %q", i+1, line)
		}
	}
}

// lines are a file's whole lines.
func lines(t *testing.T, path string) []string {
	t.Helper()
	data, err := os.ReadFile(path)
	check(t, err)
	split := strings.Split(string(data), "\n")
	return split[:len(split)-1]
}

// written is how much a program of the guest writes under a fault. A GiB would
// take a minute and a half here.
const written = 128 << 20

// writeWhile has a program of the guest write a large file, and breaks something
// when some of it is on the host. Once that is mended the program must end well,
// and all must be there.
func (s *site) writeWhile(folder string, begin, end func()) {
	t := s.t
	t.Helper()
	large := filepath.Join(folder, "large")
	size := func() int64 {
		info, err := os.Stat(large)
		if err != nil {
			return 0
		}
		return info.Size()
	}
	s.hostctl("ssh", "-c", fmt.Sprintf(`sudo systemd-run --quiet --unit=writer bash -o pipefail -c 'head -c %d /dev/urandom | tee /home/core/share/large | sha256sum >/run/large.sum'`, written))
	s.eventually("the guest writes", func() error {
		if n := size(); n < 1<<20 {
			return fmt.Errorf("%d bytes", n)
		}
		return nil
	})
	begin()
	there := size()
	if there == written {
		t.Error("all was written before the fault")
	}
	end()
	start := time.Now()
	want := s.hostctl("ssh", "-c", `while systemctl is-active --quiet writer; do sleep 0.2; done
		systemctl is-failed --quiet writer && { systemctl status writer; exit 1; }
		cat /run/large.sum`)
	t.Logf("%d MiB of %d were there; the rest took %s after the fault", there>>20, written>>20, time.Since(start).Round(time.Millisecond))
	if got := sumOf(t, large); got != sum(want) {
		t.Error("the host has something else than what the guest wrote")
	}
	check(t, os.Remove(large))
}

// links sets the host's end of each of the guest's wires up or down.
func (s *site) links(state string) {
	s.t.Helper()
	for _, line := range virshLines(s.t, "domiflist", s.traces().ids[0]) {
		if out, err := exec.Command("ip", "link", "set", strings.Fields(line)[0], state).CombinedOutput(); err != nil {
			s.t.Fatalf("%s: %v: %s", line, err, out)
		}
	}
}

// sum is the first word of what sha256sum prints.
func sum(printed string) string {
	word, _, _ := strings.Cut(printed, " ")
	return word
}

func sumOf(t *testing.T, path string) string {
	t.Helper()
	f, err := os.Open(path)
	check(t, err)
	defer f.Close()
	h := sha256.New()
	_, err = io.Copy(h, f)
	check(t, err)
	return hex.EncodeToString(h.Sum(nil))
}
