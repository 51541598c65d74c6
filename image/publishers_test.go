package image

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"hash/fnv"
	"math/big"
	mrand "math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"path"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp/armor"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"
	"github.com/ulikunitz/xz"

	"github.com/hostctl/hostctl/internal/qcow2"
)

// publishers is one local server that answers for all hosts of the catalog,
// over TLS, with the paths the publishers have. Clients get there by dialing,
// so that the store under test works with the very URLs of [Catalog].
type publishers struct {
	addr string
	ca   *x509.CertPool
	der  []byte // its certificate

	mu    sync.Mutex
	files map[string]*served // by URL
	log   []string           // "GET URL RANGE" of each request
}

// served is one file. behave, when set, answers instead for the n-th request
// of the file, counted from 1; false means: answer as usual.
type served struct {
	content []byte
	n       int
	behave  func(w http.ResponseWriter, r *http.Request, n int) bool
}

var publisherHosts = []string{
	"stable.release.flatcar-linux.net", "beta.release.flatcar-linux.net",
	"alpha.release.flatcar-linux.net", "lts.release.flatcar-linux.net",
	"www.flatcar.org", "builds.coreos.fedoraproject.org", "fedoraproject.org",
	"example.test",
}

func newPublishers(t testing.TB) *publishers {
	t.Helper()
	p := &publishers{files: map[string]*served{}}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	check(t, err)
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(1),
		NotBefore:             time.Now().Add(-time.Hour),
		NotAfter:              time.Now().Add(time.Hour),
		DNSNames:              publisherHosts,
		IsCA:                  true,
		BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	check(t, err)
	cert, err := x509.ParseCertificate(der)
	check(t, err)
	p.der = der
	p.ca = x509.NewCertPool()
	p.ca.AddCert(cert)

	server := httptest.NewUnstartedServer(p)
	server.TLS = &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
	server.StartTLS()
	t.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
	})
	p.addr = server.Listener.Addr().String()
	return p
}

func (p *publishers) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	url := "https://" + r.Host + r.URL.Path
	p.mu.Lock()
	p.log = append(p.log, strings.TrimSpace(url+" "+r.Header.Get("Range")))
	f := p.files[url]
	if f == nil {
		p.mu.Unlock()
		http.NotFound(w, r)
		return
	}
	f.n++
	n, behave, content := f.n, f.behave, f.content
	p.mu.Unlock()
	if behave != nil && behave(w, r, n) {
		return
	}
	sum := sha256.Sum256(content)
	w.Header().Set("ETag", `"`+hex.EncodeToString(sum[:8])+`"`)
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(content))
}

// put serves content at a URL.
func (p *publishers) put(url string, content []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.files[url] = &served{content: content}
}

// behave changes how a URL that was put is answered.
func (p *publishers) behave(url string, f func(w http.ResponseWriter, r *http.Request, n int) bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.files[url].behave = f
}

func (p *publishers) remove(url string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.files, url)
}

// requests returns file name and range of the requests so far whose URL ends
// so, and forgets all.
func (p *publishers) requests(suffix string) []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	var found []string
	for _, line := range p.log {
		url, _, _ := strings.Cut(line, " ")
		if strings.HasSuffix(url, suffix) {
			found = append(found, line[strings.LastIndexByte(url, '/')+1:])
		}
	}
	p.log = nil
	return found
}

func (p *publishers) client() *http.Client { return clientOf(p.addr, p.ca) }

func clientOf(addr string, ca *x509.CertPool) *http.Client {
	return &http.Client{
		CheckRedirect: onlyHTTPS,
		Transport: &http.Transport{
			DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
				return (&net.Dialer{}).DialContext(ctx, network, addr)
			},
			TLSClientConfig: &tls.Config{RootCAs: ca},
		},
	}
}

