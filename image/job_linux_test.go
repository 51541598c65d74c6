package image

import (
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// attributes gives a job that mounts something its own user and mount
// namespaces, so that no privilege is needed and nothing stays mounted.
func (j *job) attributes() *syscall.SysProcAttr {
	if j.Mount == "" {
		return nil
	}
	return &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
	}
}

func (j *job) mount() error {
	if j.Mount == "" {
		return nil
	}
	if err := syscall.Mount("tmpfs", j.Dir, "tmpfs", 0, "size="+j.Mount); err != nil {
		return fmt.Errorf("mount tmpfs: %w", err)
	}
	if j.ReadOnly {
		if err := syscall.Mount("", j.Dir, "", syscall.MS_REMOUNT|syscall.MS_RDONLY, ""); err != nil {
			return fmt.Errorf("remount: %w", err)
		}
	}
	return nil
}

// A real file system that is full, or cannot be written to.
func TestFullAndReadOnlyDisk(t *testing.T) {
	t.Parallel()
	p := newPublishers(t)
	disk := testDisk("x", 2<<20)
	zeros := append(testDisk("y", 0), make([]byte, 4<<20)...)
	for i := 512 << 10; i < len(zeros); i += 4096 {
		zeros[i] = 1 // no holes, but compressible
	}
	packed := compressXZ(t, zeros)
	const lengthless = "https://example.test/lengthless.qcow2"
	const small = "https://example.test/small.qcow2.xz"
	p.put(testURL, disk)
	p.put(lengthless, disk)
	p.put(small, packed)
	p.behave(lengthless, func(w http.ResponseWriter, r *http.Request, n int) bool {
		w.(http.Flusher).Flush()
		_, _ = w.Write(disk)
		return true
	})
	const advice = "free some space (hostctl image prune removes images no machine uses), or set XDG_CACHE_HOME to a larger disk"
	for _, test := range []struct {
		name, url string
		content   []byte
		size      string
		readOnly  bool
		want      string // of the error, after the folder
		kind      error
		hint      string
	}{
		{"known length", testURL, disk, "1m", false, ": no space left: 2MiB needed, 1", ErrNoSpace, advice},
		{"unknown length", lengthless, disk, "1m", false, ": no space left", ErrNoSpace, advice},
		{"decompressed", small, packed, "2m", false, ": no space left", ErrNoSpace, advice},
		{"read-only", testURL, disk, "2m", true, "image cache is not writable: mkdir ", ErrUnwritable, "make "},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			j := &job{Addr: p.addr, CA: p.der, Dir: t.TempDir(), Mount: test.size, ReadOnly: test.readOnly,
				Ref: Ref{Source: test.url, Family: "flatcar", Checksum: sumString(test.content)}}
			_, lines := j.start(t)
			got := map[string]string{}
			for lines.Scan() {
				word, rest, _ := strings.Cut(lines.Text(), " ")
				got[word] = rest
			}
			if text := strings.TrimPrefix(got["error"], j.Dir); !strings.HasPrefix(text, test.want) {
				t.Errorf("error %q, want %q", text, test.want)
			}
			if got["kind"] != test.kind.Error() || !strings.HasPrefix(got["hint"], test.hint) {
				t.Errorf("kind %q, hint %q", got["kind"], got["hint"])
			}
			if test.url == lengthless && got["left"] != "0" {
				t.Errorf("%s files are left of an answer that may never end", got["left"])
			}
		})
	}
}

// The client that a store makes for itself goes through the proxy that the
// environment names. (Linux reads SSL_CERT_FILE, others do not.)
func TestProxyFromEnvironment(t *testing.T) {
	t.Parallel()
	p := newPublishers(t)
	content := testDisk("x", 0)
	p.put(testURL, content)
	var asked []string
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = append(asked, r.Method+" "+r.Host)
		server, err := net.Dial("tcp", p.addr)
		if err != nil {
			t.Error(err)
			return
		}
		defer server.Close()
		w.WriteHeader(http.StatusOK)
		client, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer client.Close()
		go func() {
			_, _ = io.Copy(server, client) // ends with either side
			server.Close()
		}()
		_, _ = io.Copy(client, server)
	}))
	defer proxy.Close()
	dir := t.TempDir()
	ca := filepath.Join(dir, "ca.pem")
	check(t, os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: p.der}), 0o644))
	j := &job{Dir: filepath.Join(dir, "images"), Ref: Ref{Source: testURL, Family: "flatcar", Checksum: sumString(content)}}
	cmd, lines := j.start(t, "HTTPS_PROXY="+proxy.URL, "SSL_CERT_FILE="+ca)
	last := ""
	for lines.Scan() {
		last = lines.Text()
	}
	check(t, cmd.Wait())
	if !strings.HasPrefix(last, "ok ") || len(asked) != 1 || asked[0] != "CONNECT example.test:443" {
		t.Errorf("got %q, the proxy was asked %q", last, asked)
	}
}
