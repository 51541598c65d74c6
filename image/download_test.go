package image

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hostctl/hostctl/internal/hint"
)

const testURL = "https://example.test/disk.qcow2"

// urlRef asks for content by URL, which takes the shortest way through the
// downloader.
func urlRef(content []byte) Ref {
	return Ref{Source: testURL, Family: "dockerhost", Checksum: sumString(content)}
}

func sumString(content []byte) string {
	h := newHash("sha256")
	h.Write(content)
	return sumOf("sha256", h).String()
}

// cut answers with the first n bytes of what was asked for and breaks the
// connection.
func cut(w http.ResponseWriter, content []byte, n int) {
	w.Header().Set("Content-Length", strconv.Itoa(len(content)))
	w.Header().Set("ETag", `"same"`)
	_, _ = w.Write(content[:n]) // the client may be gone
	panic(http.ErrAbortHandler)
}

// trickle sends content slowly, for as long as somebody listens.
func trickle(w http.ResponseWriter, r *http.Request, content []byte) {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for part := range slices.Chunk(content, 16<<10) {
		_, _ = w.Write(part)
		w.(http.Flusher).Flush()
		select {
		case <-r.Context().Done():
			return
		case <-tick.C:
		}
	}
}

func TestDownloadFaults(t *testing.T) {
	t.Parallel()
	content := testDisk("content", 1<<20)
	other := testDisk("other", 1<<20)
	half := len(content) / 2
	type handler = func(w http.ResponseWriter, r *http.Request, n int) bool
	for _, test := range []struct {
		name     string
		behave   handler
		requests []string // nil: not compared
		err      error    // nil: the image comes
		status   int      // of an HTTPError
		want     string   // of the error, after the URL
	}{
		{
			name:     "nothing",
			behave:   func(http.ResponseWriter, *http.Request, int) bool { return false },
			requests: []string{"disk.qcow2"},
		},
		{
			name: "connection drops twice",
			behave: func(w http.ResponseWriter, r *http.Request, n int) bool {
				w.Header().Set("ETag", `"same"`)
				switch n {
				case 1:
					cut(w, content, half)
				case 2:
					w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", half, len(content)-1, len(content)))
					w.Header().Set("Content-Length", strconv.Itoa(len(content)-half))
					w.WriteHeader(http.StatusPartialContent)
					_, _ = w.Write(content[half : half+100])
					w.(http.Flusher).Flush()
					panic(http.ErrAbortHandler)
				}
				if got := r.Header.Get("If-Range"); got != `"same"` {
					t.Errorf("If-Range is %q", got)
				}
				return false
			},
			// ServeContent's own ETag differs, so the third answer is whole.
			requests: []string{"disk.qcow2", fmt.Sprintf("disk.qcow2 bytes=%d-", half), fmt.Sprintf("disk.qcow2 bytes=%d-", half+100)},
		},
		{
			name: "server ignores Range",
			behave: func(w http.ResponseWriter, r *http.Request, n int) bool {
				if n == 1 {
					cut(w, content, half)
				}
				_, _ = w.Write(content)
				return true
			},
			requests: []string{"disk.qcow2", fmt.Sprintf("disk.qcow2 bytes=%d-", half)},
		},
		{
			name: "server answers with another range",
			behave: func(w http.ResponseWriter, r *http.Request, n int) bool {
				if n == 1 {
					cut(w, content, half)
				}
				if n == 2 {
					w.Header().Set("Content-Range", fmt.Sprintf("bytes 0-%d/%d", len(content)-1, len(content)))
					w.WriteHeader(http.StatusPartialContent)
					_, _ = w.Write(content)
					return true
				}
				return false
			},
			requests: []string{"disk.qcow2", fmt.Sprintf("disk.qcow2 bytes=%d-", half), "disk.qcow2"},
		},
		{
			name: "server answers with less than the range",
			behave: func(w http.ResponseWriter, r *http.Request, n int) bool {
				if n == 1 {
					cut(w, content, half)
				}
				if n == 2 {
					w.Header().Set("ETag", `"same"`)
					w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", half, half+99, len(content)))
					w.WriteHeader(http.StatusPartialContent)
					_, _ = w.Write(content[half : half+100])
					return true
				}
				return false
			},
			// ServeContent's own ETag differs, so the third answer is whole.
			requests: []string{"disk.qcow2", fmt.Sprintf("disk.qcow2 bytes=%d-", half), fmt.Sprintf("disk.qcow2 bytes=%d-", half+100)},
		},
		{
			name: "range cannot be satisfied any more",
			behave: func(w http.ResponseWriter, r *http.Request, n int) bool {
				if n == 1 {
					cut(w, content, half)
				}
				if n == 2 {
					w.WriteHeader(http.StatusRequestedRangeNotSatisfiable)
					return true
				}
				return false
			},
			requests: []string{"disk.qcow2", fmt.Sprintf("disk.qcow2 bytes=%d-", half), "disk.qcow2"},
		},
		{
			name: "500 and 503, then well",
			behave: func(w http.ResponseWriter, r *http.Request, n int) bool {
				if n <= 3 {
					w.WriteHeader([]int{500, 503, 429}[n-1])
				}
				return n <= 3
			},
			requests: []string{"disk.qcow2", "disk.qcow2", "disk.qcow2", "disk.qcow2"},
		},
		{
			name: "stalls, then well",
			behave: func(w http.ResponseWriter, r *http.Request, n int) bool {
				if n > 1 {
					return false
				}
				w.Header().Set("Content-Length", strconv.Itoa(len(content)))
				_, _ = w.Write(content[:half])
				w.(http.Flusher).Flush()
				<-r.Context().Done()
				return true
			},
			requests: []string{"disk.qcow2", fmt.Sprintf("disk.qcow2 bytes=%d-", half)},
		},
		{
			name: "wrong half, then well",
			behave: func(w http.ResponseWriter, r *http.Request, n int) bool {
				if n == 1 {
					w.Header().Set("ETag", `"same"`)
					cut(w, other, half)
				}
				if n == 2 {
					w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", half, len(content)-1, len(content)))
					w.WriteHeader(http.StatusPartialContent)
					_, _ = w.Write(content[half:])
					return true
				}
				return false
			},
			requests: []string{"disk.qcow2", fmt.Sprintf("disk.qcow2 bytes=%d-", half), "disk.qcow2"},
		},
		{
			name: "no length",
			behave: func(w http.ResponseWriter, r *http.Request, n int) bool {
				w.(http.Flusher).Flush()
				_, _ = w.Write(content)
				return true
			},
		},
		{
			name: "wrong bytes",
			behave: func(w http.ResponseWriter, r *http.Request, n int) bool {
				_, _ = w.Write(other)
				return true
			},
			requests: []string{"disk.qcow2"},
			err:      ErrChecksum,
			want:     ": checksum mismatch: want " + sumString(content) + ", got " + sumString(other),
		},
		{
			name: "too short, and says so",
			behave: func(w http.ResponseWriter, r *http.Request, n int) bool {
				_, _ = w.Write(content[:half])
				return true
			},
			requests: []string{"disk.qcow2"},
			err:      ErrChecksum,
			want:     ": checksum mismatch: want " + sumString(content) + ", got " + sumString(content[:half]),
		},
		{
			name: "announces more than there is",
			behave: func(w http.ResponseWriter, r *http.Request, n int) bool {
				if r.Header.Get("Range") != "" {
					w.WriteHeader(http.StatusRequestedRangeNotSatisfiable)
					return true
				}
				w.Header().Set("Content-Length", strconv.Itoa(len(content)+1000))
				_, _ = w.Write(content)
				return true
			},
			err:  ErrTruncated,
			want: fmt.Sprintf(": truncated: %d of %d bytes", len(content), len(content)+1000),
		},
		{
			name: "announces less than it sends",
			behave: func(w http.ResponseWriter, r *http.Request, n int) bool {
				conn, buf, err := http.NewResponseController(w).Hijack()
				if err != nil {
					t.Error(err)
					return true
				}
				defer conn.Close()
				fmt.Fprintf(buf, "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n", half)
				_, _ = buf.Write(content)
				_ = buf.Flush()
				return true
			},
			err:  ErrChecksum,
			want: ": checksum mismatch: want " + sumString(content) + ", got " + sumString(content[:half]),
		},
		{
			name: "404",
			behave: func(w http.ResponseWriter, r *http.Request, n int) bool {
				http.NotFound(w, r)
				return true
			},
			requests: []string{"disk.qcow2"},
			status:   404,
			want:     ": server answered 404 Not Found",
		},
		{
			name: "always 502",
			behave: func(w http.ResponseWriter, r *http.Request, n int) bool {
				w.WriteHeader(http.StatusBadGateway)
				return true
			},
			requests: slices.Repeat([]string{"disk.qcow2"}, 1+maxRetries),
			status:   502,
			want:     ": server answered 502 Bad Gateway",
		},
		{
			name: "always drops at once",
			behave: func(w http.ResponseWriter, r *http.Request, n int) bool {
				w.Header().Set("Content-Length", strconv.Itoa(len(content)))
				w.(http.Flusher).Flush()
				panic(http.ErrAbortHandler)
			},
			requests: slices.Repeat([]string{"disk.qcow2"}, maxIdle),
			err:      ErrTruncated,
			want:     fmt.Sprintf(": truncated: 0 of %d bytes", len(content)),
		},
		{
			name: "stalls for ever",
			behave: func(w http.ResponseWriter, r *http.Request, n int) bool {
				w.Header().Set("Content-Length", strconv.Itoa(len(content)))
				w.(http.Flusher).Flush()
				<-r.Context().Done()
				return true
			},
			requests: slices.Repeat([]string{"disk.qcow2"}, maxIdle),
			err:      errStalled,
			want:     ": server stopped sending",
		},
		{
			name: "redirects out of TLS",
			behave: func(w http.ResponseWriter, r *http.Request, n int) bool {
				http.Redirect(w, r, "http://example.test/disk.qcow2", http.StatusFound)
				return true
			},
			requests: []string{"disk.qcow2"},
			want:     `Get "http://example.test/disk.qcow2": redirected to http://example.test/disk.qcow2: only https is followed`,
		},
		{
			name: "a page in place of the disk",
			behave: func(w http.ResponseWriter, r *http.Request, n int) bool {
				_, _ = w.Write([]byte("<html>please log in</html>"))
				return true
			},
			err:  ErrChecksum,
			want: ": checksum mismatch: want " + sumString(content) + ", got " + sumString([]byte("<html>please log in</html>")),
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			p := newPublishers(t)
			p.put(testURL, content)
			p.behave(testURL, test.behave)
			s := p.store(t)
			img, err := s.Ensure(t.Context(), urlRef(content), nil)
			if got := p.requests(""); test.requests != nil && !slices.Equal(got, test.requests) {
				t.Errorf("requests %q, want %q", got, test.requests)
			}
			if test.want == "" {
				check(t, err)
				if b, err := os.ReadFile(img.Path); err != nil || sumString(b) != sumString(content) {
					t.Errorf("the image is wrong (%v)", err)
				}
				return
			}
			if err == nil || err.Error() != testURL+test.want && err.Error() != test.want {
				t.Fatalf("got  %v\nwant %s%s", err, testURL, test.want)
			}
			if test.err != nil && !errors.Is(err, test.err) {
				t.Errorf("%#v is not %v", err, test.err)
			}
			var answer *HTTPError
			if errors.As(err, &answer) && answer.Status != test.status {
				t.Errorf("status %d", answer.Status)
			}
			assertEmpty(t, s)
			if errors.Is(err, ErrChecksum) {
				if left, err := os.ReadDir(filepath.Join(s.workDir(urlSeries(mustChecksum(t, content)) + "/" + mustChecksum(t, content).Hex[:shortSum]))); err == nil {
					for _, e := range left {
						if strings.HasPrefix(e.Name(), "download") {
							t.Errorf("wrong bytes were kept: %s", e.Name())
						}
					}
				}
			}
		})
	}
}

