package agent

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hostctl/hostctl/internal/sshclient"
)

// redirect leads what the host sends to a port of the guest's address on the
// NAT network to a container.
type redirect struct {
	protocol string
	port     uint16
	to       netip.AddrPort
}

// redirector makes ports reachable that containers bind to the guest's
// loopback, or to another address that forwards do not arrive at. In the
// guest's nat table it keeps a chain of its own, over one SSH connection.
//
// The host's packets are redirected to the container before they are routed,
// as Docker's own rules do for a port bound to all addresses. So nothing runs
// in the guest, UDP works as TCP does, loopback need not be routed
// (route_localnet), and nobody but the host gets there: the chain is for its
// address. Docker's filter lets such packets pass to a published port, and the
// raw table, where Docker 28 drops what is sent to a container directly, sees
// the guest's address still.
type redirector struct {
	target func() (sshclient.Target, error)
	log    *slog.Logger
	// changed is told when what is in force, or why it is not, has changed.
	changed func()
	again   chan struct{} // capacity 1: wanted has changed, or shall be looked at
	drop    chan struct{} // capacity 1: the connection is dead

	mu      sync.Mutex
	up      chan struct{} // closed while Docker answers
	answers bool          // Docker does
	wanted  []redirect
	applied []redirect
	guest   netip.Addr // its address on the NAT network; invalid before the first login
	err     error      // why wanted is not in force
}

func newRedirector(target func() (sshclient.Target, error), log *slog.Logger, changed func()) *redirector {
	return &redirector{target: target, log: log, changed: changed,
		again: make(chan struct{}, 1), drop: make(chan struct{}, 1), up: make(chan struct{})}
}

// engine says whether Docker answers. Before it does nobody needs a redirect,
// and a guest that boots has enough to do: logging in costs it seconds.
func (r *redirector) engine(answers bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case answers && !r.answers:
		close(r.up)
	case !answers && r.answers:
		r.up = make(chan struct{})
	}
	r.answers = answers
}

