package image

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp/armor"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"

	"github.com/hostctl/hostctl/internal/hint"
)

const year = 365 * 24 * time.Hour

func date(y int, m time.Month) time.Time { return time.Date(y, m, 1, 0, 0, 0, 0, time.UTC) }

// Subkeys live for a year or two; what they signed in that time stays good.
func TestSignatureKeys(t *testing.T) {
	t.Parallel()
	const refused = stableImage + ": bad signature: "
	for _, test := range []struct {
		name string
		key  func(t *testing.T) *signer
		want string // of the error
	}{
		{"primary key", newSigner0, ""},
		{"subkey", func(t *testing.T) *signer {
			return newSigner(t).subkey(time.Now().Add(-year), 2*year)
		}, ""},
		{"subkey that expired since", func(t *testing.T) *signer {
			s := newSigner(t).subkey(date(2019, 1), year)
			s.now = date(2019, 6)
			return s
		}, ""},
		{"one of several expired subkeys", func(t *testing.T) *signer {
			s := newSigner(t).subkey(date(2019, 1), year).subkey(date(2020, 1), year)
			s.now = date(2019, 6)
			return s
		}, ""},
		{"subkey that had expired", func(t *testing.T) *signer {
			s := newSigner(t).subkey(date(2019, 1), 2*year)
			s.now = date(2020, 6)
			// The publisher says now that it ended earlier.
			return s.shorten(year)
		}, "the key had expired when the signature was made"},
		{"subkey lost", func(t *testing.T) *signer {
			return newSigner(t).subkey(date(2019, 1), 20*year).revoke(packet.KeyCompromised)
		}, "the key was revoked"},
		{"subkey revoked without a reason", func(t *testing.T) *signer {
			return newSigner(t).subkey(date(2019, 1), 20*year).revoke(packet.NoReason)
		}, "the key was revoked"},
		{"primary key lost", func(t *testing.T) *signer {
			s := newSigner(t).subkey(date(2019, 1), 20*year)
			s.after = func() {
				check(t, s.entity.Revoke(packet.KeyCompromised, "", keyConfig(time.Now(), 0)))
			}
			return s
		}, "the key was revoked"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			p, key := newPublishers(t), test.key(t)
			p.flatcar("stable", "current", "4593.2.5", testDisk("x", 0), key)
			if key.after != nil {
				key.after()
				p.put(flatcarKeyURL, key.public())
			}
			s := p.store(t, key)
			_, err := s.Ensure(t.Context(), Ref{Source: "flatcar", Arch: "amd64"}, nil)
			if test.want == "" {
				check(t, err)
				return
			}
			if !errors.Is(err, ErrSignature) || err.Error() != refused+test.want {
				t.Errorf("got  %v\nwant %s", err, refused+test.want)
			}
			assertEmpty(t, s)
		})
	}
}

func newSigner0(t *testing.T) *signer { return newSigner(t) }