// store returns a store with its cache in a new folder, that trusts key in
// place of the publishers' keys.
func (p *publishers) store(t testing.TB, keys ...*signer) *Store {
	t.Helper()
	dir := t.TempDir()
	return NewStore(Config{
		Dir:          filepath.Join(dir, "images"),
		KeysDir:      filepath.Join(dir, "keys"),
		Client:       p.client(),
		Catalog:      catalogWith(keys...),
		StallTimeout: time.Second,
		RetryWait:    time.Millisecond,
	})
}

// catalogWith is the catalog with other keys pinned.
func catalogWith(keys ...*signer) []Entry {
	var prints []string
	for _, k := range keys {
		prints = append(prints, fingerprint(k.entity))
	}
	entries := Catalog()
	for i := range entries {
		if entries[i].Keys != nil {
			entries[i].Keys = prints
		}
	}
	return entries
}

// signer signs as a publisher does.
type signer struct {
	t      testing.TB
	entity *openpgp.Entity
	now    time.Time // when it signs
	after  func()    // changes the key after it has signed
}

func keyConfig(at time.Time, lifetime time.Duration) *packet.Config {
	return &packet.Config{
		Algorithm:       packet.PubKeyAlgoEdDSA,
		Time:            func() time.Time { return at },
		KeyLifetimeSecs: uint32(lifetime / time.Second),
	}
}

// newSigner makes a primary key of 2018, without expiry.
func newSigner(t testing.TB) *signer {
	t.Helper()
	born := time.Date(2018, 2, 26, 0, 0, 0, 0, time.UTC)
	e, err := openpgp.NewEntity("Test Buildbot", "", "buildbot@example.test", keyConfig(born, 0))
	check(t, err)
	return &signer{t: t, entity: e, now: time.Now().Add(-time.Hour)}
}

// subkey adds a subkey that signs from then on.
func (s *signer) subkey(born time.Time, lifetime time.Duration) *signer {
	s.t.Helper()
	check(s.t, s.entity.AddSigningSubkey(keyConfig(born, lifetime)))
	return s
}

// last returns the newest subkey; the first one is for encryption.
func (s *signer) last() *openpgp.Subkey {
	return &s.entity.Subkeys[len(s.entity.Subkeys)-1]
}

// shorten makes the subkey, once it has signed, one that lives only so long.
func (s *signer) shorten(lifetime time.Duration) *signer {
	s.after = func() {
		sub := s.last()
		secs := uint32(lifetime / time.Second)
		sub.Bindings[0].Packet.KeyLifetimeSecs = &secs
		check(s.t, sub.ReSign(keyConfig(sub.PublicKey.CreationTime, 0)))
	}
	return s
}

// revoke withdraws the subkey, once it has signed.
func (s *signer) revoke(reason packet.ReasonForRevocation) *signer {
	s.after = func() {
		check(s.t, s.last().Revoke(reason, "", keyConfig(time.Now(), 0)))
	}
	return s
}

func (s *signer) sign(content []byte) []byte {
	s.t.Helper()
	var sig bytes.Buffer
	check(s.t, openpgp.DetachSign(&sig, []*openpgp.Entity{s.entity}, bytes.NewReader(content), keyConfig(s.now, 0)))
	return sig.Bytes()
}

// public returns the armored public key.
func (s *signer) public() []byte {
	s.t.Helper()
	var b bytes.Buffer
	w, err := armor.Encode(&b, openpgp.PublicKeyType, nil)
	check(s.t, err)
	check(s.t, s.entity.Serialize(w))
	check(s.t, w.Close())
	return b.Bytes()
}

const (
	flatcarKeyURL = "https://www.flatcar.org/security/image-signing-key/Flatcar_Image_Signing_Key.asc"
	fedoraKeyURL  = "https://fedoraproject.org/fedora.gpg"
)

// signed serves a file with Flatcar's companions.
func (p *publishers) signed(url string, content []byte, by *signer) {
	name := path.Base(url)
	sum1, sum512 := sha256.Sum256(content), sha512.Sum512(content)
	p.put(url, content)
	p.put(url+".sig", by.sign(content))
	p.put(url+".DIGESTS", fmt.Appendf(nil,
		"# MD5 HASH\n%s  %s\n# SHA1 HASH\n%s  %s\n# SHA512 HASH\n%s  %s\n",
		strings.Repeat("0", 32), name, hex.EncodeToString(sum1[:20]), name, hex.EncodeToString(sum512[:]), name))
}

