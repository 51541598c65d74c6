package exports

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/creack/pty"

	"github.com/hostctl/hostctl/internal/run"
)

const (
	projectA = "aaaaaaaaaaaa"
	projectB = "bbbbbbbbbbbb"
)

// wanted is a project that wants folders exported to its guests.
func wanted(project string, paths ...string) Request {
	r := Request{Project: project}
	for _, p := range paths {
		r.Exports = append(r.Exports, Export{Path: p, Clients: []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}})
	}
	return r
}

// install puts the rule for alice in place, as visudo likes it.
func installRule(t *testing.T) {
	t.Helper()
	rule, err := Sudoers("alice", alice, []string{labBinary, serveWord})
	if err != nil {
		t.Fatal(err)
	}
	write(t, SudoersFile, rule)
	if err := os.Chmod(SudoersFile, 0o440); err != nil {
		t.Fatal(err)
	}
	for _, argv := range [][]string{{"visudo", "-c"}, {"visudo", "-c", "-s", "-f", SudoersFile}} {
		if out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s\n%s", err, out, rule)
		}
	}
}

// The way that is asked for: with the rule nothing is asked, and what there was to
// do is done once.
func TestWithRule(t *testing.T) {
	needLab(t)
	installRule(t)
	write(t, tableFile, "/srv 10.0.0.1(ro,no_subtree_check)\n")
	if err := os.Mkdir(tableDir, 0o755); err != nil {
		t.Fatal(err)
	}
	code := folder(t, alice, "my code")
	r := wanted(projectA, code)
	if s, out := as(t, alice, ensureWord, r); s.Err != "" || s.Found.Wanted {
		t.Fatalf("%+v %s", s, out)
	}
	own := filepath.Join(tableDir, "hostctl-"+projectA+".exports")
	want := fmt.Sprintf(`# hostctl %s uid 1801 begin: written anew by hostctl, do not edit
/home/alice/my\040code 127.0.0.1(rw,sync,insecure,subtree_check,all_squash,anonuid=1801,anongid=1801,fsid=%s)
# hostctl %s uid 1801 end
`, projectA, fsid(code), projectA)
	if got := read(t, own); got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
	if !strings.Contains(read(t, liveTable), `/home/alice/my\040code`+"\t127.0.0.1(rw,") {
		t.Errorf("not exported:\n%s", read(t, liveTable))
	}
	if got := read(t, tableFile); got != "/srv 10.0.0.1(ro,no_subtree_check)\n" {
		t.Errorf("other people's table: %q", got)
	}

	// Again: nothing is run, and nothing is written.
	before, err := os.Stat(own)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(SudoersFile); err != nil {
		t.Fatal(err)
	}
	if s, out := as(t, alice, ensureWord, r); s.Err != "" || !s.Found.Wanted {
		t.Errorf("%+v %s", s, out)
	}
	if after, err := os.Stat(own); err != nil || !os.SameFile(before, after) || !after.ModTime().Equal(before.ModTime()) {
		t.Errorf("the file was written again (%v)", err)
	}

	// An exportfs that never came, or a table that was lost: it is found out.
	installRule(t)
	write(t, liveTable, "")
	if s, out := as(t, alice, ensureWord, r); s.Err != "" || s.Found.Wanted {
		t.Errorf("%+v %s", s, out)
	}
	if !strings.Contains(read(t, liveTable), "127.0.0.1(rw,") {
		t.Error("not exported again")
	}

	// The share leaves the file.
	if s, out := as(t, alice, ensureWord, wanted(projectA)); s.Err != "" {
		t.Errorf("%+v %s", s, out)
	}
	left, err := os.ReadDir(tableDir)
	if err != nil || len(left) > 0 || strings.Contains(read(t, liveTable), "alice") {
		t.Errorf("%v %v %s", left, err, read(t, liveTable))
	}
	if s, _ := as(t, alice, ensureWord, wanted(projectA)); s.Err != "" || !s.Found.Wanted {
		t.Errorf("%+v", s)
	}
}

