package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/hostctl/hostctl/internal/hint"
	"github.com/hostctl/hostctl/internal/project"
	"github.com/hostctl/hostctl/network"
	"github.com/hostctl/hostctl/provider"
)

// chooseInterface finds the host's interface that a bridged network is on: the
// one that it was on before, the first that the file names, or the one that the
// user chooses. All machines of the operation get the same.
func (b *boot) chooseInterface(ctx context.Context, state *project.State, at provider.Provider, n project.NetworkSpec, nic project.NIC) error {
	p, ok := provider.As[provider.Bridger](at)
	if !ok {
		return b.refuseNetwork(n.Name, "", "The provider has no bridged networks",
			fmt.Errorf("the provider %q has no bridged networks", b.providerName()), "use another provider, or leave the network out")
	}
	before := b.interfaceBefore(state, n, nic)
	key := "interface " + b.providerName() + " " + n.Name + " " + before
	err := b.op.once(key, func() error {
		have, err := p.BridgeInterfaces(ctx)
		if err != nil {
			return err
		}
		chosen, err := b.pickInterface(ctx, n, before, have)
		if err != nil {
			return err
		}
		if before != "" && chosen != before && !b.op.looks {
			b.engine.notice("network %q is on %s: this host has no interface %s now", n.Name, chosen, before)
		}
		b.op.choose(key, chosen)
		return nil
	}, fmt.Errorf("network %q: %w", n.Name, errRefused))
	if err != nil {
		return err
	}
	if b.interfaces == nil {
		b.interfaces = map[string]string{}
	}
	b.interfaces[n.Name] = b.op.chosen(key)
	return nil
}

// interfaceBefore is the interface that the machine, or else another one of the
// project, is on, while the file still names it; "" for none.
func (b *boot) interfaceBefore(state *project.State, n project.NetworkSpec, nic project.NIC) string {
	candidates := []string{nic.Interface}
	if nic.Interface == "" {
		candidates = nil
		for _, ms := range state.Machines {
			if i := nicOn(ms.NICs, n.Name).Interface; i != "" {
				candidates = append(candidates, i)
			}
		}
		slices.Sort(candidates)
	}
	for _, name := range candidates {
		if _, err := network.ChooseInterface(n.Interfaces, []network.Interface{{Name: name}}); err == nil {
			return name
		}
	}
	return ""
}

func (b *boot) pickInterface(ctx context.Context, n project.NetworkSpec, before string, have []network.Interface) (string, error) {
	if slices.ContainsFunc(have, func(i network.Interface) bool { return i.Name == before }) {
		return before, nil
	}
	name, err := "", error(&network.NoInterfaceError{Have: have})
	if before == "" || len(n.Interfaces) > 0 {
		// One that was chosen by the user is not swapped for the only other.
		name, err = network.ChooseInterface(n.Interfaces, have)
	}
	if err == nil {
		return name, nil
	}
	if len(n.Interfaces) == 0 && len(have) > 0 && b.op.looks {
		return have[0].Name, nil // whoever runs up can choose
	}
	if len(n.Interfaces) == 0 && len(have) > 0 && b.engine.Choose != nil {
		question := fmt.Sprintf("which interface is network %q on?", n.Name)
		if before != "" {
			question = fmt.Sprintf("interface %s is gone: which one is network %q on?", before, n.Name)
		}
		options := make([]string, len(have))
		for i, h := range have {
			options[i] = h.String()
		}
		i, err := b.engine.Choose(ctx, question, options)
		if err != nil {
			return "", err
		}
		if i >= 0 && i < len(have) {
			return have[i].Name, nil
		}
	}
	if before != "" {
		err = hint.Wrap(fmt.Errorf("interface %s, which it was on, is gone", before), "%s", hint.Of(err))
	}
	summary := "No interface for the network"
	if none, ok := errors.AsType[*network.NoInterfaceError](err); ok && len(none.Have) == 0 {
		summary = "No interface for bridged networks"
	}
	advice := hint.Of(err)
	if advice == "" {
		advice = "use a host-only network, or leave the network out"
	}
	return "", b.refuseNetwork(n.Name, "interface", summary, err, strings.TrimSpace(advice))
}

// choose keeps what was chosen for the machines that come later.
func (o *operation) choose(key, name string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.interfaces == nil {
		o.interfaces = map[string]string{}
	}
	o.interfaces[key] = name
}

func (o *operation) chosen(key string) string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.interfaces[key]
}
