//go:build e2e

package e2e

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"
)

// stressTools are the programs that testdata/stress.sh needs.
var stressTools = []string{
	"bash", "stress-ng", "fio", "dbench", "git", "tar", "gzip",
	"awk", "cat", "chmod", "cmp", "cp", "dd", "diff", "head", "ln", "mkdir", "mktemp", "rm", "seq", "stat", "sync", "tail", "truncate",
}

// stressShare has programs that look for mistakes of file systems work on the
// share. They are this computer's own, with their libraries, in a folder of the
// share that is made the root for them: the guest has none of them.
func stressShare(t *testing.T, s *site, folder string) {
	s = s.in(t)
	root := filepath.Join(folder, "stress")
	for _, dir := range []string{"bin", "dev", "proc", "tmp", "scratch", "usr/lib/git-core"} {
		check(t, os.MkdirAll(filepath.Join(root, dir), 0o755))
	}
	put := func(from, to string) {
		data, err := os.ReadFile(from)
		check(t, err)
		to = filepath.Join(root, to)
		check(t, os.MkdirAll(filepath.Dir(to), 0o755))
		check(t, os.WriteFile(to, data, 0o755))
	}
	library := regexp.MustCompile(`/\S+`)
	for _, name := range stressTools {
		path, err := exec.LookPath(name)
		check(t, err)
		put(path, "bin/"+name)
		list, err := exec.CommandContext(t.Context(), "ldd", path).Output()
		check(t, err)
		for _, l := range library.FindAllString(string(list), -1) {
			put(l, l)
		}
	}
	check(t, os.Symlink("bash", filepath.Join(root, "bin/sh")))
	for _, name := range []string{"git", "git-upload-pack"} {
		check(t, os.Symlink("../../../bin/git", filepath.Join(root, "usr/lib/git-core", name)))
	}
	put("testdata/stress.sh", "stress.sh")
	// The whole of it, 25 MiB, is read before it starts.
	load, err := os.ReadFile("/usr/share/dbench/client.txt")
	check(t, err)
	load = load[:200<<10]
	load = load[:bytes.LastIndexByte(load, '\n')+1]
	check(t, os.WriteFile(filepath.Join(root, "client.txt"), load, 0o644))

	r := s.exec(t.Context(), "", hostctl, "ssh", "-c", `sudo sh -ec '
		cd share/stress
		mknod -m 666 dev/null c 1 3
		mknod -m 666 dev/zero c 1 5
		mknod -m 666 dev/urandom c 1 9
		mount -t proc proc proc
		status=0
		chroot . /bin/bash /stress.sh || status=$?
		umount -l proc
		exit $status'`)
	if r.code != 0 {
		t.Errorf("stress: exit %d\n%s%s", r.code, r.stdout, r.stderr)
	}
	t.Logf("stress:\n%s", r.stdout)
	left, err := os.ReadDir(filepath.Join(root, "scratch"))
	check(t, err)
	for _, e := range left {
		t.Errorf("left on the share: %s", e.Name())
	}
	check(t, os.RemoveAll(root))
}
