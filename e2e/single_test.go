//go:build e2e

package e2e

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/creack/pty"
	"github.com/google/go-cmp/cmp"
)

// deep is a project path with blanks, a comma, quotes, letters beyond ASCII
// and more than 200 characters.
var deep = filepath.Join("My Projects, and more", "größe 大 'n \"quoted\"", strings.Repeat("deeper-and-deeper/", 10), "end")

// TestSingle is the main job: examples/single, from nothing to containers, to
// nothing.
func TestSingle(t *testing.T) { onEach(t, single) }

func single(t *testing.T, provider string) {
	s := newSite(t, deep, on(provider, example(t, "single")))

	t.Run("env before up", func(t *testing.T) {
		r := s.try(t.Context(), "env")
		if r.stdout != "" || r.code != 1 {
			t.Errorf("exit %d, stdout %q; want 1 and nothing", r.code, r.stdout)
		}
		contains(t, "stderr", r.stderr, `machine "core-01" is not created`, "hostctl up core-01")
	})

	up := s.try(t.Context(), "up")
	if up.code != 0 {
		t.Fatalf("up: exit %d\n%s", up.code, up.stderr)
	}
	t.Logf("up printed:\n%s", up.stderr)
	if up.stdout != "" {
		t.Errorf("up printed to stdout: %q", up.stdout)
	}
	tr := s.traces()

	t.Run("status", func(t *testing.T) {
		got := s.status()
		if len(got) != 1 || got[0].Name != "core-01" || got[0].Provider != provider || got[0].State != "running" ||
			got[0].DockerHost != "tcp://127.0.0.1:2375" || got[0].SSH == nil || got[0].SSH.User != "core" {
			t.Errorf("%+v", got)
		}
	})
	t.Run("second up changes nothing", func(t *testing.T) {
		before := tree(t, s.dir)
		s.hostctl("up")
		if diff := cmp.Diff(before, tree(t, s.dir)); diff != "" {
			t.Error(diff)
		}
	})
	t.Run("secrets are private", func(t *testing.T) { privateFiles(t, filepath.Join(s.dir, ".hostctl"), provider) })
	t.Run("disk", func(t *testing.T) {
		var gib int
		out := s.hostctl("ssh", "-c", "df --output=size --block-size=1G / | tail -n 1")
		if _, err := fmt.Sscan(out, &gib); err != nil || gib < 18 {
			t.Errorf("the root file system has %q GiB (%v), want nearly 20", out, err)
		}
	})
	t.Run("docker", func(t *testing.T) { dockerCommands(t, s) })
	t.Run("ssh", func(t *testing.T) { sshCommands(t, s) })
	t.Run("upload and download", func(t *testing.T) { transferCommands(t, s) })
	t.Run("logs", func(t *testing.T) {
		contains(t, "serial log", s.hostctl("logs"), "Docker Application Container Engine")
		contains(t, "journal", s.hostctl("logs", "--unit", "docker.service", "-n", "100"), "API listen on")
		if lines := strings.Count(s.hostctl("logs", "-n", "3"), "\n"); lines != 3 {
			t.Errorf("logs -n 3 printed %d lines", lines)
		}
	})
	t.Run("clock", func(t *testing.T) {
		// As it is after the host has slept.
		s.hostctl("ssh", "-c", "sudo date --set='1 hour ago'")
		s.eventually("the guest has the host's time", func() error {
			var seconds int64
			if _, err := fmt.Sscan(s.hostctl("ssh", "-c", "date +%s"), &seconds); err != nil {
				return err
			}
			if behind := time.Since(time.Unix(seconds, 0)); behind > time.Minute {
				return fmt.Errorf("it is %s behind", behind)
			}
			return nil
		})
	})
	t.Run("onboard.sh", func(t *testing.T) {
		script, err := filepath.Abs("../scripts/onboard.sh")
		check(t, err)
		data, err := os.ReadFile(script)
		check(t, err)
		// As in a team's repository: beside the machine file.
		copied := filepath.Join(s.dir, "onboard.sh")
		check(t, os.WriteFile(copied, data, 0o755))
		defer os.Remove(copied)
		r := s.exec(t.Context(), "", copied, "docker", "info", "--format", "{{.Name}}")
		if r.code != 0 || strings.TrimSpace(r.stdout) != "core-01" {
			t.Errorf("exit %d, stdout %q\n%s", r.code, r.stdout, r.stderr)
		}
	})

	// It is mounted while the machine runs, and again as it boots.
	folder := s.withShare(on(provider, example(t, "single")))
	t.Run("share in place", func(t *testing.T) {
		if plan := s.hostctl("plan"); !strings.Contains(plan, "share code") {
			t.Errorf("plan:\n%s", plan)
		}
		s.hostctl("up")
		sharedFolder(t, s, folder)
		if provider == "qemu" { // the others differ in the way to the server only
			t.Run("file changes", func(t *testing.T) { fileChanges(t, s, folder) })
			agentDies(t, s, folder)
			t.Run("stress", func(t *testing.T) { stressShare(t, s, folder) })
		}
		s.shell(`docker run --detach --name sharer --restart always -v /home/core/share:/w local/busybox sh -c 'cat /w/from-host; sleep 1000000' >&2`)
	})

	t.Run("halt and up", func(t *testing.T) {
		// By number, not as the one before: clocks of emulated guests jump, and
		// journalctl orders boots by time.
		const bootID = "tr -d - </proc/sys/kernel/random/boot_id"
		before := strings.TrimSpace(s.hostctl("ssh", "-c", bootID))
		s.hostctl("halt")
		if got := s.status()[0].State; got != "stopped" {
			t.Errorf("state after halt: %s", got)
		}
		if r := s.try(t.Context(), "ssh", "-c", "true"); r.code != 5 {
			t.Errorf("ssh into a stopped machine: exit %d, want 5\n%s", r.code, r.stderr)
		}
		s.hostctl("up")
		now := strings.TrimSpace(s.hostctl("ssh", "-c", bootID))
		if now == before {
			t.Error("the guest did not restart")
		}
		last := s.hostctl("ssh", "-c", "sudo journalctl --boot="+before+" --no-pager")
		contains(t, "journal of the first boot", last, "Stopped docker.service", "System is powering down", "Journal stopped")
		contains(t, "journal of the first boot", last, "ignition")
		if again := s.hostctl("ssh", "-c", "sudo journalctl --boot="+now+" --no-pager --identifier=ignition"); !strings.Contains(again, "No entries") {
			t.Errorf("Ignition ran again:\n%s", again)
		}
		if names := s.shell(`docker ps --all --format '{{.Names}}' | sort | xargs`); names != "keeper sharer teller" {
			t.Errorf("containers after the restart: %q", names)
		}
		if names := s.shell(`docker ps --format '{{.Names}}' | sort | xargs`); names != "keeper sharer" {
			t.Errorf("running after the restart: %q, want those that always restart", names)
		}
		// It came up with the folder, not with what lies below the mount.
		s.eventually("the container that starts at boot has the folder", func() error {
			if got := s.shell(`docker logs sharer`); got != "made on the host\nmade on the host" {
				return fmt.Errorf("it printed %q", got)
			}
			return nil
		})
	})

	s.hostctl("destroy", "--yes")
	s.nothingLeft(tr)
}