// Without the rule and without a terminal, nothing happens but advice.
func TestWithoutRule(t *testing.T) {
	needLab(t)
	s, _ := as(t, alice, askWord, wanted(projectA, folder(t, alice, "code")))
	if !strings.Contains(s.Err, ErrNotAllowed.Error()) || !strings.Contains(s.Hint, "hostctl share sudoers") {
		t.Errorf("%+v", s)
	}
	if _, err := os.Stat(tableFile); err == nil {
		t.Error("exports were written")
	}
	if _, out := as(t, alice, probeWord, Request{}); !strings.Contains(out, ErrNotAllowed.Error()) {
		t.Errorf("allowed: %s", out)
	}
	installRule(t)
	if s, out := as(t, alice, probeWord, Request{}); s.Err != "" {
		t.Errorf("not allowed: %s", out)
	}
	if _, err := os.Stat(tableFile); err == nil {
		t.Error("looking has written exports")
	}
}

// At a terminal, sudo asks for a password: once, and after it was said what for.
func TestPassword(t *testing.T) {
	needLab(t)
	write(t, SudoersFile, "Defaults lecture=never\nalice ALL=(root) ALL\n")
	if err := os.Chmod(SudoersFile, 0o440); err != nil {
		t.Fatal(err)
	}
	chpasswd := exec.Command("chpasswd")
	chpasswd.Stdin = strings.NewReader("alice:open sesame\n")
	if out, err := chpasswd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	in, err := json.Marshal(wanted(projectA, folder(t, alice, "code"), folder(t, alice, "more")))
	if err != nil {
		t.Fatal(err)
	}
	terminal, theirs, err := pty.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer terminal.Close()
	if err := theirs.Chown(alice, alice); err != nil {
		t.Fatal(err)
	}
	// Their streams are files and pipes, as in a script: the password comes from the
	// terminal alone.
	cmd := userCommand(alice, labBinary, askWord)
	cmd.ExtraFiles = []*os.File{theirs}
	cmd.SysProcAttr.Setctty, cmd.SysProcAttr.Ctty = true, 3
	var stdout, stderr bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(in), &stdout, &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	theirs.Close()
	asked := make(chan string)
	go func() {
		var all []byte
		typed := false
		for buf := make([]byte, 256); ; {
			n, err := terminal.Read(buf)
			all = append(all, buf[:n]...)
			if !typed && bytes.Contains(all, []byte("password")) {
				typed = true
				_, _ = io.WriteString(terminal, "open sesame\n")
			}
			if err != nil { // the last of them has closed it
				asked <- string(all)
				return
			}
		}
	}()
	err = cmd.Wait()
	said := <-asked
	if err != nil {
		t.Fatalf("%v: %s%s", err, &stderr, said)
	}
	if n := strings.Count(said, "password"); n != 1 {
		t.Errorf("asked %d times: %q", n, said)
	}
	if why := stderr.String(); !strings.Contains(why, "export /home/alice/code, /home/alice/more, which takes root") {
		t.Errorf("why: %q", why)
	}
	if !strings.Contains(read(t, liveTable), "/home/alice/more\t127.0.0.1") {
		t.Errorf("not exported:\n%s%s", read(t, liveTable), stdout.String())
	}
}

