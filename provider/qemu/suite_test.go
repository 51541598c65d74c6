package qemu_test

import (
	"context"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/shirou/gopsutil/v4/process"

	"github.com/hostctl/hostctl/internal/wait"
	"github.com/hostctl/hostctl/network"
	"github.com/hostctl/hostctl/provider"
	"github.com/hostctl/hostctl/provider/providertest"
	"github.com/hostctl/hostctl/provider/qemu"
)

// wanted reports whether this run is to boot QEMU. A QEMU that is asked for
// and missing fails the tests.
func wanted() bool {
	return slices.Contains(strings.Split(os.Getenv("HOSTCTL_TEST_PROVIDERS"), ","), "qemu")
}

// needQEMU skips a test that boots QEMU unless it is asked for.
func needQEMU(t *testing.T) {
	t.Helper()
	if !wanted() {
		t.Skip("boots QEMU: set HOSTCTL_TEST_PROVIDERS=qemu")
	}
	if _, err := exec.LookPath("qemu-system-x86_64"); err != nil {
		t.Fatal(err)
	}
}

// place is where one provider of a test keeps its domains.
type place struct {
	root, run string
	// privileged makes bridges, for which a test has to be in the lab.
	privileged bool
}

func newPlace(t testing.TB) place {
	t.Helper()
	// t.TempDir's path is too long for sockets.
	dir, err := os.MkdirTemp("", "hc")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return place{root: filepath.Join(t.TempDir(), "domains"), run: filepath.Join(dir, "run")}
}

func (p place) projectID() string { return filepath.Base(filepath.Dir(p.run)) }

func (p place) runDir() (string, error) { return p.run, os.MkdirAll(p.run, 0o700) }

func (p place) provider(grace time.Duration) *qemu.Provider {
	return qemu.New(qemu.Config{
		Root: p.root, RunDir: p.runDir, Grace: grace,
		// Tests are many projects at once.
		ProjectID:  p.projectID,
		Privileged: func() bool { return p.privileged },
	})
}

func newDomain(t testing.TB, name string) provider.Domain {
	t.Helper()
	base := filepath.Join(t.TempDir(), "base.raw")
	if err := os.WriteFile(base, providertest.BootSector(), 0o600); err != nil {
		t.Fatal(err)
	}
	return provider.Domain{
		Name: name, ID: uuid.NewString(), Arch: "amd64", CPUs: 1, Memory: 32, Accel: "tcg",
		Disk:     provider.Disk{Base: base, BaseFormat: "raw"},
		Ignition: provider.Ignition{Key: "opt/com.coreos/config", Config: []byte("{}")},
	}
}

// processes returns the QEMU processes of the domain.
func processes(t *testing.T, id string) []int {
	t.Helper()
	all, err := process.Pids()
	if err != nil {
		t.Fatal(err)
	}
	var pids []int
	for _, pid := range all {
		argv, err := (&process.Process{Pid: pid}).CmdlineSlice()
		if err == nil && slices.Contains(argv, id) {
			pids = append(pids, int(pid))
		}
	}
	return pids
}

// kill ends the domain's QEMU and waits until it is gone.
func kill(t *testing.T, p place, name string) {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(p.root, name, "qemu.pid"))
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(data)))
	if err != nil {
		t.Fatal(err)
	}
	ps, err := os.FindProcess(pid)
	if err != nil {
		t.Fatal(err)
	}
	if err := ps.Kill(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := wait.Until(ctx, 5*time.Millisecond, func(ctx context.Context) error {
		argv, _ := (&process.Process{Pid: int32(pid)}).CmdlineSliceWithContext(ctx) // gone is empty
		if len(argv) > 0 && argv[0] != "" {
			return os.ErrExist
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}

func TestConformance(t *testing.T) {
	t.Parallel()
	needQEMU(t)
	conform(t, newPlace)
}

// conform runs the suite with providers over such places.
func conform(t *testing.T, newPlace func(testing.TB) place) {
	var mu sync.Mutex
	places := make(map[provider.Provider]place)
	at := func(p provider.Provider) place {
		mu.Lock()
		defer mu.Unlock()
		return places[p]
	}
	open := func(where place) provider.Provider {
		p := where.provider(300 * time.Millisecond)
		mu.Lock()
		defer mu.Unlock()
		places[p] = where
		return p
	}
	providertest.Run(t, providertest.Harness{
		New:    func(t *testing.T) provider.Provider { return open(newPlace(t)) },
		Again:  func(_ *testing.T, p provider.Provider) provider.Provider { return open(at(p)) },
		Domain: func(t *testing.T, name string) provider.Domain { return newDomain(t, name) },
		Kill:   func(t *testing.T, p provider.Provider, name string) { kill(t, at(p), name) },
		Leftovers: func(t *testing.T, p provider.Provider) []string {
			return leftovers(t, at(p))
		},
	})
}

// leftovers names the files in a place, and the QEMUs whose sockets lie there.
func leftovers(t *testing.T, p place) []string {
	t.Helper()
	var left []string
	for _, dir := range []string{p.root, p.run} {
		entries, err := os.ReadDir(dir)
		if err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
		for _, e := range entries {
			left = append(left, filepath.Join(dir, e.Name()))
		}
	}
	all, err := process.Pids()
	if err != nil {
		t.Fatal(err)
	}
	for _, pid := range all {
		line, err := (&process.Process{Pid: pid}).Cmdline()
		if err == nil && strings.Contains(line, p.run+string(filepath.Separator)) {
			left = append(left, line)
		}
	}
	return left
}

var dev = provider.HostOnly{Name: "dev", CIDR: netip.MustParsePrefix("172.28.8.0/24")}

func onDev(d provider.Domain) provider.Domain {
	d.NICs = []provider.NIC{{
		Network: "dev", MAC: network.MAC(d.ID, "dev").String(), HostOnly: &dev, Address: netip.MustParseAddr("172.28.8.101"),
	}}
	return d
}

func eventually(t *testing.T, attempt func() error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	must(t, wait.Until(ctx, 10*time.Millisecond, func(context.Context) error { return attempt() }))
}
