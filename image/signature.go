package image

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/ProtonMail/go-crypto/openpgp/armor"
	pgperrors "github.com/ProtonMail/go-crypto/openpgp/errors"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"
	"github.com/google/renameio/v2/maybe"
)

// checkSignature proves that one of a catalog entry's keys signed the file at
// path, which came from url, and returns that key's fingerprint. Subkeys are
// judged at the time the signature was made: publishers' subkeys expire while
// the images they signed stay good. A key that its owner revoked as lost, or
// without a reason, proves nothing at any time.
//
// The keys are, in this order: the files the user added for the entry's
// family; the publisher's, as stored by an earlier download; the publisher's,
// fetched now. Of the publisher's only those with a fingerprint of the catalog
// count, so that fetching them needs no trust.
func (s *Store) checkSignature(ctx context.Context, e *Entry, path, url string, sig []byte, report func(Progress)) (string, error) {
	sig, err := dearmor(sig)
	if err != nil {
		return "", &SignatureError{Subject: url, Reason: "the signature file cannot be read: " + err.Error()}
	}
	signatures := readSignatures(sig)
	if len(signatures) == 0 {
		return "", &SignatureError{Subject: url, Reason: "the signature file holds no signature"}
	}
	keyID := *signatures[0].IssuerKeyId
	keys, err := s.findKeys(ctx, e, signatures)
	if err != nil {
		return "", fmt.Errorf("%s: signed by key %016X: %w", url, keyID, err)
	}
	if len(keys) == 0 {
		return "", &SignatureError{
			Subject: url,
			Reason:  fmt.Sprintf("key %016X is not one of the publisher's known keys", keyID),
			KeyID:   fmt.Sprintf("%016X", keyID),
			KeysDir: filepath.Join(s.keysDir, e.Guest.Family),
		}
	}
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return "", err
	}
	content := newMeter(report, "verifying", info.Size()).reader(ctx, f)
	_, signer, err := openpgp.VerifyDetachedSignature(keys, content, bytes.NewReader(sig), &packet.Config{})
	if ctx.Err() != nil {
		return "", context.Cause(ctx)
	}
	if err != nil {
		return "", &SignatureError{Subject: url, Reason: reasonOf(err, keys, signatures)}
	}
	return fingerprint(signer), nil
}

// reasonOf says in plain words why a signature is not accepted.
func reasonOf(err error, keys openpgp.EntityList, signatures []*packet.Signature) string {
	var vague pgperrors.StructuralError
	if errors.As(err, &vague) {
		// The library leaves subkeys aside that were not valid, without
		// telling which and why.
		for _, sig := range signatures {
			if e := subkeyFault(keys, sig); e != nil {
				err = e
			}
		}
	}
	switch {
	case errors.Is(err, pgperrors.ErrKeyRevoked):
		return "the key was revoked"
	case errors.Is(err, pgperrors.ErrKeyExpired):
		return "the key had expired when the signature was made"
	case errors.Is(err, pgperrors.ErrSignatureExpired):
		return "the signature has expired"
	}
	var invalid pgperrors.SignatureError
	if errors.As(err, &invalid) {
		return "the content is not what was signed"
	}
	return strings.TrimPrefix(err.Error(), "openpgp: ")
}

// subkeyFault returns what was wrong with the subkey that made sig when it did.
func subkeyFault(keys openpgp.EntityList, sig *packet.Signature) error {
	for _, k := range keys {
		for i := range k.Subkeys {
			if k.Subkeys[i].PublicKey.KeyId == *sig.IssuerKeyId {
				_, err := k.Subkeys[i].Verify(sig.CreationTime, &packet.Config{})
				return err
			}
		}
	}
	return nil
}

// findKeys returns the trusted keys of e that one of the signatures names.
func (s *Store) findKeys(ctx context.Context, e *Entry, signatures []*packet.Signature) (openpgp.EntityList, error) {
	own, err := s.userKeys(e.Guest.Family)
	if err != nil {
		return nil, err
	}
	if keys := named(own, signatures); len(keys) > 0 {
		return keys, nil
	}
	if b, err := os.ReadFile(s.storedKeys(e)); err == nil {
		if all, err := readKeys(b); err == nil {
			if keys := named(pinned(all, e.Keys), signatures); len(keys) > 0 {
				return keys, nil
			}
		}
	}
	all, err := s.fetchKeys(ctx, e)
	return named(all, signatures), err
}

func (s *Store) storedKeys(e *Entry) string {
	return filepath.Join(s.dir, keysDir, e.Guest.Family+".asc")
}

