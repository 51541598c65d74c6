package image

import (
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"strings"

	"github.com/docker/go-units"

	"github.com/hostctl/hostctl/internal/hint"
)

// Sentinels, matched with errors.Is.
var (
	ErrUnknown    = errors.New("no such image")
	ErrNotCached  = errors.New("not in the image cache")
	ErrChecksum   = errors.New("checksum mismatch")
	ErrSignature  = errors.New("bad signature")
	ErrTruncated  = errors.New("truncated")
	ErrFormat     = errors.New("not a usable disk image")
	ErrNoSpace    = errors.New("no space left")
	ErrUnwritable = errors.New("image cache is not writable")
	ErrInUse      = errors.New("in use")
)

// ChecksumError is content that is not what it should be.
type ChecksumError struct {
	Subject string // a path or URL
	Want    Checksum
	Got     Checksum
}

func (e *ChecksumError) Error() string {
	return fmt.Sprintf("%s: %v: want %s, got %s", e.Subject, ErrChecksum, e.Want, e.Got)
}
func (e *ChecksumError) Unwrap() error { return ErrChecksum }

// SignatureError is content that the publisher is not proven to have signed.
type SignatureError struct {
	Subject string // what was signed: a URL
	Reason  string
	KeyID   string // of the signature, or ""
	KeysDir string // where the user can add keys of this family
}

func (e *SignatureError) Error() string {
	return fmt.Sprintf("%s: %v: %s", e.Subject, ErrSignature, e.Reason)
}
func (e *SignatureError) Unwrap() error { return ErrSignature }

// Hint says where new keys go; a signature that is simply wrong gets none.
func (e *SignatureError) Hint() string {
	if e.KeyID == "" {
		return ""
	}
	return fmt.Sprintf("if the publisher has announced key %s, put its file (*.asc) into %s", e.KeyID, e.KeysDir)
}

// TruncatedError is a file or a download that ends too early.
type TruncatedError struct {
	Subject   string // a path or URL
	Want, Got int64  // bytes
}

func (e *TruncatedError) Error() string {
	return fmt.Sprintf("%s: %v: %d of %d bytes", e.Subject, ErrTruncated, e.Got, e.Want)
}
func (e *TruncatedError) Unwrap() error { return ErrTruncated }

// SpaceError is a disk too full for an image.
type SpaceError struct {
	Dir        string
	Need, Free uint64 // bytes; both 0 when the disk filled up on the way
	Err        error  // what the system said, or nil
}

func (e *SpaceError) Error() string {
	if e.Need == 0 {
		return fmt.Sprintf("%s: %v", e.Dir, ErrNoSpace)
	}
	return fmt.Sprintf("%s: %v: %s needed, %s free", e.Dir, ErrNoSpace,
		units.BytesSize(float64(e.Need)), units.BytesSize(float64(e.Free)))
}
func (e *SpaceError) Unwrap() []error { return []error{ErrNoSpace, e.Err} }

// Hint names the ways to get space.
func (e *SpaceError) Hint() string {
	return "free some space (hostctl image prune removes images no machine uses), or set XDG_CACHE_HOME to a larger disk"
}

// HTTPError is an answer other than success.
type HTTPError struct {
	URL    string
	Status int
	Text   string // for instance "404 Not Found"
}

func (e *HTTPError) Error() string { return fmt.Sprintf("%s: server answered %s", e.URL, e.Text) }

// isNotFound reports whether the server has no such file; from is its URL, or
// "" for any.
func isNotFound(err error, from string) bool {
	var answer *HTTPError
	return errors.As(err, &answer) && answer.Status == http.StatusNotFound && (from == "" || answer.URL == from)
}

// DamagedError is an image in the cache that is not what was put there.
type DamagedError struct {
	ID  string
	Err error
}

func (e *DamagedError) Error() string { return fmt.Sprintf("image %s is damaged: %v", e.ID, e.Err) }
func (e *DamagedError) Unwrap() error { return e.Err }

// Hint says how to get a sound one.
func (e *DamagedError) Hint() string {
	if strings.HasPrefix(e.ID, localName+"/") {
		return fmt.Sprintf("remove it with hostctl image rm %s, then build it again with make image", e.ID)
	}
	return fmt.Sprintf("remove it with hostctl image rm %s, then get it again", e.ID)
}

// cacheError turns what the file system said about the cache into the errors
// that users can act on.
func (s *Store) cacheError(err error) error {
	var file *fs.PathError
	var link *os.LinkError
	switch {
	case err == nil:
		return nil
	case !errors.As(err, &file) && !errors.As(err, &link):
		return err // of the network, or already one of ours
	case errors.Is(err, ErrNoSpace), errors.Is(err, ErrUnwritable):
		return err
	case isNoSpace(err):
		return &SpaceError{Dir: s.dir, Err: err}
	case isUnwritable(err):
		return hint.Wrap(fmt.Errorf("%w: %w", ErrUnwritable, err),
			"make %s writable for you, or set XDG_CACHE_HOME to another folder", s.dir)
	}
	return err
}
