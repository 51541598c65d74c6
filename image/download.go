package image

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/google/renameio/v2/maybe"
	"github.com/hashicorp/go-cleanhttp"
	"github.com/hashicorp/go-retryablehttp"

	"github.com/hostctl/hostctl/internal/hint"
	"github.com/hostctl/hostctl/internal/wait"
)

const (
	maxRetryWait = 30 * time.Second
	// maxRetries repeats a request that was not answered, or by 429 or 5xx.
	maxRetries = 4
	// maxIdle is how many connections in a row may break without a new byte.
	maxIdle = 4
	// maxSmall bounds what get returns: the largest of these files, a
	// stream's description, has about 100 KiB.
	maxSmall = 4 << 20

	// While a server sends without having said how much, the room is looked at
	// every so many bytes, and so much must be left.
	lookEvery = 16 << 20
	spareRoom = 64 << 20
)

var (
	errStalled  = errors.New("server stopped sending")
	errNotHTTPS = errors.New("only https is followed")
)

// getter fetches a small file.
type getter func(ctx context.Context, url string) ([]byte, error)

// web talks to the publishers' servers.
type web struct {
	client *retryablehttp.Client
	log    *slog.Logger
	stall  time.Duration
	wait   time.Duration
}

func newWeb(client *http.Client, log *slog.Logger, stall, retryWait time.Duration) *web {
	if stall == 0 {
		stall = 30 * time.Second
	}
	if retryWait == 0 {
		retryWait = time.Second
	}
	if client == nil {
		transport := cleanhttp.DefaultPooledTransport() // with the proxy variables
		transport.DialContext = (&net.Dialer{Timeout: stall}).DialContext
		transport.ResponseHeaderTimeout = stall
		client = &http.Client{Transport: transport, CheckRedirect: onlyHTTPS}
	}
	r := retryablehttp.NewClient()
	r.HTTPClient = client
	r.Logger = nil
	r.RetryMax = maxRetries
	r.RetryWaitMin, r.RetryWaitMax = retryWait, maxRetryWait
	r.Backoff = func(least, most time.Duration, n int, resp *http.Response) time.Duration {
		// Retry-After is honoured, within reason.
		return min(retryablehttp.DefaultBackoff(least, most, n, resp), most)
	}
	r.CheckRetry = func(ctx context.Context, resp *http.Response, err error) (bool, error) {
		if errors.Is(err, errNotHTTPS) {
			return false, err // it would be answered the same again
		}
		return retryablehttp.DefaultRetryPolicy(ctx, resp, err)
	}
	r.ErrorHandler = retryablehttp.PassthroughErrorHandler
	return &web{client: r, log: log, stall: stall, wait: retryWait}
}

// onlyHTTPS keeps redirects from leaving TLS.
func onlyHTTPS(req *http.Request, via []*http.Request) error {
	if req.URL.Scheme != "https" {
		return fmt.Errorf("redirected to %s: %w", req.URL, errNotHTTPS)
	}
	if len(via) >= 10 {
		return errors.New("stopped after 10 redirects")
	}
	return nil
}

// request sends a GET and returns an answer that is not an error. What comes
// through body is cut off when nothing arrives for the stall time.
func (w *web) request(ctx context.Context, url string, header http.Header) (_ *http.Response, done func(), err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer func() {
		if err != nil {
			cancel(nil)
		}
	}()
	req, err := retryablehttp.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, nil, err
	}
	for k, v := range header {
		req.Header[k] = v
	}
	// Or the transport would unpack what was packed on the way, and lengths
	// and ranges would mean something else.
	req.Header.Set("Accept-Encoding", "identity")
	req.Header.Set("User-Agent", "hostctl")
	resp, err := w.client.Do(req)
	if err != nil {
		if ctx.Err() != nil {
			return nil, nil, context.Cause(ctx)
		}
		return nil, nil, hint.Wrap(err, "check the network, and HTTPS_PROXY if a proxy is needed")
	}
	timer := time.AfterFunc(w.stall, func() { cancel(errStalled) })
	body := resp.Body
	resp.Body = struct {
		io.Reader
		io.Closer
	}{readerFunc(func(p []byte) (int, error) {
		timer.Reset(w.stall)
		n, err := body.Read(p)
		timer.Stop()
		if err != nil && !errors.Is(err, io.EOF) && ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return n, err
	}), body}
	timer.Stop()
	return resp, func() { timer.Stop(); body.Close(); cancel(nil) }, nil
}