// refreshKeys replaces stored keys by those that the publisher offers now.
func (s *Store) refreshKeys(ctx context.Context, e *Entry) error {
	if _, err := os.Stat(s.storedKeys(e)); err != nil {
		return nil // the first signature fetches them
	}
	_, err := s.fetchKeys(ctx, e)
	return err
}

// fetchKeys gets the publisher's keys and stores them when they are some of
// the catalog's.
func (s *Store) fetchKeys(ctx context.Context, e *Entry) (openpgp.EntityList, error) {
	b, err := s.web.get(ctx, e.KeyURL)
	if err != nil {
		return nil, fmt.Errorf("publisher's keys: %w", err)
	}
	all, err := readKeys(b)
	if err != nil {
		return nil, fmt.Errorf("publisher's keys: %s: %w", e.KeyURL, err)
	}
	keys := pinned(all, e.Keys)
	if len(keys) > 0 {
		stored := s.storedKeys(e)
		if err := os.MkdirAll(filepath.Dir(stored), 0o755); err != nil {
			return nil, s.cacheError(err)
		}
		if err := maybe.WriteFile(stored, b, 0o644); err != nil {
			return nil, s.cacheError(err)
		}
	}
	return keys, nil
}

// userKeys reads the keys that the user added for a family. A file that
// cannot be read is an error: a key was meant to count and would not.
func (s *Store) userKeys(family string) (openpgp.EntityList, error) {
	dir := filepath.Join(s.keysDir, family)
	names, err := fs.Glob(os.DirFS(dir), "*.asc")
	if err != nil {
		return nil, err
	}
	var all openpgp.EntityList
	for _, name := range names {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			return nil, err
		}
		keys, err := readKeys(b)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", filepath.Join(dir, name), err)
		}
		all = append(all, keys...)
	}
	return all, nil
}

// readKeys reads a binary key ring, or any number of armored blocks. A block
// with an unknown kind of key does not hide the others.
func readKeys(b []byte) (openpgp.EntityList, error) {
	if !bytes.Contains(b, []byte("-----BEGIN PGP")) {
		return openpgp.ReadKeyRing(bytes.NewReader(b))
	}
	var all openpgp.EntityList
	var firstErr error
	for len(b) > 0 {
		begin := bytes.Index(b, []byte("-----BEGIN PGP"))
		if begin < 0 {
			break
		}
		end := len(b)
		if next := bytes.Index(b[begin+1:], []byte("-----BEGIN PGP")); next >= 0 {
			end = begin + 1 + next
		}
		keys, err := openpgp.ReadArmoredKeyRing(bytes.NewReader(b[begin:end]))
		if err != nil && firstErr == nil {
			firstErr = err
		}
		all = append(all, keys...)
		b = b[end:]
	}
	if len(all) == 0 {
		return nil, errors.Join(errors.New("no key found"), firstErr)
	}
	return all, nil
}

// pinned keeps the keys whose primary fingerprint is in the list.
func pinned(keys openpgp.EntityList, fingerprints []string) openpgp.EntityList {
	var kept openpgp.EntityList
	for _, k := range keys {
		if slices.Contains(fingerprints, fingerprint(k)) {
			kept = append(kept, k)
		}
	}
	return kept
}

// named keeps the keys that one of the signatures names, be it by the primary
// key or by a subkey.
func named(keys openpgp.EntityList, signatures []*packet.Signature) openpgp.EntityList {
	var kept openpgp.EntityList
	for _, sig := range signatures {
		kept = append(kept, keys.EntitiesById(*sig.IssuerKeyId)...)
	}
	return kept
}

func fingerprint(e *openpgp.Entity) string {
	return strings.ToUpper(hex.EncodeToString(e.PrimaryKey.Fingerprint))
}

// dearmor returns a binary signature.
func dearmor(b []byte) ([]byte, error) {
	if !bytes.HasPrefix(bytes.TrimSpace(b), []byte("-----BEGIN PGP")) {
		return b, nil
	}
	block, err := armor.Decode(bytes.NewReader(b))
	if err != nil {
		return nil, err
	}
	return io.ReadAll(block.Body)
}

// readSignatures returns the signatures in a file that say who made them.
// Beside a key's signature there may be one of its successor.
func readSignatures(b []byte) []*packet.Signature {
	var all []*packet.Signature
	packets := packet.NewReader(bytes.NewReader(b))
	for {
		p, err := packets.Next()
		if err != nil {
			return all
		}
		if sig, ok := p.(*packet.Signature); ok && sig.IssuerKeyId != nil {
			all = append(all, sig)
		}
	}
}
