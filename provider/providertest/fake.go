package providertest

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"sync"

	"github.com/google/renameio/v2/maybe"

	"github.com/hostctl/hostctl/network"
	"github.com/hostctl/hostctl/provider"
)

// Op is a method of [provider.Provider] or of a capability, as the tests of
// other packages name it.
type Op string

// The operations of a [Fake].
const (
	Check         Op = "check"
	Create        Op = "create"
	Start         Op = "start"
	Stop          Op = "stop"
	Delete        Op = "delete"
	Status        Op = "status"
	LiveForwards  Op = "live-forwards"
	AddForward    Op = "add-forward"
	RemoveForward Op = "remove-forward"
	EnsureNetwork Op = "ensure-network"
	DeleteNetwork Op = "delete-network"
	Networks      Op = "networks"
)

// Fake is a provider without a hypervisor: a full member that passes [Run],
// for the tests of packages that use providers. It binds no ports, but a port
// that another process or another of its domains holds gives a
// *[provider.PortError] as it would anywhere. Its host-only networks are names;
// the host reaches no guest on them. The zero value is ready and keeps its domains
// in memory.
//
// Those who test a provider without the capabilities embed the interface alone:
// struct{ provider.Provider }{fake}.
type Fake struct {
	// Path, when set, is a JSON file the domains are kept in, so that a fake
	// made by the next process finds them again.
	Path string
	// Before, when set, is called at the beginning of every operation, outside
	// of locks; its error is the operation's. It may block until ctx ends.
	Before func(ctx context.Context, op Op, name string) error
	// Accel is what guests of this host's architecture run on; "" is "tcg".
	Accel string

	mu    sync.Mutex
	kept  fakeState
	fail  map[Op]error
	calls []string
}

// fakeState is what the next process finds again.
type fakeState struct {
	Domains  map[string]*fakeDomain       `json:"domains,omitempty"`
	Networks map[string]provider.HostOnly `json:"networks,omitempty"`
}

type fakeDomain struct {
	Domain  provider.Domain `json:"domain"`
	Running bool            `json:"running"`
	Boots   int             `json:"boots"`
	Console string          `json:"console"`
}

var (
	_ provider.Provider          = (*Fake)(nil)
	_ provider.Console           = (*Fake)(nil)
	_ provider.Forwarder         = (*Fake)(nil)
	_ provider.HostOnlyNetworker = (*Fake)(nil)
	_ provider.HostAddresser     = (*Fake)(nil)
)

// FailOn makes every following op fail with err, until it is called with nil.
func (f *Fake) FailOn(op Op, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.fail == nil {
		f.fail = make(map[Op]error)
	}
	f.fail[op] = err
}

// Calls returns the operations so far, each as "start core-01"; "check" and
// "networks" have no name.
func (f *Fake) Calls() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]string(nil), f.calls...)
}

// Domain returns what the domain was created with.
func (f *Fake) Domain(name string) (provider.Domain, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	d, err := f.find(name)
	if err != nil {
		return provider.Domain{}, err
	}
	return d.Domain, nil
}

// Print adds to the domain's serial output.
func (f *Fake) Print(name, text string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	d, err := f.find(name)
	if err != nil {
		return err
	}
	d.Console += text
	return f.save()
}

// Kill ends the domain's VM as a crash or a guest's own power-off would.
func (f *Fake) Kill(name string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	d, err := f.find(name)
	if err != nil {
		return err
	}
	d.Running = false
	return f.save()
}

// Check implements [provider.Provider].
func (f *Fake) Check(ctx context.Context, n provider.Needs) (provider.Host, error) {
	if err := f.begin(ctx, Check, ""); err != nil {
		return provider.Host{}, err
	}
	foreign := n.Arch != runtime.GOARCH
	h := provider.Host{Version: "1.0", Accel: cmp.Or(n.Accel, f.Accel, "tcg")}
	switch {
	case n.Accel != "" && !slices.Contains([]string{"kvm", "hvf", "whpx", "tcg"}, n.Accel),
		foreign && n.Accel != "" && n.Accel != "tcg":
		return provider.Host{}, &provider.FieldError{Field: "accel", Err: fmt.Errorf("%s runs no %s guests here", n.Accel, n.Arch)}
	case foreign:
		h.Accel = "tcg"
		h.Notice = fmt.Sprintf("%s guests are emulated", n.Arch)
	}
	return h, nil
}

