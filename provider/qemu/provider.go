// Package qemu runs guests as plain QEMU processes of the user: no daemon, no
// root. A domain is a directory; its guest is the QEMU process whose command
// line carries the domain's UUID. Nothing else is remembered about it, so it
// outlives hostctl, is found again by the next command, and is never confused
// with another process after a reboot or the reuse of a process id.
package qemu

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/hostctl/hostctl/internal/hint"
	"github.com/hostctl/hostctl/internal/run"
	"github.com/hostctl/hostctl/internal/wait"
	"github.com/hostctl/hostctl/provider"
)

// Config is what a [Provider] needs. Root and RunDir are required.
type Config struct {
	// Root holds one directory per domain, named after it. Any path will do:
	// spaces, commas, any depth.
	Root string
	// RunDir returns the directory of the QMP sockets, when one is needed. It
	// must exist and be the user's alone, since whoever reaches a QMP socket
	// commands QEMU; its path must be short (a socket's is limited to about
	// 100 bytes) and stay the same while guests run.
	RunDir func() (string, error)
	// ProjectID returns what tells this project's host-only networks from
	// others', once it is known. nil, like "", refuses bridges for them.
	ProjectID func() string
	// Privileged reports whether this process may make bridges and taps; nil
	// asks the system.
	Privileged func() bool
	// Runner executes qemu-img and asks QEMU for its version; nil is [run.Exec].
	Runner run.Runner
	// LookPath finds programs; nil is [exec.LookPath].
	LookPath func(file string) (string, error)
	// Grace is how long Stop waits for the guest to shut down before it powers
	// it off; 0 is a minute.
	Grace time.Duration
	// Logger receives what is useful to developers; nil discards it.
	Logger *slog.Logger
}

// Provider runs domains with QEMU.
type Provider struct {
	cfg Config

	mu sync.Mutex
	// busy serialises the calls that change one domain; a domain's channel
	// holds a token while one of them runs.
	busy map[string]chan struct{}
	// bridges is held while the host's interfaces are changed.
	bridges sync.Mutex
}

var (
	_ provider.Provider      = (*Provider)(nil)
	_ provider.Console       = (*Provider)(nil)
	_ provider.Forwarder     = (*Provider)(nil)
	_ provider.NATAddresser  = (*Provider)(nil)
	_ provider.HostAddresser = (*Provider)(nil)

	_ provider.HostOnlyNetworker = (*Provider)(nil)
	_ provider.Bridger           = (*Provider)(nil)
	_ provider.Switched          = (*Provider)(nil)
)

const (
	defaultGrace = time.Minute
	// startTimeout bounds how long QEMU may take from its start to answering
	// its monitor: half a second on a quiet machine.
	startTimeout = time.Minute
	// powerdownEvery is how often Stop repeats the power button: a guest that
	// is still booting does not hear the first.
	powerdownEvery = 3 * time.Second
	// quitTimeout bounds how long QEMU may take to flush its disks and end.
	quitTimeout = 10 * time.Second
	pollEvery   = 15 * time.Millisecond
	// killedBusy bounds how long a QEMU that was killed may hold what it had
	// open, though its command line is gone already.
	killedBusy = 5 * time.Second
)

