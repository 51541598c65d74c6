package providertest_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/uuid"

	"github.com/hostctl/hostctl/provider"
	"github.com/hostctl/hostctl/provider/providertest"
)

func base(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "base.raw")
	if err := os.WriteFile(path, make([]byte, 512), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func domain(t *testing.T, name string) provider.Domain {
	return provider.Domain{
		Name: name, ID: uuid.NewString(), Arch: "amd64", CPUs: 1, Memory: 64,
		Disk:     provider.Disk{Base: base(t), BaseFormat: "raw"},
		Ignition: provider.Ignition{Key: "opt/com.coreos/config", Config: []byte("{}")},
	}
}

// The fake in memory, and the fake that a next process finds again.
func TestFake(t *testing.T) {
	t.Parallel()
	t.Run("memory", func(t *testing.T) {
		t.Parallel()
		providertest.Run(t, providertest.Harness{
			New:       func(*testing.T) provider.Provider { return new(providertest.Fake) },
			Again:     func(_ *testing.T, p provider.Provider) provider.Provider { return p },
			Domain:    domain,
			Kill:      kill,
			Leftovers: func(*testing.T, provider.Provider) []string { return nil },
		})
	})
	t.Run("file", func(t *testing.T) {
		t.Parallel()
		providertest.Run(t, providertest.Harness{
			New: func(t *testing.T) provider.Provider {
				return &providertest.Fake{Path: filepath.Join(t.TempDir(), "fake.json")}
			},
			Again: func(_ *testing.T, p provider.Provider) provider.Provider {
				return &providertest.Fake{Path: p.(*providertest.Fake).Path}
			},
			Domain: domain,
			Kill:   kill,
			Leftovers: func(t *testing.T, p provider.Provider) []string {
				data, err := os.ReadFile(p.(*providertest.Fake).Path)
				if err == nil && string(data) != "{}" {
					return []string{string(data)}
				}
				return nil
			},
		})
	})
}

func kill(t *testing.T, p provider.Provider, name string) {
	if err := p.(*providertest.Fake).Kill(name); err != nil {
		t.Fatal(err)
	}
}

func TestFakeFails(t *testing.T) {
	t.Parallel()
	full := errors.New("no space left on device")
	f := new(providertest.Fake)
	f.FailOn(providertest.Start, full)
	d := domain(t, "core")
	if err := f.Create(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	if err := f.Start(t.Context(), "core"); !errors.Is(err, full) {
		t.Errorf("start: %v, want %v", err, full)
	}
	f.FailOn(providertest.Start, nil)
	if err := f.Start(t.Context(), "core"); err != nil {
		t.Errorf("start: %v", err)
	}
	if got, want := f.Calls(), []string{"create core", "start core", "start core"}; !slices.Equal(got, want) {
		t.Errorf("calls are %q, want %q", got, want)
	}
}

func TestFakeBefore(t *testing.T) {
	t.Parallel()
	f := &providertest.Fake{Before: func(ctx context.Context, op providertest.Op, name string) error {
		if op == providertest.Stop && name == "slow" {
			<-ctx.Done()
			return context.Cause(ctx)
		}
		return nil
	}}
	if err := f.Create(t.Context(), domain(t, "slow")); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 1)
	defer cancel()
	if err := f.Stop(ctx, "slow"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("stop: %v", err)
	}
}