// The last part of a URL is the server's to choose: it must not decide where
// on this host a file is written, nor be too long for a name.
// An answer that does not end, and never said that it would, is cut off while
// there is room.
func TestEndlessDownload(t *testing.T) {
	t.Parallel()
	p := newPublishers(t)
	p.put(testURL, nil)
	p.behave(testURL, func(w http.ResponseWriter, r *http.Request, _ int) bool {
		for part := make([]byte, 1<<20); r.Context().Err() == nil; {
			if _, err := w.Write(part); err != nil {
				break
			}
		}
		return true
	})
	file, err := openPartial(t.Context(), filepath.Join(t.TempDir(), "download"), testURL, "sha256")
	check(t, err)
	defer file.f.Close()
	full := &SpaceError{Dir: "/cache", Need: spareRoom, Free: 1}
	looks := 0
	err = p.store(t).web.fill(t.Context(), file, func(need int64) error {
		if need != spareRoom {
			t.Errorf("asked for room for %d bytes", need)
		}
		if looks++; looks == 3 {
			return full
		}
		return nil
	}, nil)
	if !errors.Is(err, full) || file.n > 4*lookEvery {
		t.Errorf("got %v after %d bytes", err, file.n)
	}
}

func TestDownloadNames(t *testing.T) {
	t.Parallel()
	content := testDisk("named", 0)
	for _, name := range []string{
		strings.Repeat("long", 100),
		`..%5C..%5C..%5Cescaped`,
		"C:stream",
		"..%2F..",
		"a%20blank",
	} {
		t.Run(name[:min(len(name), 20)], func(t *testing.T) {
			t.Parallel()
			p := newPublishers(t)
			decoded, err := url.PathUnescape(name)
			check(t, err)
			p.put("https://example.test/"+decoded, content)
			ref := Ref{Source: "https://example.test/" + name, Family: "dockerhost", Checksum: sumString(content)}
			_, err = p.store(t).Ensure(t.Context(), ref, nil)
			check(t, err)
		})
	}
	for from, want := range map[string]string{
		`https://example.test/..%5C..%5Cx`:    "download-.._.._x",
		"https://example.test/":               "download-_",
		"https://example.test/disk.qcow2?a=b": "download-disk.qcow2",
	} {
		if got, err := downloadName(from); err != nil || got != want {
			t.Errorf("%s: got %q, %v, want %q", from, got, err, want)
		}
	}
}