// Create implements [provider.Provider].
func (f *Fake) Create(ctx context.Context, d provider.Domain) error {
	if err := f.begin(ctx, Create, d.Name); err != nil {
		return err
	}
	if _, err := os.Stat(d.Disk.Base); d.Disk.Base != "" && err != nil {
		return &provider.FieldError{Field: "image", Err: err}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	old, err := f.find(d.Name)
	switch {
	case errors.Is(err, provider.ErrNotFound):
		f.kept.Domains[d.Name] = &fakeDomain{Domain: d}
	case err != nil:
		return err
	case reflect.DeepEqual(old.Domain, d):
		return nil
	case old.Running && !reflect.DeepEqual(withForwards(old.Domain, nil), withForwards(d, nil)):
		return fmt.Errorf("domain %q %w", d.Name, provider.ErrRunning)
	default:
		old.Domain = d
	}
	return f.save()
}

func withForwards(d provider.Domain, fs []network.Forward) provider.Domain {
	d.Forwards = fs
	return d
}

// Start implements [provider.Provider].
func (f *Fake) Start(ctx context.Context, name string) error {
	if err := f.begin(ctx, Start, name); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	d, err := f.find(name)
	if err != nil || d.Running {
		return err
	}
	for _, n := range d.Domain.NICs {
		if n.HostOnly == nil {
			continue
		}
		if _, ok := f.kept.Networks[n.Network]; !ok {
			return fmt.Errorf("network %q does not exist", n.Network)
		}
	}
	for _, fw := range d.Domain.Forwards {
		if err := f.bind(ctx, fw); err != nil {
			return err
		}
	}
	d.Running = true
	d.Boots++
	d.Console += fmt.Sprintf("fake guest %s, boot %d\n", name, d.Boots)
	return f.save()
}

// bind asks the other domains and the host. The caller holds the lock.
func (f *Fake) bind(ctx context.Context, fw network.Forward) error {
	for _, d := range f.kept.Domains {
		for _, o := range d.Domain.Forwards {
			if d.Running && o.Protocol == fw.Protocol && o.HostAddr() == fw.HostAddr() {
				return &provider.PortError{Forward: fw, Err: &network.InUseError{Addr: fw.HostAddr(), Protocol: fw.Protocol}}
			}
		}
	}
	err := network.Probe(ctx, fw)
	if in, ok := errors.AsType[*network.InUseError](err); ok {
		return &provider.PortError{Forward: fw, Err: in}
	}
	if err != nil {
		return &provider.FieldError{Field: "host", Forward: fw.Name, Err: err}
	}
	return nil
}

// Stop implements [provider.Provider].
func (f *Fake) Stop(ctx context.Context, name string) error {
	if err := f.begin(ctx, Stop, name); err != nil {
		return err
	}
	return f.Kill(name)
}

// Delete implements [provider.Provider].
func (f *Fake) Delete(ctx context.Context, name string) error {
	if err := f.begin(ctx, Delete, name); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, err := f.find(name); err != nil && !errors.Is(err, provider.ErrNotFound) {
		return err
	}
	delete(f.kept.Domains, name)
	return f.save()
}

// Status implements [provider.Provider].
func (f *Fake) Status(ctx context.Context, name string) (provider.Status, error) {
	if err := f.begin(ctx, Status, name); err != nil {
		return provider.Status{}, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	d, err := f.find(name)
	if err != nil {
		return provider.Status{}, err
	}
	st := provider.Status{State: provider.Stopped, Forwards: append([]network.Forward(nil), d.Domain.Forwards...)}
	if d.Running {
		st.State, st.Accel = provider.Running, "tcg"
	}
	return st, nil
}

// Console implements [provider.Console].
func (f *Fake) Console(_ context.Context, name string) (io.ReadCloser, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	d, err := f.find(name)
	if err != nil {
		return nil, err
	}
	return io.NopCloser(strings.NewReader(d.Console)), nil
}

func (f *Fake) begin(ctx context.Context, op Op, name string) error {
	if err := ctx.Err(); err != nil {
		return context.Cause(ctx)
	}
	f.mu.Lock()
	f.calls = append(f.calls, strings.TrimSpace(string(op)+" "+name))
	err := f.fail[op]
	f.mu.Unlock()
	if err != nil {
		return err
	}
	if f.Before != nil {
		return f.Before(ctx, op, name)
	}
	return nil
}

// find returns the domain; the caller holds the lock.
func (f *Fake) find(name string) (*fakeDomain, error) {
	if err := f.load(); err != nil {
		return nil, err
	}
	d, ok := f.kept.Domains[name]
	if !ok {
		return nil, fmt.Errorf("domain %q: %w", name, provider.ErrNotFound)
	}
	return d, nil
}

// load reads what another process may have changed; the caller holds the lock.
func (f *Fake) load() error {
	if f.Path != "" {
		data, err := os.ReadFile(f.Path)
		if err == nil {
			f.kept = fakeState{}
			err = json.Unmarshal(data, &f.kept)
		}
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	if f.kept.Domains == nil {
		f.kept.Domains = make(map[string]*fakeDomain)
	}
	if f.kept.Networks == nil {
		f.kept.Networks = make(map[string]provider.HostOnly)
	}
	return nil
}

// save keeps the domains for the next process; the caller holds the lock.
func (f *Fake) save() error {
	if f.Path == "" {
		return nil
	}
	data, err := json.Marshal(f.kept)
	if err != nil {
		return err
	}
	return maybe.WriteFile(f.Path, data, 0o600)
}