// retryBody repeats an attempt whose connection broke after the answer had
// begun. progress says whether the last attempt got anything new: only
// maxIdle attempts in a row may get nothing.
func (w *web) retryBody(ctx context.Context, attempt func(context.Context) (progress bool, err error)) error {
	idle := 0
	return wait.Until(ctx, w.wait, func(ctx context.Context) error {
		progress, err := attempt(ctx)
		if err == nil {
			return nil
		}
		if idle++; progress {
			idle = 0
		}
		var broken brokenError
		if ctx.Err() != nil || idle >= maxIdle || !errors.As(err, &broken) {
			return wait.Permanent(err)
		}
		w.log.Debug("connection broke", "error", err)
		return err
	})
}

// brokenError is an answer that ended early: what another request can mend.
type brokenError struct{ error }

func (e brokenError) Unwrap() error { return e.error }

// get fetches a small file.
func (w *web) get(ctx context.Context, url string) ([]byte, error) {
	var b []byte
	err := w.retryBody(ctx, func(ctx context.Context) (bool, error) {
		resp, done, err := w.request(ctx, url, nil)
		if err != nil {
			return false, err
		}
		defer done()
		if resp.StatusCode != http.StatusOK {
			return false, &HTTPError{url, resp.StatusCode, resp.Status}
		}
		b, err = io.ReadAll(io.LimitReader(resp.Body, maxSmall+1))
		if err != nil {
			return false, brokenError{fmt.Errorf("%s: %w", url, err)}
		}
		if len(b) > maxSmall {
			return false, fmt.Errorf("%s: larger than %d bytes", url, maxSmall)
		}
		return false, nil
	})
	return b, err
}

// partial is a file that is being downloaded, with what is known of its
// origin beside it.
type partial struct {
	path    string
	f       *os.File
	h       hash.Hash
	n       int64 // bytes in the file, all of them hashed
	origin  origin
	resumed bool // the content comes from more than one answer
}

// origin tells whether a later answer is about the same content.
type origin struct {
	URL          string `json:"url"`
	Total        int64  `json:"total"` // bytes; -1: the server did not say
	ETag         string `json:"etag,omitempty"`
	LastModified string `json:"last_modified,omitempty"`
}

func (o origin) validator() string {
	if o.ETag != "" && !strings.HasPrefix(o.ETag, "W/") {
		return o.ETag
	}
	return o.LastModified
}

// openPartial continues what an earlier process left, or begins anew. It reads
// all that is there, because the hash needs it.
func openPartial(ctx context.Context, path, url, algorithm string) (_ *partial, err error) {
	p := &partial{path: path, h: newHash(algorithm)}
	if b, err := os.ReadFile(p.originPath()); err == nil {
		if json.Unmarshal(b, &p.origin) != nil {
			p.origin = origin{}
		}
	}
	p.f, err = os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, err
	}
	if p.origin.URL != url {
		p.origin = origin{URL: url, Total: -1}
		return p, p.restart()
	}
	p.n, err = io.Copy(p.h, newMeter(nil, "", 0).reader(ctx, p.f))
	p.resumed = p.n > 0
	if err != nil {
		p.f.Close()
		return nil, err
	}
	return p, nil
}

func (p *partial) originPath() string { return p.path + ".origin" }

// restart throws away what is there.
func (p *partial) restart() error {
	p.h.Reset()
	p.n, p.resumed = 0, false
	if err := p.f.Truncate(0); err != nil {
		return err
	}
	_, err := p.f.Seek(0, io.SeekStart)
	return err
}

func (p *partial) remove() error {
	err := errors.Join(p.f.Close(), os.Remove(p.path))
	if e := os.Remove(p.originPath()); e != nil && !errors.Is(e, fs.ErrNotExist) {
		err = errors.Join(err, e)
	}
	return err
}

// writeError is an error of the disk, not of the network.
type writeError struct{ error }

func (e writeError) Unwrap() error { return e.error }

func (p *partial) Write(b []byte) (int, error) {
	n, err := p.f.Write(b)
	p.h.Write(b[:n])
	p.n += int64(n)
	if err != nil {
		return n, writeError{err}
	}
	return n, nil
}