// dockerCommands uses the local client against the guest. It leaves a
// container that always restarts, keeper, and one that has ended, teller.
func dockerCommands(t *testing.T, s *site) {
	if name := s.shell(`docker info --format '{{.Name}}'`); name != "core-01" {
		t.Errorf("docker info: name %q, want core-01", name)
	}
	rootfs := filepath.Join(t.TempDir(), "busybox.tar")
	writeBusybox(t, rootfs)
	s.shell(fmt.Sprintf(`docker import --change 'CMD ["sh"]' %q local/busybox >&2`, rootfs))

	if got := s.shell(`docker run --rm local/busybox echo hello from the guest`); got != "hello from the guest" {
		t.Errorf("docker run printed %q", got)
	}
	folder := t.TempDir()
	check(t, os.WriteFile(filepath.Join(folder, "Dockerfile"), []byte("FROM local/busybox\nCOPY greeting /greeting\nRUN tr a-z A-Z </greeting >/loud\nCMD cat /loud\n"), 0o644))
	check(t, os.WriteFile(filepath.Join(folder, "greeting"), []byte("from a local folder\n"), 0o644))
	s.shell(fmt.Sprintf(`docker build --tag built %q >&2`, folder))
	if got := s.shell(`docker run --rm built`); got != "FROM A LOCAL FOLDER" {
		t.Errorf("the built image printed %q", got)
	}

	s.shell(`docker run --detach --name keeper --restart always local/busybox sleep 1000000 >&2`)
	s.shell(`docker run --detach --name teller local/busybox sh -c 'for i in 1 2 3; do echo line $i; sleep 1; done' >&2`)
	// -f follows what is still to come, and ends with the container.
	if got := s.shell(`docker logs -f teller`); got != "line 1\nline 2\nline 3" {
		t.Errorf("docker logs -f printed %q", got)
	}

	out, code := s.terminal(t, "echo $((6*7)); tty; exit 3\n", "bash", "-c", `eval "$(hostctl env)"; exec docker exec -it keeper sh`)
	contains(t, "docker exec -it", out, "42", "/dev/pts/")
	if code != 3 {
		t.Errorf("docker exec -it: exit %d, want 3", code)
	}
}

