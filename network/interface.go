package network

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// Interface is a network interface of the host that runs the guests.
type Interface struct {
	Name   string // for instance "eth0"
	Label  string // as people know it: "en1: Wi-Fi (AirPort)"; "" where there is none
	Bridge bool   // is a bridge already
}

// String returns the label, or the name where there is none.
func (i Interface) String() string { return cmp.Or(i.Label, i.Name) }

// NoInterfaceError says that a bridged network has no interface to be on.
type NoInterfaceError struct {
	Wanted []string    // as the machine file says; none: there was a choice
	Have   []Interface // the candidates
}

func (e *NoInterfaceError) Error() string {
	switch {
	case len(e.Have) == 0:
		return "this host has no interface that a bridged network can use"
	case len(e.Wanted) == 0:
		return "the machine file does not say which interface to use"
	default:
		return fmt.Sprintf("this host has no interface %s", enumerate(e.Wanted))
	}
}

// Hint lists the candidates.
func (e *NoInterfaceError) Hint() string {
	if len(e.Have) == 0 {
		return ""
	}
	have := make([]string, len(e.Have))
	for i, h := range e.Have {
		have[i] = h.String()
	}
	return "set interface to " + enumerate(have)
}

// enumerate returns `"a", "b" or "c"`.
func enumerate(words []string) string {
	quoted := make([]string, len(words))
	for i, w := range words {
		quoted[i] = fmt.Sprintf("%q", w)
	}
	if len(quoted) == 1 {
		return quoted[0]
	}
	last := len(quoted) - 1
	return strings.Join(quoted[:last], ", ") + " or " + quoted[last]
}

// ChooseInterface returns the name of the first wanted interface that the host
// has. One is wanted by its name ("eth0"), by its label ("en1: Wi-Fi
// (AirPort)"), or by how one of them begins ("en1: Wi-Fi", "enp"), in any case
// of letters, as Vagrant takes it; a name or label that is whole counts before
// one that only begins so. Where labels are not known, or shorter now, as
// macOS has cut off its "(AirPort)", the name before the colon decides.
// Nothing wanted chooses the host's only interface. Otherwise the error is a
// *[NoInterfaceError].
func ChooseInterface(wanted []string, have []Interface) (string, error) {
	if len(wanted) == 0 && len(have) == 1 {
		return have[0].Name, nil
	}
	for _, w := range wanted {
		for _, match := range []func(string, Interface) bool{isCalled, beginsWith, isCutOff} {
			if i := slices.IndexFunc(have, func(h Interface) bool { return match(strings.ToLower(w), lower(h)) }); i >= 0 {
				return have[i].Name, nil
			}
		}
	}
	return "", &NoInterfaceError{Wanted: wanted, Have: have}
}

func lower(i Interface) Interface {
	i.Name, i.Label = strings.ToLower(i.Name), strings.ToLower(i.Label)
	return i
}

func isCalled(w string, i Interface) bool { return w == i.Name || w == i.Label && w != "" }

func beginsWith(w string, i Interface) bool {
	return w != "" && (hasPrefix(i.Name, w) || hasPrefix(i.Label, w))
}

// hasPrefix is strings.HasPrefix, but "eth1" does not begin "eth10".
func hasPrefix(s, prefix string) bool {
	rest, ok := strings.CutPrefix(s, prefix)
	return ok && (rest == "" || !isDigit(rest[0]) || !isDigit(prefix[len(prefix)-1]))
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

func isCutOff(w string, i Interface) bool {
	if i.Label != "" {
		return hasPrefix(w, i.Label)
	}
	name, _, ok := strings.Cut(w, ":")
	return ok && name == i.Name
}

// world is the destination of default routes.
var world = netip.PrefixFrom(netip.IPv4Unspecified(), 0)

// sortByWayOut puts the interfaces of default routes first, in the order in
// which the system prefers them, and leaves the order of the others.
func sortByWayOut(ctx context.Context, ifaces []Interface) error {
	rs, err := routes(ctx)
	if err != nil {
		return fmt.Errorf("routes of this host: %w", err)
	}
	rank := make(map[string]int)
	for i, r := range rs {
		if _, ok := rank[r.iface]; !ok && r.dst == world {
			rank[r.iface] = i - len(rs)
		}
	}
	slices.SortStableFunc(ifaces, func(a, b Interface) int { return rank[a.Name] - rank[b.Name] })
	return nil
}