// What the rule permits is one command with one word, and that command takes no
// other's folders, addresses of the world, or exports of another's project.
func TestRulePermitsNoMore(t *testing.T) {
	needLab(t)
	installRule(t)
	if err := os.Mkdir(tableDir, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, argv := range [][]string{
		{labBinary}, {labBinary, ensureWord}, {labBinary, serveWord, "more"},
		{"/usr/bin/tee", tableFile}, {"exportfs", "-ra"},
	} {
		cmd := userCommand(alice, append([]string{"sudo", "-n", "--"}, argv...)...)
		cmd.Stdin = strings.NewReader("{}")
		if out, err := cmd.CombinedOutput(); err == nil {
			t.Errorf("%q runs: %s", argv, out)
		}
	}
	cmd := userCommand(bob, "sudo", "-n", labBinary, serveWord)
	if out, err := cmd.CombinedOutput(); err == nil {
		t.Errorf("bob may: %s", out)
	}

	if err := os.Symlink("/root", "/home/alice/link"); err != nil {
		t.Fatal(err)
	}
	defer os.Remove("/home/alice/link")
	code := folder(t, alice, "code")
	if err := os.Symlink(code, "/home/alice/own"); err != nil {
		t.Fatal(err)
	}
	defer os.Remove("/home/alice/own")
	write(t, "/home/alice/file", "")
	if _, err := system().Apply(t.Context(), wanted(projectB, folder(t, bob, "code")), Owner{bob, bob}); err != nil {
		t.Fatal(err)
	}
	before := read(t, filepath.Join(tableDir, "hostctl-"+projectB+".exports"))
	world := func(prefix string) Request {
		r := wanted(projectA, code)
		r.Exports[0].Clients = []netip.Prefix{netip.MustParsePrefix(prefix)}
		return r
	}
	notYours := func(path string) string { return path + " is not a folder of yours (uid 1801)" }
	for name, c := range map[string]struct {
		r    any
		want string
	}{
		"bob's":            {wanted(projectA, "/home/bob/code"), notYours("/home/bob/code")},
		"root's":           {wanted(projectA, "/etc"), notYours("/etc")},
		"hidden":           {wanted(projectA, "/root/.ssh"), notYours("/root/.ssh")},
		"no such":          {wanted(projectA, "/root/no such"), notYours("/root/no such")},
		"through a link":   {wanted(projectA, "/home/alice/link"), notYours("/home/alice/link")},
		"link to own":      {wanted(projectA, "/home/alice/own"), notYours("/home/alice/own")},
		"a file":           {wanted(projectA, "/home/alice/file"), notYours("/home/alice/file")},
		"everything":       {wanted(projectA, "/"), `export "/": the whole file system is not exported`},
		"dots":             {wanted(projectA, "/home/alice/../bob"), `export "/home/alice/../bob": the path is not absolute and clean`},
		"the world":        {world("0.0.0.0/0"), `export "/home/alice/code": 0.0.0.0/0 is neither of a private network nor loopback`},
		"more than a net":  {world("10.0.0.0/7"), `export "/home/alice/code": 10.0.0.0/7 is neither of a private network nor loopback`},
		"around a net":     {world("8.0.0.0/5"), `export "/home/alice/code": 8.0.0.0/5 is neither of a private network nor loopback`},
		"no network":       {world("10.0.0.1/8"), `export "/home/alice/code": 10.0.0.1/8 is no network`},
		"public":           {world("192.0.2.1/32"), `export "/home/alice/code": 192.0.2.1/32 is neither of a private network nor loopback`},
		"mapped":           {world("::ffff:10.0.0.1/128"), `export "/home/alice/code": ::ffff:10.0.0.1/128 is no network`},
		"nobody":           {Request{Project: projectA, Exports: []Export{{Path: code}}}, `export "/home/alice/code": there is nobody to export it to`},
		"both ways":        {Request{Project: projectA, Exports: []Export{{Path: code, Clients: wanted("", code).Exports[0].Clients}, {Path: code, Clients: wanted("", code).Exports[0].Clients, ReadOnly: true}}}, `export "/home/alice/code": 127.0.0.1 may write and may not`},
		"another's":        {wanted(projectB, code), fmt.Sprintf("/etc/exports.d/hostctl-%s.exports:1: these are the exports of the user with uid 1802, and not yours", projectB)},
		"another's, away":  {wanted(projectB), fmt.Sprintf("/etc/exports.d/hostctl-%s.exports:1: these are the exports of the user with uid 1802, and not yours", projectB)},
		"a file elsewhere": {wanted("../../etc/cron.d/x", code), `project id "../../etc/cron.d/x": want 12 hexadecimal digits`},
		"options":          {map[string]any{"project": projectA, "options": "no_root_squash"}, `unknown field "options"`},
	} {
		in, err := json.Marshal(c.r)
		if err != nil {
			t.Fatal(err)
		}
		// Past the user's side, whose checks are for better messages only.
		cmd := userCommand(alice, "sudo", "-n", labBinary, serveWord)
		cmd.Stdin = bytes.NewReader(in)
		out, err := cmd.CombinedOutput()
		var r reply
		if json.Unmarshal(out, &r) == nil && r.Error != "" {
			if r.Error != c.want {
				t.Errorf("%s: %q, want %q", name, r.Error, c.want)
			}
		} else if err == nil || !strings.Contains(string(out), c.want) {
			t.Errorf("%s: %v %s", name, err, out)
		}
	}
	left, err := os.ReadDir(tableDir)
	if err != nil || len(left) != 1 || read(t, filepath.Join(tableDir, left[0].Name())) != before {
		t.Errorf("%v %v", left, err)
	}
}

// No rule is written for a program that its owner could replace.
func TestRuleIsRefused(t *testing.T) {
	needLab(t)
	for _, path := range []string{"/home/alice/bin/hostctl", "/usr/local/bin/writable", "/usr/local/bin/link", "/usr/local/bin/a b", "/usr/local/bin/no*"} {
		if strings.Contains(path, "alice") {
			folder(t, alice, "bin")
		}
		write(t, path, "")
		switch filepath.Base(path) {
		case "writable":
			if err := os.Chmod(path, 0o777); err != nil {
				t.Fatal(err)
			}
		case "link":
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
			if err := os.Symlink(labBinary, path); err != nil {
				t.Fatal(err)
			}
		}
		if rule, err := Sudoers("alice", alice, []string{path, serveWord}); err == nil {
			t.Errorf("%s: %s", path, rule)
		}
		if err := os.RemoveAll(path); err != nil {
			t.Fatal(err)
		}
	}
	// Names that mean something else are written as numbers, and visudo agrees.
	for _, name := range []string{"ALL", "%admin", "DOMAIN\\alice", "a b", "alice,bob", "#0", "alice ALL=(ALL) NOPASSWD: ALL\n"} {
		rule, err := Sudoers(name, alice, []string{labBinary, serveWord})
		if err != nil || !strings.HasSuffix(rule, "\n#1801 ALL=(root) NOPASSWD:NOSETENV: /usr/local/bin/hostctl exports\n") || strings.Count(rule, "\n") != 4 {
			t.Errorf("%q: %v\n%s", name, err, rule)
		}
		cmd := exec.Command("visudo", "-c", "-f", "-")
		cmd.Stdin = strings.NewReader(rule)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%q: %s", name, out)
		}
	}
	// The number works as the name does.
	rule, err := Sudoers("ALL", alice, []string{labBinary, serveWord})
	if err != nil {
		t.Fatal(err)
	}
	write(t, SudoersFile, rule)
	if err := os.Chmod(SudoersFile, 0o440); err != nil {
		t.Fatal(err)
	}
	if s, out := as(t, alice, probeWord, Request{}); s.Err != "" {
		t.Error(out)
	}
	if s, _ := as(t, bob, probeWord, Request{}); s.Err == "" {
		t.Error("bob is allowed, too")
	}
}

