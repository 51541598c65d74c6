package libvirt_test

import (
	"crypto/rand"
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	rpc "github.com/digitalocean/go-libvirt"
	"github.com/digitalocean/go-libvirt/socket/dialers"
	"github.com/google/uuid"

	"github.com/hostctl/hostctl/internal/lab"
	"github.com/hostctl/hostctl/provider"
	"github.com/hostctl/hostctl/provider/libvirt"
	"github.com/hostctl/hostctl/provider/providertest"
)

func TestMain(m *testing.M) { os.Exit(lab.Run(m, lab.Wanted())) }

// place is one project on the lab's libvirt.
type place struct {
	uri     string
	socket  string // for those who look past the provider
	project string
}

func newPlace(uri, socket string) place {
	id := make([]byte, 6)
	_, _ = rand.Read(id) // it never fails
	return place{uri, socket, hex.EncodeToString(id)}
}

func (p place) provider(t testing.TB, grace time.Duration) provider.Provider {
	t.Helper()
	v, err := libvirt.New(libvirt.Config{URI: p.uri, ProjectID: func() string { return p.project }, Grace: grace})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// direct is a connection past the provider, for what happens behind its back.
func direct(t testing.TB, socket string) *rpc.Libvirt {
	t.Helper()
	l := rpc.NewWithDialer(dialers.NewLocal(dialers.WithSocket(socket)))
	uri := rpc.QEMUSystem
	if socket != lab.Socket {
		uri = rpc.QEMUSession
	}
	if err := l.ConnectToURI(uri); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Disconnect() }) // libvirtd may be gone
	return l
}

func newDomain(t testing.TB, name, dir string) provider.Domain {
	t.Helper()
	id := uuid.NewString()
	base := filepath.Join(dir, id+".raw")
	if err := os.WriteFile(base, providertest.BootSector(), 0o644); err != nil {
		t.Fatal(err)
	}
	return provider.Domain{
		Name: name, ID: id, Arch: "amd64", CPUs: 1, Memory: 32, Accel: "tcg",
		Disk:     provider.Disk{Base: base, BaseFormat: "raw"},
		Ignition: provider.Ignition{Key: "opt/com.coreos/config", Config: []byte("{}")},
	}
}

func TestConformance(t *testing.T) {
	lab.Libvirtd(t)
	for _, uri := range []string{"qemu:///system", "qemu+tcp://127.0.0.1/system"} {
		t.Run(uri, func(t *testing.T) {
			t.Parallel()
			conformance(t, uri, lab.Socket, t.TempDir)
		})
	}
	t.Run("session", func(t *testing.T) {
		t.Parallel()
		s := lab.NewSession(t)
		images := filepath.Join(s.Dir, "images")
		if err := os.Mkdir(images, 0o777); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(images, 0o777); err != nil {
			t.Fatal(err)
		}
		l := direct(t, s.Socket)
		pool, err := l.StoragePoolDefineXML("<pool type='dir'><name>default</name><target><path>"+images+"</path></target></pool>", 0)
		if err != nil {
			t.Fatal(err)
		}
		if err := l.StoragePoolCreate(pool, 0); err != nil {
			t.Fatal(err)
		}
		conformance(t, "qemu:///session?socket="+s.Socket, s.Socket, func() string { return s.Dir })
	})
}

// conformance runs the suite. base returns a directory for base images that libvirt's
// QEMU can read.
func conformance(t *testing.T, uri, socket string, base func() string) {
	var mu sync.Mutex
	places := make(map[provider.Provider]place)
	at := func(p provider.Provider) place {
		mu.Lock()
		defer mu.Unlock()
		return places[p]
	}
	open := func(t *testing.T, where place) provider.Provider {
		p := where.provider(t, 300*time.Millisecond)
		mu.Lock()
		defer mu.Unlock()
		places[p] = where
		return p
	}
	providertest.Run(t, providertest.Harness{
		New:    func(t *testing.T) provider.Provider { return open(t, newPlace(uri, socket)) },
		Again:  func(t *testing.T, p provider.Provider) provider.Provider { return open(t, at(p)) },
		Domain: func(t *testing.T, name string) provider.Domain { return newDomain(t, name, base()) },
		Kill:   func(t *testing.T, p provider.Provider, name string) { destroy(t, at(p), name) },
		Leftovers: func(t *testing.T, p provider.Provider) []string {
			return leftovers(t, at(p))
		},
	})
}

// destroy ends a guest as somebody with virsh would.
func destroy(t testing.TB, p place, name string) {
	t.Helper()
	l := direct(t, p.socket)
	dom, err := l.DomainLookupByName("hostctl-" + p.project + "-" + name)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.DomainDestroy(dom); err != nil {
		t.Fatal(err)
	}
}

// leftovers names the project's domains, networks, volumes and interfaces.
func leftovers(t testing.TB, p place) []string {
	t.Helper()
	l := direct(t, p.socket)
	var left []string
	keep := func(kind, name string) {
		if strings.Contains(name, p.project) {
			left = append(left, kind+" "+name)
		}
	}
	domains, _, err := l.ConnectListAllDomains(1, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range domains {
		keep("domain", d.Name)
	}
	networks, _, err := l.ConnectListAllNetworks(1, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range networks {
		keep("network", n.Name)
	}
	pools, _, err := l.ConnectListAllStoragePools(1, rpc.ConnectListStoragePoolsActive)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range pools {
		// It may be retired just now.
		if err := l.StoragePoolRefresh(p, 0); err != nil {
			t.Log(err)
		}
		volumes, _, err := l.StoragePoolListAllVolumes(p, 1, 0)
		if err != nil {
			t.Log(err)
		}
		for _, v := range volumes {
			keep("volume", v.Name)
		}
	}
	return left
}