// New returns a provider over the domains in c.Root. It touches nothing.
func New(c Config) *Provider {
	if c.Runner == nil {
		c.Runner = run.Exec{}
	}
	if c.LookPath == nil {
		c.LookPath = exec.LookPath
	}
	if c.Privileged == nil {
		c.Privileged = mayBridge
	}
	if c.Grace == 0 {
		c.Grace = defaultGrace
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return &Provider{cfg: c, busy: make(map[string]chan struct{})}
}

// Check implements [provider.Provider]: QEMU for guests of that architecture,
// qemu-img, and what the guest will run on.
func (p *Provider) Check(ctx context.Context, n provider.Needs) (provider.Host, error) {
	if _, err := p.program("qemu-img", n.Arch); err != nil {
		return provider.Host{}, err
	}
	bin, err := p.program(emulator(n.Arch), n.Arch)
	if err != nil {
		return provider.Host{}, err
	}
	out, err := p.cfg.Runner.Run(ctx, bin, "--version")
	if err != nil {
		return provider.Host{}, err
	}
	h := provider.Host{Version: parseVersion(string(out))}
	h.Accel, h.Notice, err = choose(n.Accel, n.Arch, hardware())
	return h, err
}

var versionPattern = regexp.MustCompile(`version (\d+(?:\.\d+)+)`)

// parseVersion reads "QEMU emulator version 7.2.22 (Debian ...)".
func parseVersion(out string) string {
	if m := versionPattern.FindStringSubmatch(out); m != nil {
		return m[1]
	}
	line, _, _ := strings.Cut(out, "\n")
	return strings.TrimSpace(line)
}

// Create implements [provider.Provider]. It writes domain.json last: a
// directory without one is an interrupted Create, which the next begins anew.
func (p *Provider) Create(ctx context.Context, d provider.Domain) error {
	if err := validate(ctx, d); err != nil {
		return err
	}
	release, err := p.acquire(ctx, d.Name)
	if err != nil {
		return err
	}
	defer release()
	dir := p.dir(d.Name)
	old, err := dir.load()
	switch {
	case errors.Is(err, provider.ErrNotFound) && !dir.started():
		// What an interrupted Create left may be of another image, and holds
		// nothing yet.
		if err := errors.Join(removeIfThere(dir.path(diskFile)), removeIfThere(dir.path(varsFile))); err != nil {
			return err
		}
	case errors.Is(err, provider.ErrNotFound):
		return hint.Wrap(fmt.Errorf("%s is gone, and the disk beside it has been used", dir.path(domainFile)),
			"put the file back, or destroy the machine and its disk")
	case err != nil:
		return err
	case old.ID != d.ID:
		return hint.Wrap(fmt.Errorf("domain %q already exists with id %s", d.Name, old.ID),
			"destroy the machine before creating it anew")
	default:
		same, err := equalButForwards(old, d)
		if err != nil {
			return err
		}
		_, running, err := find(ctx, dir, old.ID)
		if err != nil {
			return err
		}
		if running && same {
			if slices.Equal(old.Forwards, d.Forwards) {
				return nil
			}
			return dir.store(d)
		}
		if running {
			return fmt.Errorf("domain %q %w", d.Name, provider.ErrRunning)
		}
		if _, err := os.Lstat(dir.path(diskFile)); errors.Is(err, fs.ErrNotExist) && dir.started() {
			return hint.Wrap(fmt.Errorf("the machine's disk %s is gone", dir.path(diskFile)),
				"put it back, or destroy the machine and bring it up anew with an empty one")
		}
	}
	for _, nic := range d.NICs {
		if nic.Interface == "" {
			continue
		}
		if _, err := p.bridgedInterface(ctx, nic); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(string(dir), 0o700); err != nil {
		return err
	}
	if err := p.createOverlay(ctx, dir, d.Disk); err != nil {
		return err
	}
	if err := p.createVars(dir, d); err != nil {
		return err
	}
	if err := dir.write(ignitionFile, d.Ignition.Config); err != nil {
		return err
	}
	return dir.store(d)
}

// Start implements [provider.Provider]. A QEMU that an interrupted Start left
// behind is adopted, so a domain never has two.
func (p *Provider) Start(ctx context.Context, name string) error {
	release, err := p.acquire(ctx, name)
	if err != nil {
		return err
	}
	defer release()
	dir := p.dir(name)
	d, err := dir.load()
	if err != nil {
		return err
	}
	v, running, err := find(ctx, dir, d.ID)
	if err != nil {
		return err
	}
	if running {
		if err := p.adopt(ctx, dir, d, v); !errors.Is(err, errGone) {
			return err
		}
	}
	patience, cancel := context.WithTimeout(ctx, killedBusy)
	defer cancel()
	var locked error
	err = wait.Until(patience, pollEvery, func(context.Context) error {
		err := p.launch(ctx, dir, d)
		if errors.Is(err, errLocked) {
			// Perhaps another hostctl was faster.
			if v, running, _ = find(ctx, dir, d.ID); running {
				return nil
			}
			locked = err
			return err
		}
		if err != nil {
			err = wait.Permanent(err)
		}
		return err
	})
	if errors.Is(err, errLocked) {
		return locked // without how long it was tried
	}
	if err != nil || !running {
		return err
	}
	return p.adopt(ctx, dir, d, v)
}

// Stop implements [provider.Provider]: the power button, then after the grace
// period the plug.
func (p *Provider) Stop(ctx context.Context, name string) error {
	release, err := p.acquire(ctx, name)
	if err != nil {
		return err
	}
	defer release()
	dir := p.dir(name)
	d, err := dir.load()
	if err != nil {
		return err
	}
	v, running, err := find(ctx, dir, d.ID)
	if err != nil || !running {
		return err
	}
	reason := p.powerDown(ctx, d, v)
	if reason == nil {
		return p.unplug(ctx, d)
	}
	if ctx.Err() != nil {
		return reason
	}
	if errors.Is(reason, errStillRunning) {
		reason = fmt.Errorf("it did not shut down within %s", p.cfg.Grace)
	}
	if err := errors.Join(p.powerOff(ctx, d.ID, v), p.unplug(ctx, d)); err != nil {
		return err
	}
	return &provider.ForcedError{Err: reason}
}

// Delete implements [provider.Provider]. domain.json goes last, so that what
// an interrupted Delete leaves is still a domain, and never an overlay that a
// new domain of that name would take for its own.
func (p *Provider) Delete(ctx context.Context, name string) error {
	release, err := p.acquire(ctx, name)
	if err != nil {
		return err
	}
	defer release()
	dir := p.dir(name)
	d, err := dir.load()
	switch {
	case errors.Is(err, provider.ErrNotFound) && !dir.started():
	case err != nil:
		// The id is lost with domain.json, but QEMU may still work in dir.
		v, running, ferr := findByDir(ctx, dir)
		if ferr != nil {
			return errors.Join(err, ferr)
		}
		if running {
			if err := p.powerOff(ctx, v.id(), v); err != nil {
				return err
			}
		}
	default:
		if err := p.powerOffAll(ctx, dir, d.ID); err != nil {
			return err
		}
	}
	if d.ID != "" {
		if err := p.unplug(ctx, d); err != nil {
			return err
		}
	}
	if err := dir.remove(); err != nil || d.ID == "" {
		return err
	}
	// One that had its files open already; who comes later finds none and ends.
	return p.powerOffAll(ctx, dir, d.ID)
}

// powerOffAll ends every QEMU of the domain. There are two for a moment when a Start
// was killed between fork and exec, where nobody sees its QEMU, and Start was called
// again: the later one waits for the files that the other has locked.
func (p *Provider) powerOffAll(ctx context.Context, dir domainDir, id string) error {
	for {
		v, running, err := find(ctx, dir, id)
		if err != nil || !running {
			return err
		}
		if err := p.powerOff(ctx, id, v); err != nil {
			return err
		}
	}
}

// Status implements [provider.Provider]. It reads two files and one process's
// command line.
func (p *Provider) Status(ctx context.Context, name string) (provider.Status, error) {
	if err := ctx.Err(); err != nil {
		return provider.Status{}, context.Cause(ctx)
	}
	if err := checkName(name); err != nil {
		return provider.Status{}, err
	}
	dir := p.dir(name)
	d, err := dir.load()
	if err != nil {
		return provider.Status{}, err
	}
	st := provider.Status{State: provider.Stopped, Forwards: d.Forwards}
	v, running, err := findByPIDFile(ctx, dir, d.ID)
	if err != nil {
		return provider.Status{}, err
	}
	if running {
		st.State, st.Accel = provider.Running, v.accel()
	}
	return st, nil
}

// Console implements [provider.Console]: the output since the guest's last
// start. That of the start before is in serial.log.1 beside it.
func (p *Provider) Console(_ context.Context, name string) (io.ReadCloser, error) {
	if err := checkName(name); err != nil {
		return nil, err
	}
	dir := p.dir(name)
	if _, err := dir.load(); err != nil {
		return nil, err
	}
	f, err := os.Open(dir.path(serialFile))
	if errors.Is(err, fs.ErrNotExist) { // never started
		return io.NopCloser(strings.NewReader("")), nil
	}
	return f, err
}

// acquire waits for its turn to change the domain.
func (p *Provider) acquire(ctx context.Context, name string) (release func(), err error) {
	if err := ctx.Err(); err != nil {
		return nil, context.Cause(ctx)
	}
	if err := checkName(name); err != nil {
		return nil, err
	}
	p.mu.Lock()
	c, ok := p.busy[name]
	if !ok {
		c = make(chan struct{}, 1)
		p.busy[name] = c
	}
	p.mu.Unlock()
	select {
	case c <- struct{}{}:
		return func() { <-c }, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// powerDown presses the guest's power button until it has ended, at most for
// the grace period.
func (p *Provider) powerDown(ctx context.Context, d provider.Domain, v vm) error {
	grace, cancel := context.WithTimeout(ctx, p.cfg.Grace)
	defer cancel()
	var pressed time.Time
	return wait.Until(grace, pollEvery, func(ctx context.Context) error {
		if gone, err := v.gone(ctx, d.ID); gone || err != nil {
			return err
		}
		if time.Since(pressed) >= powerdownEvery {
			pressed = time.Now()
			if err := v.command(ctx, d.ID, "system_powerdown"); err != nil {
				return fmt.Errorf("power button: %w", err)
			}
		}
		return errStillRunning
	})
}

var errStillRunning = errors.New("the guest is still running")

// powerOff ends QEMU: by its monitor or a signal, so that it writes what it
// holds of the disk; then by force.
func (p *Provider) powerOff(ctx context.Context, id string, v vm) error {
	end := []struct {
		by  string
		run func() error
	}{
		{"quit", func() error { return v.command(ctx, id, "quit") }},
		{"SIGTERM", func() error { return v.signal(ctx, id, syscall.SIGTERM) }},
		{"SIGKILL", func() error { return v.signal(ctx, id, os.Kill) }},
	}
	var err error
	for _, e := range end {
		if err = e.run(); err == nil {
			err = v.awaitGone(ctx, id, quitTimeout)
		}
		if err == nil {
			return p.removeSockets(ctx, id)
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		p.cfg.Logger.InfoContext(ctx, "qemu does not end", "id", id, "pid", v.pid, "by", e.by, "error", err)
	}
	return err
}

// maxSocket is what sun_path holds on macOS; Linux has four bytes more.
const maxSocket = 103

// socket is where a socket of that name belongs.
func (p *Provider) socket(name string) (string, error) {
	dir, err := p.cfg.RunDir()
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, name)
	if n := len(path); n > maxSocket {
		return "", fmt.Errorf("socket directory %s: path is %d bytes too long", dir, n-maxSocket)
	}
	return path, nil
}

// qmpSocketName is that of the domain's monitor.
func qmpSocketName(id string) string { return socketPrefix(id) + ".qmp" }

// socketPrefix begins the names of the domain's sockets. It has half of the
// id, which is unique enough and leaves the path its 100 bytes.
func socketPrefix(id string) string { return strings.ReplaceAll(id, "-", "")[:16] }

// removeSockets removes what a QEMU that has ended has left. It is never the
// monitor's path of a command line: an orderly end removes that one.
func (p *Provider) removeSockets(ctx context.Context, id string) error {
	dir, err := p.cfg.RunDir()
	if err != nil {
		p.cfg.Logger.InfoContext(ctx, "no socket directory to clean", "id", id, "error", err)
		return nil
	}
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	var errs []error
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), socketPrefix(id)+".") {
			errs = append(errs, removeIfThere(filepath.Join(dir, e.Name())))
		}
	}
	return errors.Join(errs...)
}

// redHatQEMU is where Red Hat's enterprise systems have their only QEMU, for
// guests of the host's own architecture.
const redHatQEMU = "/usr/libexec/qemu-kvm"

// program finds a program of QEMU's, or says how to install it.
func (p *Provider) program(name, arch string) (string, error) {
	path, err := p.cfg.LookPath(name)
	if err != nil && name == emulator(runtime.GOARCH) && runtime.GOOS == "linux" {
		if rh, e := p.cfg.LookPath(redHatQEMU); e == nil {
			path, err = rh, nil
		}
	}
	if err != nil {
		return "", hint.Wrap(fmt.Errorf("%s: %w", name, errors.Unwrap(err)), "%s", installHint(runtime.GOOS, runtime.GOARCH, arch))
	}
	return filepath.Abs(path) // QEMU starts in another directory
}

func installHint(goos, host, guest string) string {
	switch goos {
	case "darwin":
		return "install QEMU: brew install qemu"
	case "windows":
		return "install QEMU: winget install SoftwareFreedomConservancy.QEMU, and put it on the PATH"
	}
	system, rpm := "qemu-system-x86", "qemu-system-x86-core"
	if guest == "arm64" {
		system, rpm = "qemu-system-arm qemu-efi-aarch64", "qemu-system-aarch64-core"
	}
	if guest == host {
		rpm = "qemu-kvm" // Fedora has it, and Red Hat's enterprise systems nothing else
	}
	return fmt.Sprintf("install QEMU: apt-get install %s qemu-utils, or dnf install %s qemu-img", system, rpm)
}

// emulator is QEMU's program for guests of the architecture.
func emulator(arch string) string {
	if arch == "arm64" {
		return "qemu-system-aarch64"
	}
	return "qemu-system-x86_64"
}