// Somebody has broken a line meanwhile: what is ours goes all the same, and what is
// exported below that line stays so.
func TestRemovalBesideABrokenLine(t *testing.T) {
	needLab(t)
	for _, dir := range []bool{true, false} {
		if dir {
			if err := os.Mkdir(tableDir, 0o755); err != nil {
				t.Fatal(err)
			}
		} else if err := os.RemoveAll(tableDir); err != nil {
			t.Fatal(err)
		}
		other := folder(t, 0, "other")
		line := other + " 10.0.0.1(ro,no_subtree_check)\n"
		write(t, tableFile, line)
		r := wanted(projectA, folder(t, alice, "my code"))
		r.Exports[0].Clients = append(r.Exports[0].Clients, netip.MustParsePrefix("fd00:1::/64"), netip.MustParsePrefix("fd00:2::1/128"))
		if _, err := system().Apply(t.Context(), r, Owner{alice, alice}); err != nil {
			t.Fatal(err)
		}
		if live := read(t, liveTable); strings.Count(live, "\n") != 4 {
			t.Fatalf("exported:\n%s", live)
		}
		broken := "/srv 10.0.0.1(rx)\n"
		write(t, tableFile, broken+read(t, tableFile))
		if _, err := system().Apply(t.Context(), r, Owner{alice, alice}); err == nil || err.Error() != `/etc/exports:1: unknown option "rx"` {
			t.Errorf("%v", err)
		}
		found, err := system().Apply(t.Context(), wanted(projectA), Owner{alice, alice})
		if err != nil || len(found.Mistakes) != 1 {
			t.Errorf("%+v %v", found, err)
		}
		if got := read(t, tableFile); got != broken+line {
			t.Errorf("the table:\n%s", got)
		}
		if live := read(t, liveTable); strings.Count(live, "\n") != 1 || !strings.HasPrefix(live, other) {
			t.Errorf("exported:\n%s", live)
		}
		if found, err := system().Check(wanted(projectA), Owner{alice, alice}); err != nil || !found.Wanted {
			t.Errorf("%+v %v", found, err)
		}
	}
}