func transferCommands(t *testing.T, s *site) {
	from, to := filepath.Join(t.TempDir(), "tree"), t.TempDir()
	check(t, os.MkdirAll(filepath.Join(from, "a", "b"), 0o755))
	check(t, os.WriteFile(filepath.Join(from, "a", "script"), []byte("#!/bin/sh\necho ran\n"), 0o755))
	check(t, os.WriteFile(filepath.Join(from, "a", "b", "large"), bytes.Repeat([]byte("0123456789abcdef"), 1<<17), 0o640))
	check(t, os.Symlink("../script", filepath.Join(from, "a", "b", "link")))

	s.hostctl("upload", from, ":")
	if got := s.hostctl("ssh", "-c", "tree/a/b/link && stat -c '%a %U' tree/a/b/large"); got != "ran\n640 core\n" {
		t.Errorf("the guest got %q", got)
	}
	s.hostctl("download", "core-01:tree", to)
	if r := s.exec(t.Context(), "", "diff", "-r", "--no-dereference", from, filepath.Join(to, "tree")); r.code != 0 {
		t.Errorf("came back different: %s%s", r.stdout, r.stderr)
	}
	r := s.try(t.Context(), "upload", from, ":/etc/")
	if r.code != 1 {
		t.Errorf("upload to root's folder: exit %d", r.code)
	}
	contains(t, "stderr", r.stderr, "/etc/tree in the guest: permission denied", "hint: --sudo")
	s.hostctl("upload", "--sudo", filepath.Join(from, "a", "script"), ":/etc/transferred")
	if got := s.hostctl("ssh", "-c", "stat -c '%a %U' /etc/transferred"); got != "755 root\n" {
		t.Errorf("root's file is %q", got)
	}
}

