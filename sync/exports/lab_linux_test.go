package exports

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// labStage is set in the process that has mounts of its own: what its tests write
// to /etc is gone with it, and this host has never seen it.
const labStage = "HOSTCTL_EXPORTS_LAB"

// alice is the user whose shares the tests are about, and bob is another.
const (
	alice = 1801
	bob   = 1802
)

// labBinary is this test binary, as a user would have hostctl.
const labBinary = "/usr/local/bin/hostctl"

// inLab runs the tests in namespaces of their own, as root; other users' tests
// that want it are skipped, by name.
func inLab(m *testing.M) int {
	if os.Getuid() != 0 || os.Getenv(labStage) == "inside" {
		return m.Run()
	}
	if os.Getenv(labStage) == "enter" {
		if err := furnish(); err != nil {
			fmt.Fprintln(os.Stderr, "lab:", err)
			return 1
		}
		return again("inside", nil)
	}
	runtime.LockOSThread() // the child dies with the thread that started it
	defer runtime.UnlockOSThread()
	return again("enter", &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWPID | syscall.CLONE_NEWNET | syscall.CLONE_NEWUTS,
		Pdeathsig:  syscall.SIGKILL,
	})
}

func again(stage string, attr *syscall.SysProcAttr) int {
	self, err := os.Executable()
	if err != nil {
		fmt.Fprintln(os.Stderr, "lab:", err)
		return 1
	}
	cmd := exec.Command(self, os.Args[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), labStage+"="+stage)
	cmd.SysProcAttr = attr
	if err := cmd.Run(); err != nil {
		if code := cmd.ProcessState.ExitCode(); code > 0 {
			return code
		}
		fmt.Fprintln(os.Stderr, "lab:", err)
		return 1
	}
	return 0
}

// furnish makes the lab: an /etc that is a copy, and nothing of this host's NFS.
func furnish() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("keep mounts to ourselves: %w", err)
	}
	if err := unix.Mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return fmt.Errorf("mount /proc: %w", err)
	}
	const copied = "/run/etc"
	for _, dir := range []string{"/run", "/var/lib/nfs", "/usr/local/bin", "/home"} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
		if err := unix.Mount("tmpfs", dir, "tmpfs", unix.MS_NODEV, "mode=0755"); err != nil {
			return fmt.Errorf("hide %s: %w", dir, err)
		}
	}
	for _, argv := range [][]string{
		{"cp", "-a", "/etc", copied}, {"mount", "--bind", copied, "/etc"},
		{"rm", "-rf", "/etc/exports", "/etc/exports.d", "/etc/sudoers.d"},
		{"mkdir", "-m", "755", "/etc/sudoers.d", "/home/alice", "/home/bob"},
		{"chown", fmt.Sprint(alice), "/home/alice"}, {"chown", fmt.Sprint(bob), "/home/bob"},
		{"touch", "/var/lib/nfs/etab", "/var/lib/nfs/rmtab"},
		{"hostname", "lab"},
	} {
		if out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w: %s", strings.Join(argv, " "), err, out)
		}
	}
	for file, text := range map[string]string{
		"/etc/passwd": fmt.Sprintf("alice:x:%d:%d::/home/alice:/bin/sh\nbob:x:%d:%d::/home/bob:/bin/sh\n", alice, alice, bob, bob),
		"/etc/group":  fmt.Sprintf("alice:x:%d:\nbob:x:%d:\n", alice, bob),
		"/etc/shadow": "alice:*:20000:0:99999:7:::\nbob:*:20000:0:99999:7:::\n",
		"/etc/hosts":  "127.0.0.1 localhost lab\n",
	} {
		f, err := os.OpenFile(file, os.O_APPEND|os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		if _, err := f.WriteString(text); err != nil {
			return err
		}
		f.Close()
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	binary, err := os.ReadFile(self)
	if err != nil {
		return err
	}
	return os.WriteFile(labBinary, binary, 0o755)
}

// needLab skips a test for those who cannot have the lab, and fails it where the
// programs are missing.
func needLab(t *testing.T) {
	t.Helper()
	if os.Getenv(labStage) != "inside" {
		t.Skip("only root can have an /etc of its own")
	}
	for _, p := range []string{"exportfs", "sudo", "visudo"} {
		if _, err := exec.LookPath(p); err != nil {
			t.Fatalf("%v: run scripts/setup test", err)
		}
	}
	clean := func() {
		for _, path := range []string{tableFile, tableDir, liveTable, SudoersFile} {
			if err := os.RemoveAll(path); err != nil {
				t.Fatal(err)
			}
		}
		write(t, liveTable, "")
	}
	clean()
	t.Cleanup(clean)
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// folder makes a folder of a user's.
func folder(t *testing.T, uid int, name string) string {
	t.Helper()
	home := map[int]string{alice: "/home/alice", bob: "/home/bob", 0: "/home"}[uid]
	path := home + "/" + name
	if err := os.MkdirAll(path, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(path, uid, uid); err != nil {
		t.Fatal(err)
	}
	return path
}

// run is exportfs's verdict.
func runExportfs(t *testing.T) (string, bool) {
	t.Helper()
	cmd := exec.Command("exportfs", "-ra")
	out, err := cmd.CombinedOutput()
	return string(out), err == nil
}

// as runs the test binary as that user, and returns what it says and whether it
// succeeded.
func as(t *testing.T, uid uint32, word string, r Request) (said, string) {
	t.Helper()
	in, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	var stdout, stderr bytes.Buffer
	cmd := userCommand(uid, labBinary, word)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(in), &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return said{Err: strings.TrimSpace(stderr.String())}, stderr.String()
	}
	var s said
	if stdout.Len() > 0 {
		if err := json.Unmarshal(stdout.Bytes(), &s); err != nil {
			t.Fatalf("%v: %s", err, stdout.String())
		}
	}
	return s, stderr.String()
}

func userCommand(uid uint32, argv ...string) *exec.Cmd {
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Dir = "/"
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/"}
	// A session of its own: no terminal to ask on.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Credential: &syscall.Credential{Uid: uid, Gid: uid}}
	return cmd
}