// killed executes, but for the last thing that Apply does: as if it was killed before.
type killed struct{ run.Exec }

func (k killed) Run(ctx context.Context, argv ...string) ([]byte, error) {
	if argv[1] == "-ra" {
		return nil, errors.New("killed")
	}
	return k.Exec.Run(ctx, argv...)
}

// Root's side is killed when the files are removed: nobody would find out any more
// that something is exported.
func TestRemovalIsKilled(t *testing.T) {
	needLab(t)
	if err := os.Mkdir(tableDir, 0o755); err != nil {
		t.Fatal(err)
	}
	code, both := folder(t, alice, "my code"), folder(t, alice, "both")
	s := system()
	s.Runner = killed{}
	for _, again := range []bool{false, true} {
		for _, r := range []Request{wanted(projectA, code, both), wanted(projectB, both)} {
			if _, err := system().Apply(t.Context(), r, Owner{alice, alice}); err != nil {
				t.Fatal(err)
			}
		}
		if again { // the first one was killed before it came to the files
			if out, err := exec.Command("exportfs", "-u", "127.0.0.1:"+code).CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
		}
		_, _ = s.Apply(t.Context(), wanted(projectA), Owner{alice, alice})
		if found, err := system().Check(wanted(projectA), Owner{alice, alice}); err != nil || !found.Wanted {
			t.Errorf("%+v %v", found, err)
		}
		if live := read(t, liveTable); strings.Contains(live, "code") || strings.Count(live, "both") != 1 {
			t.Errorf("exported:\n%s", live)
		}
	}
}

// A project without such shares has nothing to do with the state of these files.
func TestNothingWanted(t *testing.T) {
	needLab(t)
	write(t, tableFile, "# hostctl "+projectB+" uid 7 begin\n/srv 10.0.0.1(rx\n")
	if found, err := system().Check(wanted(projectA), Owner{alice, alice}); err != nil || !found.Wanted {
		t.Errorf("%+v %v", found, err)
	}
}

// Some may write to a folder, and others may not.
func TestFolderForSeveral(t *testing.T) {
	needLab(t)
	r := wanted(projectA, folder(t, alice, "code"), folder(t, alice, "code"))
	r.Exports[1].ReadOnly, r.Exports[1].Clients = true, []netip.Prefix{netip.MustParsePrefix("10.0.0.7/32")}
	for range 2 {
		if _, err := system().Apply(t.Context(), r, Owner{alice, alice}); err != nil {
			t.Fatal(err)
		}
		if found, err := system().Check(r, Owner{alice, alice}); err != nil || !found.Wanted {
			t.Errorf("%+v %v", found, err)
		}
		r.Exports[0], r.Exports[1] = r.Exports[1], r.Exports[0] // the order is no matter
	}
	live := read(t, liveTable)
	if strings.Count(live, "\n") != 2 || !strings.Contains(live, "code\t127.0.0.1(rw,") || !strings.Contains(live, "code\t10.0.0.7(ro,") {
		t.Error(live)
	}
	if out, ok := runExportfs(t); !ok || out != "" {
		t.Error(out)
	}
}