func mustChecksum(t testing.TB, content []byte) Checksum {
	t.Helper()
	c, err := ParseChecksum(sumString(content))
	check(t, err)
	return c
}

// A download that failed goes on in the next call, where it ended.
func TestDownloadResumes(t *testing.T) {
	t.Parallel()
	content := testDisk("content", 1<<20)
	p := newPublishers(t)
	p.put(testURL, content)
	s := p.store(t)
	ctx, cancel := context.WithCancel(t.Context())
	p.behave(testURL, func(w http.ResponseWriter, r *http.Request, n int) bool {
		if n > 1 {
			return false
		}
		w.Header().Set("Content-Length", strconv.Itoa(len(content)))
		trickle(w, r, content)
		return true
	})
	_, err := s.Ensure(ctx, urlRef(content), func(p Progress) {
		if p.Phase == "downloading" && p.Done > 0 {
			cancel()
		}
	})
	if !errors.Is(err, context.Canceled) {
		t.Fatalf("cancelled download gave %v", err)
	}
	p.requests("")
	var first Progress
	_, err = s.Ensure(t.Context(), urlRef(content), func(p Progress) {
		if first.Done == 0 {
			first = p
		}
	})
	check(t, err)
	got := p.requests("")
	if len(got) != 1 || !strings.HasPrefix(got[0], "disk.qcow2 bytes=") || got[0] == "disk.qcow2 bytes=0-" {
		t.Errorf("requests %q, want one for the rest", got)
	}
	if first.Done == 0 {
		t.Error("progress did not begin with what was there")
	}
}