func TestSignatureForgeries(t *testing.T) {
	t.Parallel()
	disk := testDisk("x", 0)
	setUp := func(t *testing.T) (*publishers, *signer, *Store) {
		p, key := newPublishers(t), newSigner(t).subkey(time.Now().Add(-year), 2*year)
		p.flatcar("stable", "current", "4593.2.5", disk, key)
		return p, key, p.store(t, key)
	}
	ensure := func(t *testing.T, s *Store) error {
		_, err := s.Ensure(t.Context(), Ref{Source: "flatcar", Arch: "amd64"}, nil)
		assertEmpty(t, s)
		return err
	}

	t.Run("content and digests replaced", func(t *testing.T) {
		t.Parallel()
		p, key, s := setUp(t)
		p.signed(stableImage, testDisk("evil", 0), key)
		p.put(stableImage+".sig", key.sign(disk))
		if err := ensure(t, s); !errors.Is(err, ErrSignature) || !strings.HasSuffix(err.Error(), "the content is not what was signed") {
			t.Errorf("got %v", err)
		}
	})
	t.Run("foreign key", func(t *testing.T) {
		t.Parallel()
		p, _, s := setUp(t)
		foreign := newSigner(t)
		p.signed(stableImage, disk, foreign)
		p.put(flatcarKeyURL, foreign.public()) // the server of keys is taken over too
		id := fmt.Sprintf("%016X", foreign.entity.PrimaryKey.KeyId)
		err := ensure(t, s)
		if want := stableImage + ": bad signature: key " + id + " is not one of the publisher's known keys"; !errors.Is(err, ErrSignature) || err.Error() != want {
			t.Errorf("got  %v\nwant %s", err, want)
		}
		if want := "if the publisher has announced key " + id + ", put its file (*.asc) into " + filepath.Join(s.keysDir, "flatcar"); hint.Of(err) != want {
			t.Errorf("hint %s\nwant %s", hint.Of(err), want)
		}
	})
	t.Run("foreign subkey below the pinned key", func(t *testing.T) {
		t.Parallel()
		p, key, s := setUp(t)
		foreign := newSigner(t).subkey(time.Now().Add(-year), 2*year)
		p.signed(stableImage, disk, foreign)
		var mixed bytes.Buffer
		w, err := armor.Encode(&mixed, openpgp.PublicKeyType, nil)
		check(t, err)
		check(t, key.entity.Serialize(w))
		check(t, foreign.last().Serialize(w, false))
		check(t, w.Close())
		p.put(flatcarKeyURL, mixed.Bytes())
		if err := ensure(t, s); !errors.Is(err, ErrSignature) {
			t.Errorf("got %v", err)
		}
	})
	for name, sig := range map[string][]byte{"empty": {}, "a page": []byte("<html>"), "cut off": {0x88, 0x75, 0x04}} {
		t.Run("signature file is "+name, func(t *testing.T) {
			t.Parallel()
			p, _, s := setUp(t)
			p.put(stableImage+".sig", sig)
			if err := ensure(t, s); !errors.Is(err, ErrSignature) || !strings.HasSuffix(err.Error(), ": the signature file holds no signature") {
				t.Errorf("got %v", err)
			}
		})
	}
	t.Run("signature file is missing", func(t *testing.T) {
		t.Parallel()
		p, _, s := setUp(t)
		p.remove(stableImage + ".sig")
		if err := ensure(t, s); err == nil || err.Error() != stableImage+".sig: server answered 404 Not Found" {
			t.Errorf("got %v", err)
		}
	})
	t.Run("key file is no key", func(t *testing.T) {
		t.Parallel()
		p, _, s := setUp(t)
		p.put(flatcarKeyURL, []byte("-----BEGIN PGP PUBLIC KEY BLOCK-----\n"))
		if err := ensure(t, s); err == nil || !strings.Contains(err.Error(), "publisher's keys: "+flatcarKeyURL+": no key found") {
			t.Errorf("got %v", err)
		}
	})
}

// The publishers' keys are fetched once, and again when a new subkey appears.
func TestSignatureKeysAreKept(t *testing.T) {
	t.Parallel()
	p, key := newPublishers(t), newSigner(t).subkey(time.Now().Add(-2*year), 3*year)
	s := p.store(t, key)
	for _, step := range []struct {
		version string
		fetched int
		newKey  bool
	}{
		{"4593.2.1", 1, false},
		{"4593.2.2", 0, false},
		{"4593.2.3", 1, true},
	} {
		if step.newKey {
			key.subkey(time.Now().Add(-2*time.Hour), 3*year)
		}
		p.flatcar("stable", "current", step.version, testDisk(step.version, 0), key)
		p.requests("")
		_, err := s.Ensure(t.Context(), Ref{Source: "flatcar", Arch: "amd64", Version: step.version}, nil)
		check(t, err)
		if n := len(p.requests(".asc")); n != step.fetched {
			t.Errorf("%s: keys were fetched %d times, want %d", step.version, n, step.fetched)
		}
	}
}

