package libvirt_test

import (
	"bufio"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/hostctl/hostctl/internal/lab"
	"github.com/hostctl/hostctl/internal/wait"
	"github.com/hostctl/hostctl/provider"
)

// A real guest boots, takes its configuration, gets the address that was reserved for it
// and answers on it. It needs the image that scripts/build-image makes.
func TestBoot(t *testing.T) {
	if os.Getenv("HOSTCTL_TEST_BOOT") == "" {
		t.Skip("boots a whole guest, as the end-to-end tests do: set HOSTCTL_TEST_BOOT=1")
	}
	lab.Libvirtd(t)
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	images, err := filepath.Glob(filepath.Join(cache, "hostctl", "images", "dockerhost", "*", "disk.qcow2"))
	if err != nil || len(images) == 0 {
		t.Fatalf("no dockerhost image: %v", err)
	}
	where := newPlace("qemu:///system", lab.Socket)
	p := where.provider(t, time.Minute)
	d := provider.Domain{
		Name: "core", ID: uuid.NewString(), Arch: "amd64", CPUs: 2, Memory: 1024, Accel: "tcg",
		Disk: provider.Disk{Base: images[0], BaseFormat: "qcow2", Size: 20 << 30},
		Ignition: provider.Ignition{Key: "opt/com.coreos/config", Config: []byte(`{"ignition":{"version":"3.3.0"},` +
			`"storage":{"files":[{"path":"/etc/hostname","overwrite":true,"mode":420,"contents":{"source":"data:,booted-by-libvirt"}}]},` +
			`"systemd":{"units":[{"name":"say-name.service","enabled":true,"contents":` +
			`"[Service]\nType=oneshot\nStandardOutput=file:/dev/console\nExecStart=/bin/echo my name is %H\n[Install]\nWantedBy=multi-user.target\n"}]}}`)},
	}
	t.Cleanup(func() {
		if err := p.Delete(context.WithoutCancel(t.Context()), "core"); err != nil {
			t.Error(err)
		}
		for _, left := range leftovers(t, where) {
			t.Errorf("left behind: %s", left)
		}
	})
	began := time.Now()
	if err := p.Create(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	t.Logf("created after %s", time.Since(began))
	if err := p.Start(t.Context(), "core"); err != nil {
		t.Fatal(err)
	}
	t.Logf("started after %s", time.Since(began))
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute) // less than go test allows, so that what the console said is shown
	defer cancel()
	dialer, _ := provider.As[provider.Dialer](p)
	if err := wait.Until(ctx, 200*time.Millisecond, func(ctx context.Context) error {
		dial, cancel := context.WithTimeout(ctx, 2*time.Second)
		defer cancel()
		c, err := dialer.DialGuest(dial, "core", "tcp", 22)
		if err != nil {
			return err
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(10 * time.Second)) // a connection takes one
		banner, err := bufio.NewReader(c).ReadString('\n')
		if err == nil && !strings.HasPrefix(banner, "SSH-2.0-") {
			err = errors.New("not SSH: " + banner)
		}
		return err
	}); err != nil {
		t.Errorf("no SSH server: %v", err)
	}
	t.Logf("SSH after %s", time.Since(began))
	// The image has no login on the console: a unit of the configuration says the name.
	console, _ := provider.As[provider.Console](p)
	r, err := console.Console(t.Context(), "core")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	var said []byte
	if err := wait.Until(ctx, 200*time.Millisecond, func(context.Context) error {
		more, err := io.ReadAll(r)
		if err != nil {
			return wait.Permanent(err)
		}
		if said = append(said, more...); !strings.Contains(string(said), "my name is booted-by-libvirt") {
			return errors.New("the guest has not said its name")
		}
		return nil
	}); err != nil {
		t.Errorf("%v\n%s", err, said)
	}
	if err := p.Stop(t.Context(), "core"); err != nil {
		t.Errorf("it does not shut down: %v", err)
	}
	t.Logf("stopped after %s", time.Since(began))
}