// awaitEngine waits until Docker answers.
func (r *redirector) awaitEngine(ctx context.Context) error {
	r.mu.Lock()
	up := r.up
	r.mu.Unlock()
	select {
	case <-up:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// poke leaves word in a channel of capacity 1.
func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// want asks for these redirects and no others, and for a look at the guest's
// table even where they are in force: somebody may have flushed it.
func (r *redirector) want(list []redirect, look bool) {
	r.mu.Lock()
	same := slices.Equal(r.wanted, list)
	r.wanted = list
	r.mu.Unlock()
	if !same || look && len(list) > 0 {
		poke(r.again)
	}
}

// state returns what is in force, and why not more is.
func (r *redirector) state() (applied []redirect, guest netip.Addr, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.applied, r.guest, r.err
}

const (
	// retryInterval is the pause after a failure that may go away soon. It
	// grows while the failure stays the same.
	retryInterval    = 250 * time.Millisecond
	maxRetryInterval = 5 * time.Second
	// applyTimeout bounds one change in the guest; an emulated one is slow.
	applyTimeout = 20 * time.Second
	// leaveTimeout is what removing the rules may take when the agent ends.
	leaveTimeout = 2 * time.Second
)

// run keeps the connection and the rules until ctx ends, and then removes the
// rules unless the guest is gone.
func (r *redirector) run(ctx context.Context) {
	wait := retryInterval
	for ctx.Err() == nil {
		err := r.serve(ctx)
		if ctx.Err() != nil {
			return
		}
		_, _, before := r.state()
		if before != nil && before.Error() == err.Error() {
			wait = min(2*wait, maxRetryInterval) // a guest that refuses the key, for instance
		} else {
			wait = retryInterval
			r.log.Info("the guest is not reached by SSH", "error", err)
		}
		r.note(nil, netip.Addr{}, err)
		pause(ctx, wait)
	}
}

// serve works over one connection until that ends.
func (r *redirector) serve(ctx context.Context) error {
	if err := r.awaitEngine(ctx); err != nil {
		return err
	}
	target, err := r.target()
	if err != nil {
		return err
	}
	client, err := sshclient.Connect(ctx, target)
	if err != nil {
		return err
	}
	defer func() { _ = client.Close() }() // the guest may be gone
	select {
	case <-r.drop: // meant the connection before this one
	default:
	}
	ended := make(chan struct{})
	go func() {
		client.AwaitEnd()
		close(ended)
	}()
	var guest netip.Addr
	// An agent that was killed may have left rules.
	there := true
	for {
		r.mu.Lock()
		wanted := r.wanted
		r.mu.Unlock()
		if there || len(wanted) > 0 {
			there = true
			err = within(ctx, applyTimeout, func(ctx context.Context) error {
				var err error
				guest, err = apply(ctx, client, wanted)
				return err
			})
		}
		var (
			refused *refusedError
			again   <-chan time.Time
		)
		switch {
		case err == nil:
			there = len(wanted) > 0
			r.note(wanted, guest, nil)
		case errors.As(err, &refused) && len(wanted) == 0:
			there = false // who may not remove rules may not have made some
			r.note(nil, guest, nil)
		case errors.As(err, &refused):
			if _, _, before := r.state(); before == nil || before.Error() != err.Error() {
				r.log.Warn("cannot change the guest's nat table", "error", err)
			}
			r.note(nil, guest, err)
			again = time.After(mendInterval)
		default:
			return err
		}
		select {
		case <-r.again:
		case <-again:
		case <-ended:
			return sshclient.ErrLost
		case <-r.drop:
			return sshclient.ErrLost
		case <-ctx.Done():
			if there {
				// What cannot be removed now the next agent removes.
				_ = within(context.WithoutCancel(ctx), leaveTimeout, func(ctx context.Context) error {
					_, err := apply(ctx, client, nil)
					return err
				})
			}
			return context.Cause(ctx)
		}
	}
}

func (r *redirector) note(applied []redirect, guest netip.Addr, err error) {
	r.mu.Lock()
	r.applied, r.err = applied, err
	if guest.IsValid() {
		r.guest = guest
	}
	r.mu.Unlock()
	r.changed()
}

// parseConnection reads sshd's SSH_CONNECTION: "CLIENT PORT SERVER PORT".
func parseConnection(s string) (host, guest netip.Addr, err error) {
	fields := strings.Fields(s)
	if len(fields) != 4 {
		return host, guest, fmt.Errorf("the guest's SSH_CONNECTION is %q", s)
	}
	if host, err = netip.ParseAddr(fields[0]); err == nil {
		guest, err = netip.ParseAddr(fields[2])
	}
	host, guest = host.Unmap(), guest.Unmap()
	if err == nil && (!host.Is4() || !guest.Is4()) {
		err = fmt.Errorf("the guest is not reached by IPv4: SSH_CONNECTION is %q", s)
	}
	return host, guest, err
}

// chain is the name of the agent's own chain in the guest's nat table.
const chain = "HOSTCTL-PUBLISH"

// Commands of the guest. They are constants: what differs is in the rules, as
// addresses and numbers, and arrives on standard input. The addresses that the
// chain is for are those of the connection, which comes the way that forwards
// do; they are printed, too. It is one command with one sudo, because an
// emulated guest needs a quarter of a second for each.
const (
	// Not every sudo is told where administrators' programs are.
	asRoot = `echo "$SSH_CONNECTION"; set -- $SSH_CONNECTION; exec sudo -n sh -c 'PATH=$PATH:/usr/sbin:/sbin; ` +
		`t() { iptables -w 5 -t nat "$@" 2>/dev/null; }; `
	connection = `' sh "$1" "$3"`

	// The jump is looked for each time: who restarts the guest's firewall
	// flushes it. It goes before Docker's, whose rules for a port of all
	// addresses would not match anyway.
	restoreCommand = asRoot + `iptables-restore -w 5 --noflush && { ` +
		`t -C PREROUTING -s "$1" -d "$2" -j ` + chain + ` || ` +
		`iptables -w 5 -t nat -I PREROUTING -s "$1" -d "$2" -j ` + chain + `; }` + connection
	// Without rules the guest is left as it was found.
	removeCommand = asRoot + `t -F ` + chain + ` && { ` +
		`t -D PREROUTING -s "$1" -d "$2" -j ` + chain + `; t -X ` + chain + `; }; true` + connection
)

// refusedError is a guest that does not do what it is told.
type refusedError struct {
	exit int
	said string
}

func (e *refusedError) Error() string {
	return fmt.Sprintf("iptables in the guest: exit status %d: %s", e.exit, e.said)
}

// apply puts exactly these redirects in force, and returns the guest's address
// on the NAT network.
func apply(ctx context.Context, client *sshclient.Client, list []redirect) (guest netip.Addr, err error) {
	command, in := removeCommand, ""
	if len(list) > 0 {
		command, in = restoreCommand, rules(list)
	}
	var out, said bytes.Buffer
	exit, err := client.Exec(ctx, command, sshclient.Streams{In: strings.NewReader(in), Out: &out, Err: &said})
	if err != nil {
		return guest, err
	}
	_, guest, err = parseConnection(out.String())
	if exit != 0 {
		line, _, _ := strings.Cut(strings.TrimSpace(said.String()), "\n")
		err = &refusedError{exit, line}
	}
	return guest, err
}

// rules is the chain as iptables-restore(8) reads it. With --noflush, naming a
// chain empties it, and all of a table happens in one step.
func rules(list []redirect) string {
	var b strings.Builder
	fmt.Fprintf(&b, "*nat\n:%s - [0:0]\n", chain)
	for _, r := range list {
		fmt.Fprintf(&b, "-A %s -p %s --dport %d -j DNAT --to-destination %s\n", chain, r.protocol, r.port, r.to)
	}
	b.WriteString("COMMIT\n")
	return b.String()
}

func within(ctx context.Context, d time.Duration, fn func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	return fn(ctx)
}

// pause waits, or not when ctx ends.
func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
