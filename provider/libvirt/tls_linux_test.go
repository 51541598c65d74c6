package libvirt_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hostctl/hostctl/internal/hint"
	"github.com/hostctl/hostctl/internal/lab"
	"github.com/hostctl/hostctl/provider"
)

// authority makes certificates.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pem  []byte
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{}
	a.cert, a.key, a.pem, _ = a.sign(t, &x509.Certificate{
		Subject: pkix.Name{CommonName: "authority"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	})
	return a
}

// sign returns a certificate and its key, also as PEM.
func (a *authority) sign(t *testing.T, template *x509.Certificate) (*x509.Certificate, *ecdsa.PrivateKey, []byte, []byte) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template.SerialNumber = big.NewInt(time.Now().UnixNano())
	template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	parent, by := a.cert, a.key
	if parent == nil {
		parent, by = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), by)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return cert, key, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})
}

// pki writes what a client of the authority's has.
func (a *authority) pki(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	_, _, cert, key := a.sign(t, &x509.Certificate{Subject: pkix.Name{CommonName: "client"}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	for name, data := range map[string][]byte{"cacert.pem": a.pem, "clientcert.pem": cert, "clientkey.pem": key} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// serveTLS stands in front of the lab's libvirtd, and tells clients as libvirtd does
// whether it takes them.
func (a *authority) serveTLS(t *testing.T, verdict byte) string {
	t.Helper()
	cert, key, _, _ := a.sign(t, &x509.Certificate{
		Subject: pkix.Name{CommonName: "libvirtd"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	})
	clients := x509.NewCertPool()
	clients.AddCert(a.cert)
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{
		Certificates: []tls.Certificate{{Certificate: [][]byte{cert.Raw}, PrivateKey: key}},
		ClientAuth:   tls.RequireAndVerifyClientCert, ClientCAs: clients,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer in.Close()
				if _, err := in.Write([]byte{verdict}); err != nil {
					return
				}
				out, err := net.Dial("unix", lab.Socket)
				if err != nil {
					return
				}
				defer out.Close()
				go func() { _, _ = io.Copy(out, in); out.Close() }()
				_, _ = io.Copy(in, out)
			}()
		}
	}()
	return l.Addr().String()
}

// libvirt behind TLS: both sides show certificates, and both are looked at.
func TestThroughTLS(t *testing.T) {
	lab.Libvirtd(t)
	ours, theirs := newAuthority(t), newAuthority(t)
	check := func(addr, pki string) error {
		p := newPlace("qemu+tls://"+addr+"/system?pkipath="+pki, lab.Socket).provider(t, time.Second)
		_, err := p.Check(t.Context(), provider.Needs{Arch: "amd64"})
		return err
	}
	addr := ours.serveTLS(t, 1)
	if err := check(addr, ours.pki(t)); err != nil {
		t.Error(err)
	}
	if err := check(addr, theirs.pki(t)); err == nil || !strings.Contains(err.Error(), "certificate signed by unknown authority") {
		t.Errorf("a server of somebody else's: %v", err)
	}
	if err := check(ours.serveTLS(t, 0), ours.pki(t)); err == nil || !strings.Contains(err.Error(), "libvirtd does not take this host's certificate") || hint.Of(err) == "" {
		t.Errorf("a client that it does not take: %v", err)
	}
	if err := check(addr, t.TempDir()); err == nil || !strings.Contains(err.Error(), "certificates for 127.0.0.1") || hint.Of(err) == "" {
		t.Errorf("no certificates: %v", err)
	}
}