// Cancelling ends a stalled download at once.
func TestDownloadCancel(t *testing.T) {
	t.Parallel()
	content := testDisk("content", 0)
	p := newPublishers(t)
	p.put(testURL, content)
	ctx, cancel := context.WithCancel(t.Context())
	p.behave(testURL, func(w http.ResponseWriter, r *http.Request, n int) bool {
		cancel()
		<-r.Context().Done()
		return true
	})
	start := time.Now()
	_, err := p.store(t).Ensure(ctx, urlRef(content), nil)
	if took := time.Since(start); !errors.Is(err, context.Canceled) || took > 5*time.Second {
		t.Errorf("got %v after %s", err, took)
	}
}

// Many at once cause one download.
func TestDownloadInParallel(t *testing.T) {
	t.Parallel()
	p, key := newPublishers(t), newSigner(t)
	p.flatcar("stable", "current", "4593.2.5", testDisk("x", 1<<20), key)
	s := p.store(t, key)
	second := NewStore(Config{Dir: s.Dir(), KeysDir: s.keysDir, Client: p.client(), Catalog: s.catalog})
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			store := s
			if i%2 == 1 {
				store = second
			}
			if _, err := store.Ensure(t.Context(), Ref{Source: "flatcar", Arch: "amd64"}, nil); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if got := p.requests("image.img"); len(got) != 1 {
		t.Errorf("the disk was fetched %d times", len(got))
	}
}

// The one that waits says so, and can be cancelled.
func TestDownloadWaits(t *testing.T) {
	t.Parallel()
	content := testDisk("content", 0)
	p := newPublishers(t)
	p.put(testURL, content)
	s := p.store(t)
	src, err := s.resolve(urlRef(content))
	check(t, err)
	check(t, os.MkdirAll(filepath.Join(s.dir, partialDir), 0o755))
	unlock, err := s.lock(t.Context(), s.workDir(src.series+"/"+src.version), nil)
	check(t, err)
	defer unlock()
	ctx, cancel := context.WithCancel(t.Context())
	_, err = s.Ensure(ctx, urlRef(content), func(p Progress) {
		if p.Phase == "waiting" {
			cancel()
		}
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestUnreachable(t *testing.T) {
	t.Parallel()
	content := testDisk("content", 0)
	p := newPublishers(t)
	s := p.store(t)
	s.web.client.HTTPClient = clientOf("127.0.0.1:1", p.ca)
	_, err := s.Ensure(t.Context(), urlRef(content), nil)
	if want := `Get "https://example.test/disk.qcow2": dial tcp 127.0.0.1:1: connect: connection refused`; err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
	if want := "check the network, and HTTPS_PROXY if a proxy is needed"; hint.Of(err) != want {
		t.Errorf("hint %q", hint.Of(err))
	}
	if _, err := os.Stat(s.folder("url")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("something was published: %v", err)
	}
}
