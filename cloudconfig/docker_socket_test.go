//go:build unix

package cloudconfig

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// What fails half-way is tried again by the next call, and what is as it should be
// is left alone.
func TestDockerSocketCommand(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	unit, log, fail := filepath.Join(dir, "docker-tcp.socket"), filepath.Join(dir, "log"), filepath.Join(dir, "fail")
	put := func(path, content string, mode os.FileMode) {
		t.Helper()
		if err := os.WriteFile(path, []byte(content), mode); err != nil {
			t.Fatal(err)
		}
	}
	get := func(path string) string {
		t.Helper()
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	bin := filepath.Join(dir, "bin")
	if err := os.Mkdir(bin, 0o700); err != nil {
		t.Fatal(err)
	}
	put(filepath.Join(bin, "sudo"), "#!/bin/sh\nexec \"$@\"\n", 0o700)
	put(filepath.Join(bin, "systemctl"), "#!/bin/sh\necho \"$@\" >>"+log+"\n[ \"$1\" != stop ] || ! rm "+fail+" 2>/dev/null\n", 0o700)
	put(unit, "old\n", 0o600)
	put(log, "", 0o600)
	run := func() error {
		cmd := exec.CommandContext(t.Context(), "/bin/sh", "-c", strings.ReplaceAll(DockerSocketCommand, "/etc/systemd/system", dir))
		cmd.Env = append(os.Environ(), "PATH="+bin+":"+os.Getenv("PATH"))
		cmd.Stdin = strings.NewReader("new\n")
		return cmd.Run()
	}

	put(fail, "", 0o600)
	if err := run(); err == nil || get(unit) != "old\n" {
		t.Errorf("a failed start: %v, the unit is %q", err, get(unit))
	}
	if err := run(); err != nil || get(unit) != "new\n" {
		t.Errorf("the next call: %v, the unit is %q", err, get(unit))
	}
	before := get(log)
	if err := run(); err != nil || get(log) != before {
		t.Errorf("with nothing to do: %v, %q", err, strings.TrimPrefix(get(log), before))
	}
	if left, _ := filepath.Glob(unit + ".*"); len(left) > 0 {
		t.Errorf("left: %q", left)
	}
}
