package image

import (
	"context"
	"crypto/sha256"
	"crypto/sha512"
	"encoding"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/google/renameio/v2/maybe"
)

// Checksum is what content must hash to. The zero value demands nothing.
type Checksum struct {
	Algorithm string // "sha256" or "sha512"
	Hex       string // lower case
}

var _ encoding.TextUnmarshaler = (*Checksum)(nil)

// ParseChecksum reads "sha256:HEX" or "sha512:HEX".
func ParseChecksum(s string) (Checksum, error) {
	algorithm, digits, ok := strings.Cut(s, ":")
	c := Checksum{algorithm, strings.ToLower(digits)}
	if !ok || c.newHash() == nil {
		return Checksum{}, fmt.Errorf("checksum %q: want sha256:HEX or sha512:HEX", s)
	}
	raw, err := hex.DecodeString(c.Hex)
	if err != nil || len(raw) != c.newHash().Size() {
		return Checksum{}, fmt.Errorf("checksum %q: want %d hexadecimal digits", s, 2*c.newHash().Size())
	}
	return c, nil
}

// String returns the form that [ParseChecksum] reads; "" for the zero value.
func (c Checksum) String() string {
	if c.IsZero() {
		return ""
	}
	return c.Algorithm + ":" + c.Hex
}

// IsZero reports whether c demands nothing.
func (c Checksum) IsZero() bool { return c == Checksum{} }

// MarshalText implements [encoding.TextMarshaler].
func (c Checksum) MarshalText() ([]byte, error) { return []byte(c.String()), nil }

// UnmarshalText implements [encoding.TextUnmarshaler].
func (c *Checksum) UnmarshalText(b []byte) error {
	if len(b) == 0 {
		*c = Checksum{}
		return nil
	}
	parsed, err := ParseChecksum(string(b))
	*c = parsed
	return err
}

func (c Checksum) newHash() hash.Hash { return newHash(c.Algorithm) }

// newHash returns nil for an algorithm that proves nothing or is unknown.
func newHash(algorithm string) hash.Hash {
	switch algorithm {
	case "sha256":
		return sha256.New()
	case "sha512":
		return sha512.New()
	}
	return nil
}

func sumOf(algorithm string, h hash.Hash) Checksum {
	return Checksum{algorithm, hex.EncodeToString(h.Sum(nil))}
}

// stamp remembers what a file hashed to, so that an unchanged one is not read
// again. It says what the content was, never that it was good.
type stamp struct {
	Path     string    `json:"path"`
	Size     int64     `json:"size"`
	ModTime  time.Time `json:"mod_time"`
	Change   string    `json:"change,omitempty"` // what else the system tells of its changes
	Checksum Checksum  `json:"checksum"`
}

func (s *Store) stampPath(path, algorithm string) string {
	key := sha256.Sum256([]byte(algorithm + "\x00" + path))
	return filepath.Join(s.dir, stampsDir, hex.EncodeToString(key[:16])+".json")
}

// checksumOf hashes a file, or recalls what it hashed to when nothing has
// changed it since.
func (s *Store) checksumOf(ctx context.Context, path, algorithm string, report func(Progress)) (Checksum, error) {
	info, err := os.Stat(path)
	if err != nil {
		return Checksum{}, err
	}
	if b, err := os.ReadFile(s.stampPath(path, algorithm)); err == nil {
		var st stamp
		if json.Unmarshal(b, &st) == nil && st.Path == path && st.Size == info.Size() &&
			st.ModTime.Equal(info.ModTime()) && st.Change == changeOf(info) && st.Checksum.Algorithm == algorithm {
			return st.Checksum, nil
		}
	}
	f, err := os.Open(path)
	if err != nil {
		return Checksum{}, err
	}
	defer f.Close()
	h := newHash(algorithm)
	meter := newMeter(report, "verifying", info.Size())
	if _, err := io.Copy(h, meter.reader(ctx, f)); err != nil {
		return Checksum{}, err
	}
	sum := sumOf(algorithm, h)
	s.writeStamp(path, info, sum)
	return sum, nil
}

// writeStamp is best effort: without the stamp the file is read again.
func (s *Store) writeStamp(path string, info fs.FileInfo, sum Checksum) {
	name := s.stampPath(path, sum.Algorithm)
	err := os.MkdirAll(filepath.Dir(name), 0o755)
	if err == nil {
		var b []byte
		if b, err = json.Marshal(stamp{path, info.Size(), info.ModTime(), changeOf(info), sum}); err == nil {
			err = maybe.WriteFile(name, b, 0o644)
		}
	}
	if err != nil {
		s.log.Debug("checksum not recorded", "path", path, "error", err)
	}
}

// verify checks a file against want. The zero Checksum accepts everything.
func (s *Store) verify(ctx context.Context, path string, want Checksum, report func(Progress)) error {
	if want.IsZero() {
		return nil
	}
	got, err := s.checksumOf(ctx, path, want.Algorithm, report)
	if err != nil {
		return err
	}
	if got != want {
		return &ChecksumError{Subject: path, Want: want, Got: got}
	}
	return nil
}

// parseSumFile reads the first line of a file as sha256sum writes it:
// "HEX  NAME", or "HEX *NAME".
func parseSumFile(b []byte, name string) (Checksum, error) {
	for line := range strings.Lines(string(b)) {
		digits, file, ok := strings.Cut(strings.TrimSpace(line), " ")
		if !ok {
			continue
		}
		file = strings.TrimPrefix(strings.TrimSpace(file), "*")
		if filepath.Base(file) != name {
			continue
		}
		return ParseChecksum("sha256:" + digits)
	}
	return Checksum{}, errors.New("no checksum of " + name)
}