// fill downloads what p lacks. It goes on after broken connections, and from
// the beginning when the server has something else now.
func (w *web) fill(ctx context.Context, p *partial, room func(need int64) error, report func(Progress)) error {
	meter := newMeter(report, "downloading", max(p.origin.Total, 0))
	most := p.n // a download that begins anew again and again gets nowhere
	return w.retryBody(ctx, func(ctx context.Context) (bool, error) {
		err := w.fillOnce(ctx, p, room, meter)
		progress := p.n > most
		most = max(most, p.n)
		return progress, err
	})
}

func (w *web) fillOnce(ctx context.Context, p *partial, room func(need int64) error, meter *meter) error {
	if p.n > 0 && p.n == p.origin.Total {
		return nil
	}
	header := http.Header{}
	if p.n > 0 {
		header.Set("Range", fmt.Sprintf("bytes=%d-", p.n))
		if v := p.origin.validator(); v != "" {
			header.Set("If-Range", v)
		}
	}
	resp, done, err := w.request(ctx, p.origin.URL, header)
	if err != nil {
		return err
	}
	defer done()

	now := origin{URL: p.origin.URL, Total: resp.ContentLength,
		ETag: resp.Header.Get("ETag"), LastModified: resp.Header.Get("Last-Modified")}
	switch resp.StatusCode {
	case http.StatusOK:
		if err := p.restart(); err != nil {
			return writeError{err}
		}
	case http.StatusPartialContent:
		start, total, ok := parseContentRange(resp.Header.Get("Content-Range"))
		if !ok || start != p.n || p.origin.Total >= 0 && total != p.origin.Total {
			// Not what was asked for: the content changed, or the server
			// cannot count. The next attempt begins anew.
			if err := p.restart(); err != nil {
				return writeError{err}
			}
			return brokenError{fmt.Errorf("%s: server sent another range than it was asked for", p.origin.URL)}
		}
		now.Total = total
		p.resumed = true
	case http.StatusRequestedRangeNotSatisfiable:
		total := p.n
		if err := p.restart(); err != nil {
			return writeError{err}
		}
		return brokenError{fmt.Errorf("%s: server has nothing behind byte %d", p.origin.URL, total)}
	default:
		return &HTTPError{p.origin.URL, resp.StatusCode, resp.Status}
	}
	if now != p.origin {
		p.origin = now
		b, err := json.Marshal(now)
		if err == nil {
			err = maybe.WriteFile(p.originPath(), b, 0o644)
		}
		if err != nil {
			return writeError{err}
		}
	}
	meter.now.Done, meter.now.Total = p.n, max(now.Total, 0)
	body := meter.reader(ctx, resp.Body)
	if now.Total < 0 {
		body = leaveRoom(body, room)
	} else if err := room(now.Total - p.n); err != nil {
		return err
	}
	_, err = io.Copy(p, body)
	if err != nil {
		var we writeError
		if errors.As(err, &we) || errors.Is(err, ErrNoSpace) || ctx.Err() != nil {
			return err
		}
		if errors.Is(err, io.ErrUnexpectedEOF) && now.Total >= 0 {
			return brokenError{&TruncatedError{Subject: p.origin.URL, Want: now.Total, Got: p.n}}
		}
		return brokenError{fmt.Errorf("%s: %w", p.origin.URL, err)}
	}
	if p.n < now.Total {
		// A server may answer with less than the range it was asked for.
		return brokenError{&TruncatedError{Subject: p.origin.URL, Want: now.Total, Got: p.n}}
	}
	meter.flush()
	if err := p.f.Sync(); err != nil {
		return writeError{err}
	}
	return nil
}

// leaveRoom ends an answer of unknown length before it fills the disk.
func leaveRoom(r io.Reader, room func(need int64) error) io.Reader {
	n := 0 // bytes since the last look
	return readerFunc(func(b []byte) (int, error) {
		if n >= lookEvery {
			n = 0
			if err := room(spareRoom); err != nil {
				return 0, err
			}
		}
		k, err := r.Read(b)
		n += k
		return k, err
	})
}

// parseContentRange reads "bytes START-END/TOTAL".
func parseContentRange(s string) (start, total int64, ok bool) {
	s, ok = strings.CutPrefix(s, "bytes ")
	if !ok {
		return 0, 0, false
	}
	span, all, _ := strings.Cut(s, "/")
	from, to, _ := strings.Cut(span, "-")
	start, err1 := strconv.ParseInt(from, 10, 64)
	end, err2 := strconv.ParseInt(to, 10, 64)
	total, err3 := strconv.ParseInt(all, 10, 64)
	ok = err1 == nil && err2 == nil && err3 == nil && start >= 0 && start <= end && end < total
	return start, total, ok
}
