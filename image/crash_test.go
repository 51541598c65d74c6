package image

import (
	"bufio"
	"bytes"
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/hostctl/hostctl/internal/hint"
)

// job is what another process of the test binary is asked to do: get an image
// and report progress and result as lines on its standard output.
type job struct {
	Addr         string // of the publishers; "": whatever the environment says
	Dir, KeysDir string
	CA           []byte
	Ref          Ref
	Mount        string // a size: a tmpfs of it is mounted on Dir first
	ReadOnly     bool   // and is made read-only
}

const jobVariable = "HOSTCTL_IMAGE_TEST_JOB"

func TestMain(m *testing.M) {
	if b := os.Getenv(jobVariable); b != "" {
		var j job
		if err := json.Unmarshal([]byte(b), &j); err != nil {
			fmt.Println("error", err)
			os.Exit(1)
		}
		j.run()
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// run prints "phase NAME" at each report, then "ok PATH" or "error TEXT",
// "hint TEXT" and "kind SENTINEL".
func (j *job) run() {
	if err := j.mount(); err != nil {
		fmt.Println("error", err)
		return
	}
	cfg := Config{Dir: j.Dir, KeysDir: j.KeysDir, RetryWait: time.Millisecond}
	if j.Addr != "" {
		cert, err := x509.ParseCertificate(j.CA)
		if err != nil {
			fmt.Println("error", err)
			return
		}
		pool := x509.NewCertPool()
		pool.AddCert(cert)
		cfg.Client = clientOf(j.Addr, pool)
	}
	s := NewStore(cfg)
	img, err := s.Ensure(context.Background(), j.Ref, func(p Progress) { fmt.Println("phase", p.Phase) })
	if err != nil {
		fmt.Println("error", err)
		fmt.Println("hint", hint.Of(err))
		for _, kind := range []error{ErrNoSpace, ErrUnwritable} {
			if errors.Is(err, kind) {
				fmt.Println("kind", kind)
			}
		}
		left, _ := filepath.Glob(filepath.Join(j.Dir, partialDir, "*", "download-*")) // the pattern is a good one
		fmt.Println("left", len(left))
		return
	}
	fmt.Println("ok", img.Path)
}

// start runs j in a process of its own.
func (j *job) start(t *testing.T, env ...string) (*exec.Cmd, *bufio.Scanner) {
	t.Helper()
	b, err := json.Marshal(j)
	check(t, err)
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(append(os.Environ(), jobVariable+"="+string(b)), env...)
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = j.attributes()
	out, err := cmd.StdoutPipe()
	check(t, err)
	check(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // it has usually ended
		_ = cmd.Wait()
	})
	return cmd, bufio.NewScanner(out)
}

// userKey makes a signer's key known by the user's key folder, which a process
// without the test's catalog reads too.
func userKey(t *testing.T, dir, family string, key *signer) {
	t.Helper()
	check(t, os.MkdirAll(filepath.Join(dir, family), 0o755))
	check(t, os.WriteFile(filepath.Join(dir, family, "test.asc"), key.public(), 0o644))
}

// SIGKILL in any phase leaves no half image, and the next call converges.
func TestKilled(t *testing.T) {
	t.Parallel()
	p, key := newPublishers(t), newSigner(t)
	disk := testDisk("x", 1<<20)
	p.fedora(t, "stable", "44.20260707.3.1", disk, key)
	url := fedoraURL("stable", "44.20260707.3.1", "x86_64")
	packed := p.files[url].content

	for _, phase := range []string{"resolving", "downloading", "verifying", "decompressing", "ok"} {
		t.Run(phase, func(t *testing.T) {
			dir := t.TempDir()
			j := &job{Addr: p.addr, CA: p.der, Dir: filepath.Join(dir, "images"), KeysDir: filepath.Join(dir, "keys"),
				Ref: Ref{Source: "fedora-coreos", Arch: "amd64"}}
			userKey(t, j.KeysDir, "fedora-coreos", key)
			p.behave(url, func(w http.ResponseWriter, r *http.Request, n int) bool {
				if phase != "downloading" || r.Header.Get("Range") != "" {
					return false
				}
				w.Header().Set("Content-Length", strconv.Itoa(len(packed)))
				w.Header().Set("ETag", `"x"`)
				trickle(w, r, packed)
				return true
			})
			cmd, lines := j.start(t)
			seen := 0
			for lines.Scan() {
				word, rest, _ := strings.Cut(lines.Text(), " ")
				if word == "error" {
					t.Fatal(rest)
				}
				// The third report of a download comes after its first bytes.
				if rest == phase || word == phase {
					seen++
				}
				if seen == 3 || seen == 1 && phase != "downloading" {
					check(t, cmd.Process.Kill())
					break
				}
			}
			_ = cmd.Wait() // killed

			s := NewStore(Config{Dir: j.Dir, KeysDir: j.KeysDir, Client: p.client(), RetryWait: time.Millisecond})
			if img, err := s.Lookup(t.Context(), j.Ref); err == nil {
				if b, err := os.ReadFile(img.Path); err != nil || !bytes.Equal(b, disk) {
					t.Fatalf("a half image was published (%v)", err)
				}
			}
			p.requests("")
			img, err := s.Ensure(t.Context(), j.Ref, nil)
			check(t, err)
			if b, err := os.ReadFile(img.Path); err != nil || !bytes.Equal(b, disk) {
				t.Errorf("content differs (%v)", err)
			}
			if got := p.requests(".xz"); phase == "downloading" && (len(got) == 0 || !strings.Contains(got[0], " bytes=")) {
				t.Errorf("requests %q: the download did not go on where it ended", got)
			}
			for _, e := range leftovers(t, s) {
				t.Errorf("left behind: %s", e)
			}
		})
	}
}

// Two processes and this one: one download.
func TestProcessesInParallel(t *testing.T) {
	t.Parallel()
	p, key := newPublishers(t), newSigner(t)
	p.fedora(t, "stable", "44.20260707.3.1", testDisk("x", 512<<10), key)
	url := fedoraURL("stable", "44.20260707.3.1", "x86_64")
	packed := p.files[url].content
	p.behave(url, func(w http.ResponseWriter, r *http.Request, n int) bool {
		w.Header().Set("Content-Length", strconv.Itoa(len(packed)))
		trickle(w, r, packed)
		return true
	})
	dir := t.TempDir()
	j := &job{Addr: p.addr, CA: p.der, Dir: filepath.Join(dir, "images"), KeysDir: filepath.Join(dir, "keys"),
		Ref: Ref{Source: "fedora-coreos", Arch: "amd64"}}
	userKey(t, j.KeysDir, "fedora-coreos", key)
	_, one := j.start(t)
	_, two := j.start(t)
	s := NewStore(Config{Dir: j.Dir, KeysDir: j.KeysDir, Client: p.client()})
	img, err := s.Ensure(t.Context(), j.Ref, nil)
	check(t, err)
	for _, lines := range []*bufio.Scanner{one, two} {
		last := ""
		for lines.Scan() {
			last = lines.Text()
		}
		if last != "ok "+img.Path {
			t.Errorf("a process ended with %q", last)
		}
	}
	if got := p.requests(".xz"); len(got) != 1 {
		t.Errorf("the disk was fetched %d times", len(got))
	}
}

// leftovers lists what is in the folder of unfinished downloads besides locks.
func leftovers(t *testing.T, s *Store) []string {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(s.dir, partialDir))
	check(t, err)
	var names []string
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), ".lock") {
			names = append(names, e.Name())
		}
	}
	return names
}