func sshCommands(t *testing.T, s *site) {
	if got := s.hostctl("ssh", "-c", "cat /etc/hostname"); got != "core-01\n" {
		t.Errorf("hostname %q", got)
	}
	if r := s.try(t.Context(), "ssh", "-c", "echo out; echo err >&2; exit 42"); r.code != 42 || r.stdout != "out\n" || r.stderr != "err\n" {
		t.Errorf("exit %d, stdout %q, stderr %q", r.code, r.stdout, r.stderr)
	}
	if got := s.hostctl("ssh", "core-01", "--", "printf", "%s|", "two words", "$HOME", "'"); got != "two words|$HOME|'|" {
		t.Errorf("words after -- arrived as %q", got)
	}
	if r := s.exec(t.Context(), "piped", hostctl, "ssh", "-c", "tr a-z A-Z"); r.stdout != "PIPED" {
		t.Errorf("stdin arrived as %q", r.stdout)
	}
	out, code := s.terminal(t, "stty size; whoami; exit 5\n", hostctl, "ssh")
	contains(t, "interactive ssh", out, "33 99", "core")
	if code != 5 {
		t.Errorf("interactive ssh: exit %d, want 5", code)
	}

	config := filepath.Join(t.TempDir(), "ssh.config")
	check(t, os.WriteFile(config, []byte(s.hostctl("ssh-config")), 0o600))
	r := s.exec(t.Context(), "", "ssh", "-F", config, "core-01", "cat /etc/hostname")
	if r.code != 0 || r.stdout != "core-01\n" {
		t.Errorf("system's ssh: exit %d, %q\n%s", r.code, r.stdout, r.stderr)
	}

	// Another host key is somebody else.
	known := filepath.Join(s.dir, ".hostctl", "machines", "core-01", "ssh_host_ed25519_key")
	key, err := os.ReadFile(known)
	check(t, err)
	other := filepath.Join(t.TempDir(), "other")
	check(t, exec.Command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", other).Run())
	wrong, err := os.ReadFile(other)
	check(t, err)
	check(t, os.WriteFile(known, wrong, 0o600))
	r = s.try(t.Context(), "ssh", "-c", "true")
	check(t, os.WriteFile(known, key, 0o600))
	if r.code == 0 {
		t.Error("ssh accepted another host key")
	}
	contains(t, "stderr", r.stderr, "the SSH server is not the guest")
}

// terminal runs a command on a terminal of 33 lines and 99 columns, types
// input, and returns what was shown and the exit code.
func (s *site) terminal(t *testing.T, input string, argv ...string) (string, int) {
	t.Helper()
	cmd := s.command(t.Context(), argv...)
	tty, err := pty.StartWithSize(cmd, &pty.Winsize{Rows: 33, Cols: 99})
	check(t, err)
	defer tty.Close()
	_, err = io.WriteString(tty, input)
	check(t, err)
	var out bytes.Buffer
	_, _ = io.Copy(&out, tty) // a terminal whose last user has gone reads as EIO
	_ = cmd.Wait()            // the exit code says it
	return out.String(), cmd.ProcessState.ExitCode()
}

// writeBusybox writes a root file system of a static busybox.
func writeBusybox(t *testing.T, path string) {
	t.Helper()
	bin, err := exec.LookPath("busybox")
	check(t, err)
	data, err := os.ReadFile(bin)
	check(t, err)
	f, err := os.Create(path)
	check(t, err)
	defer f.Close()
	w := tar.NewWriter(f)
	check(t, w.WriteHeader(&tar.Header{Name: "bin/busybox", Mode: 0o755, Size: int64(len(data))}))
	_, err = w.Write(data)
	check(t, err)
	for _, applet := range []string{"sh", "echo", "cat", "sleep", "tr", "tty"} {
		check(t, w.WriteHeader(&tar.Header{Name: "bin/" + applet, Typeflag: tar.TypeSymlink, Linkname: "busybox"}))
	}
	check(t, w.Close())
}

// privateFiles fails when anybody but the user can read what is in dir.
// libvirt's guests have their disks and logs in libvirt's storage.
func privateFiles(t *testing.T, dir, provider string) {
	t.Helper()
	info, err := os.Stat(dir)
	check(t, err)
	if info.Mode().Perm() != 0o700 {
		t.Errorf("%s has mode %v", dir, info.Mode().Perm())
	}
	names := []string{"id_ed25519", "state.json", "machines/core-01/ssh_host_ed25519_key"}
	if provider == "qemu" {
		names = append(names, "machines/core-01/serial.log")
	}
	for _, name := range names {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v; want mode 0600", name, info, err)
		}
	}
}

// tree returns size and modification time of every file but what a running
// guest writes.
func tree(t *testing.T, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	check(t, filepath.Walk(dir, func(path string, info os.FileInfo, err error) error {
		switch filepath.Base(path) {
		case "disk.qcow2", "serial.log", "qemu.log":
		default:
			out[path] = fmt.Sprint(info.Size(), info.ModTime())
		}
		return err
	}))
	return out
}