// flatcar publishes a release for both boards and makes it the current one.
func (p *publishers) flatcar(channel, current, version string, disk []byte, by *signer) {
	base := "https://" + channel + ".release.flatcar-linux.net/"
	p.put(flatcarKeyURL, by.public())
	for _, board := range []string{"amd64-usr", "arm64-usr"} {
		p.put(base+board+"/"+current+"/version.txt", fmt.Appendf(nil,
			"FLATCAR_BUILD=%d\nFLATCAR_VERSION=%s\nFLATCAR_VERSION_ID=%s\nFLATCAR_BUILD_ID=\"2026-08-11-2350\"\n",
			majorOf(version), version, version))
		files := base + board + "/" + version + "/flatcar_production_qemu_uefi_"
		p.signed(files+"image.img", disk, by)
		suffix := ".qcow2"
		if majorOf(version) <= 4081 {
			suffix = ".fd"
		}
		p.signed(files+"efi_code"+suffix, []byte("code"), by)
		p.signed(files+"efi_vars"+suffix, []byte("vars"), by)
	}
}

// fedora publishes a release for both architectures as the stream's newest.
func (p *publishers) fedora(t testing.TB, stream, version string, disk []byte, by *signer) {
	t.Helper()
	packed := compressXZ(t, disk)
	var arches []string
	for _, arch := range []string{"x86_64", "aarch64"} {
		url := fedoraURL(stream, version, arch)
		p.put(url, packed)
		p.put(url+".sig", by.sign(packed))
		arches = append(arches, fmt.Sprintf(`%q: {"artifacts": {"qemu": {"release": %q, "formats": {"qcow2.xz":
			{"disk": {"location": %q, "signature": %q, "sha256": "%x", "uncompressed-sha256": "%x"}}}}}}`,
			arch, version, url, url+".sig", sha256.Sum256(packed), sha256.Sum256(disk)))
	}
	p.put("https://builds.coreos.fedoraproject.org/streams/"+stream+".json", fmt.Appendf(nil,
		`{"stream": %q, "metadata": {"last-modified": "2026-07-21T16:09:37Z"}, "architectures": {%s}}`,
		stream, strings.Join(arches, ", ")))
	p.put(fedoraKeyURL, by.public())
}

func fedoraURL(stream, version, arch string) string {
	return fmt.Sprintf("https://builds.coreos.fedoraproject.org/prod/streams/%s/builds/%s/%s/fedora-coreos-%s-qemu.%s.qcow2.xz",
		stream, version, arch, version, arch)
}

// testDisk returns a qcow2 file of about size bytes that cannot be compressed,
// different for each name.
func testDisk(name string, size int) []byte {
	var h qcow2.Header
	copy(h.Magic[:], qcow2.Magic)
	h.Version, h.ClusterBits = 3, 16
	h.Size = 10 << 30
	h.L1Size, h.L1TableOffset = 20, 3<<16
	h.RefcountTableClusters, h.RefcountTableOffset = 1, 1<<16
	seed := fnv.New64()
	seed.Write([]byte(name))
	b := make([]byte, max(size, 4<<16))
	fill := mrand.NewChaCha8(sha256.Sum256([]byte(name)))
	_, _ = fill.Read(b) // never fails
	head, err := binary.Append(nil, binary.BigEndian, h)
	if err != nil {
		panic(err) // the struct has a fixed size
	}
	copy(b, make([]byte, 512))
	copy(b, head)
	return b
}

func compressXZ(t testing.TB, content []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := xz.WriterConfig{DictCap: 1 << 16}.NewWriter(&b) // quick, not small
	check(t, err)
	_, err = w.Write(content)
	check(t, err)
	check(t, w.Close())
	return b.Bytes()
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
