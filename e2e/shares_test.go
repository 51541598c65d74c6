//go:build e2e

package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// shareLine is a share as people have them in old files.
const shareLine = `
share "code" {
  type          = "nfs"
  host          = "~/code/share"
  guest         = "/home/core/share"
  mount_options = ["nolock", "vers=3"]
}`

// withShare adds the share to the machine file, and makes its folder. It
// returns the folder.
func (s *site) withShare(machineFile string) string {
	s.t.Helper()
	folder := filepath.Join(filepath.Dir(s.state), "code", "share") // ~ is beside the state
	check(s.t, os.MkdirAll(filepath.Join(folder, "app"), 0o755))
	put := func(name, content string) {
		check(s.t, os.WriteFile(filepath.Join(folder, name), []byte(content), 0o644))
	}
	put("from-host", "made on the host\n")
	put("app/Dockerfile", "FROM local/busybox\nCOPY greeting /greeting\nCMD cat /greeting\n")
	put("app/greeting", "from a shared folder\n")
	s.write(machineFile + shareLine)
	return folder
}

// sharedFolder uses the share as the guest has it now.
func sharedFolder(t *testing.T, s *site, folder string) {
	s = s.in(t)
	if got := s.hostctl("ssh", "-c", "cat share/from-host && echo made in the guest >share/from-guest && stat -c %U share share/from-host"); got != "made on the host\ncore\ncore\n" {
		t.Errorf("in the guest: %q", got)
	}
	data, err := os.ReadFile(filepath.Join(folder, "from-guest"))
	if err != nil || string(data) != "made in the guest\n" {
		t.Errorf("on the host: %q, %v", data, err)
	}
	s.hostctl("ssh", "-c", "docker build --tag shared share/app >&2")
	if got := s.shell(`docker run --rm shared`); got != "from a shared folder" {
		t.Errorf("the image built in the guest printed %q", got)
	}
	if got := s.shell(`docker run --rm -v /home/core/share:/w local/busybox cat /w/from-host`); got != "made on the host" {
		t.Errorf("a container read %q", got)
	}
	// As images of databases do: take the folder over, and go on as somebody else.
	s.shell(`docker run --rm -v /home/core/share:/w local/busybox sh -c 'busybox mkdir -p /w/db; busybox chown 999:998 /w/db; busybox chmod 700 /w/db'
		docker run --rm --user 999:998 -v /home/core/share:/w local/busybox sh -c 'echo row >/w/db/table'
		! docker run --rm --user 1234 -v /home/core/share:/w local/busybox cat /w/db/table 2>/dev/null`)
	if got := s.hostctl("ssh", "-c", "sudo stat -c '%u:%g %a' share/db share/db/table"); got != "999:998 700\n999:998 644\n" {
		t.Errorf("the container's folder: %q", got)
	}
	if data, err := os.ReadFile(filepath.Join(folder, "db", "table")); err != nil || string(data) != "row\n" {
		t.Errorf("the host sees %q, %v", data, err)
	}
	s.hostctl("ssh", "-c", "sudo rm -r share/db share/from-guest; docker rmi shared >&2")

	for _, name := range []string{"shares.key", "shares.json"} {
		info, err := os.Stat(filepath.Join(s.dir, ".hostctl", name))
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v; want mode 0600", name, info, err)
		}
	}
}

// agentDies ends the agent under a program that writes; up brings another, and
// the program goes on.
func agentDies(t *testing.T, s *site, folder string) {
	s = s.in(t)
	s.hostctl("ssh", "-c", `sudo systemd-run --quiet --unit=writer sh -c 'cd /home/core/share && i=0 && exec 3>lines && while [ ! -e enough ]; do i=$((i+1)); echo $i >&3; sync lines; done'
		until [ -s share/lines ]; do sleep 0.1; done`)
	found, err := filepath.Glob(filepath.Join(s.state, "hostctl", "run", "*", "agent.pid"))
	short, _ := filepath.Glob(filepath.Join(s.run, "hostctl", "*", "agent.pid"))
	if found = append(found, short...); err != nil || len(found) != 1 {
		t.Fatalf("pid files: %q, %v", found, err)
	}
	data, err := os.ReadFile(found[0])
	check(t, err)
	pid, err := strconv.Atoi(strings.TrimSpace(string(data)))
	check(t, err)
	check(t, syscall.Kill(pid, syscall.SIGKILL))
	s.hostctl("up")
	s.hostctl("ssh", "-c", `n=$(wc -l <share/lines); until [ $(wc -l <share/lines) -gt $n ]; do sleep 0.1; done; touch share/enough
		while systemctl is-active --quiet writer; do sleep 0.2; done; systemctl is-failed --quiet writer && exit 1; true`)
	data, err = os.ReadFile(filepath.Join(folder, "lines"))
	check(t, err)
	lines := strings.Fields(string(data))
	for i, line := range lines {
		if line != fmt.Sprint(i+1) {
			t.Fatalf("line %d is %q: something was lost", i+1, line)
		}
	}
	if len(lines) == 0 {
		t.Error("nothing was written")
	}
}