// A key that was stored and revoked since signs nothing more that is pulled.
func TestPullNoticesRevocations(t *testing.T) {
	t.Parallel()
	p, key := newPublishers(t), newSigner(t).subkey(date(2019, 1), 20*year).revoke(packet.KeyCompromised)
	s := p.store(t, key)
	ref := Ref{Source: "flatcar", Arch: "amd64"}
	p.flatcar("stable", "current", "4593.2.1", testDisk("one", 0), key)
	_, err := s.Pull(t.Context(), ref, nil)
	check(t, err)

	p.flatcar("stable", "current", "4593.2.2", testDisk("two", 0), key)
	key.after()
	p.put(flatcarKeyURL, key.public())
	_, err = s.Pull(t.Context(), ref, nil)
	if !errors.Is(err, ErrSignature) || !strings.HasSuffix(err.Error(), ": the key was revoked") {
		t.Errorf("got %v", err)
	}
}

// A key that hostctl does not know yet works once the user has added it.
func TestSignatureUserKeys(t *testing.T) {
	t.Parallel()
	p, known, added := newPublishers(t), newSigner(t), newSigner(t)
	p.fedora(t, "stable", "46.20270707.3.1", testDisk("x", 0), added)
	s := p.store(t, known)
	ref := Ref{Source: "fedora-coreos", Arch: "amd64"}
	if _, err := s.Ensure(t.Context(), ref, nil); !errors.Is(err, ErrSignature) {
		t.Fatalf("got %v", err)
	}
	dir := filepath.Join(s.keysDir, "fedora-coreos")
	check(t, os.MkdirAll(dir, 0o755))
	check(t, os.WriteFile(filepath.Join(dir, "fedora-46.asc"), []byte("not a key"), 0o644))
	if _, err := s.Ensure(t.Context(), ref, nil); err == nil || !strings.Contains(err.Error(), filepath.Join(dir, "fedora-46.asc")+": ") {
		t.Errorf("an unreadable key file gave %v", err)
	}
	check(t, os.WriteFile(filepath.Join(dir, "fedora-46.asc"), added.public(), 0o644))
	_, err := s.Ensure(t.Context(), ref, nil)
	check(t, err)
}

// Fedora's file holds one key after the other, binary or armored.
func TestReadKeys(t *testing.T) {
	t.Parallel()
	one, two := newSigner(t), newSigner(t)
	var ring bytes.Buffer
	check(t, one.entity.Serialize(&ring))
	check(t, two.entity.Serialize(&ring))
	want := []string{fingerprint(one.entity), fingerprint(two.entity)}
	for name, b := range map[string][]byte{
		"binary":              ring.Bytes(),
		"blocks":              append(one.public(), two.public()...),
		"blocks with remarks": append(append([]byte("two keys\n"), one.public()...), append([]byte("\n\nand\n"), two.public()...)...),
	} {
		keys, err := readKeys(b)
		var got []string
		for _, k := range keys {
			got = append(got, fingerprint(k))
		}
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: got %v, %v", name, got, err)
		}
	}
}

// Each image of the catalog that is downloaded has pinned keys, written as
// fingerprint writes them.
func TestCatalogKeys(t *testing.T) {
	t.Parallel()
	for _, e := range Catalog() {
		if e.Publisher == nil {
			continue
		}
		if len(e.Keys) == 0 || !strings.HasPrefix(e.KeyURL, "https://") {
			t.Errorf("%s has no keys, or nowhere to get them", e.Name)
		}
		for _, k := range e.Keys {
			if len(k) != 40 || strings.ToUpper(k) != k || strings.Trim(k, "0123456789ABCDEF") != "" {
				t.Errorf("%s: %q is no fingerprint", e.Name, k)
			}
		}
	}
}

func assertEmpty(t *testing.T, s *Store) {
	t.Helper()
	all, err := s.List(t.Context())
	if err != nil || len(all) != 0 {
		t.Errorf("the cache holds %v, %v", all, err)
	}
}
