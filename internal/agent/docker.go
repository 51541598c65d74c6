package agent

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hostctl/hostctl/internal/wait"
)

// docker asks a guest's Docker engine. Requests carry no API version: an
// engine takes one without as its own newest, and what is read of the answers
// has been the same since 1.24 (Docker 1.12).
type docker struct {
	base string
	http *http.Client
}

// newDocker talks to host, for instance "tcp://127.0.0.1:2375".
func newDocker(host string) *docker {
	return &docker{
		base: "http://" + strings.TrimPrefix(host, "tcp://"),
		// No proxy: the way is that of a Docker client to a forward.
		http: &http.Client{Transport: &http.Transport{
			DialContext:         (&net.Dialer{KeepAlive: 15 * time.Second}).DialContext,
			MaxIdleConnsPerHost: 1,
			IdleConnTimeout:     time.Minute,
		}},
	}
}

func (d *docker) close() { d.http.CloseIdleConnections() }

const (
	// answerTimeout bounds a request to an engine that is there. An emulated
	// guest on a busy host needs seconds for its first list.
	answerTimeout = 10 * time.Second
	// pingTimeout is how long an engine may be silent before it counts as gone.
	pingTimeout = 3 * time.Second

	// A connection that was made while the guest boots may hang: slirp and
	// systemd's sockets take it long before anybody can answer. So attempts
	// overlap, and the first that is answered wins.
	attemptInterval = 500 * time.Millisecond
	attemptTimeout  = 5 * time.Second

	// maxAnswer bounds a list of containers, in bytes: whoever is root in the
	// guest says how long it is.
	maxAnswer = 64 << 20
)

// await returns when the engine answers.
func (d *docker) await(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	answered := make(chan struct{}, 1)
	return wait.Until(ctx, attemptInterval, func(ctx context.Context) error {
		go func() {
			ctx, cancel := context.WithTimeout(ctx, attemptTimeout)
			defer cancel()
			// On a connection of its own: a kept one may be dead.
			transport := &http.Transport{DisableKeepAlives: true}
			if d.get(ctx, &http.Client{Transport: transport}, "/_ping", nil) == nil {
				select {
				case answered <- struct{}{}:
				default:
				}
			}
		}()
		quick := time.NewTimer(attemptInterval / 2)
		defer quick.Stop()
		select {
		case <-answered:
			return nil
		case <-quick.C:
			return errors.New("no answer yet")
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	})
}

// ping asks over the kept connection: a guest that was reset answers it with
// an error at once.
func (d *docker) ping(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, pingTimeout)
	defer cancel()
	return d.get(ctx, d.http, "/_ping", nil)
}

// container is a running container, as far as its ports go.
//
// https://docs.docker.com/reference/api/engine/version/v1.41/#tag/Container/operation/ContainerList
type container struct {
	ID    string   `json:"Id"`
	Names []string // "/web"; links add "/other/alias"
	Ports []struct {
		IP          string // of the guest; "" in old engines: all
		PrivatePort uint16
		PublicPort  uint16 // 0: exposed only
		Type        string // "tcp", "udp" or "sctp"
	}
	NetworkSettings struct {
		Networks map[string]struct {
			IPAddress, Gateway string
			GwPriority         int // since 1.48
		}
	}
}

// containers lists those that run.
func (d *docker) containers(ctx context.Context) ([]container, error) {
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	var list []container
	err := d.get(ctx, d.http, "/containers/json", func(resp *http.Response) error {
		return json.NewDecoder(io.LimitReader(resp.Body, maxAnswer)).Decode(&list)
	})
	return list, err
}

// now is the engine's clock, in whole seconds.
func (d *docker) now(ctx context.Context) (time.Time, error) {
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	var now time.Time
	err := d.get(ctx, d.http, "/_ping", func(resp *http.Response) error {
		// Always there: net/http's server adds it.
		var err error
		now, err = http.ParseTime(resp.Header.Get("Date"))
		return err
	})
	return now, err
}

// events calls changed for every event after which the published ports may
// differ, those since a moment of the engine's clock included. It returns when
// the connection ends, or ctx.
//
// https://docs.docker.com/reference/api/engine/version/v1.41/#tag/System/operation/SystemEvents
func (d *docker) events(ctx context.Context, since time.Time, changed func()) error {
	filters, err := json.Marshal(map[string][]string{
		"type":  {"container", "network"},
		"event": {"start", "die", "destroy", "rename", "connect", "disconnect"},
	})
	if err != nil {
		return err
	}
	query := url.Values{"filters": {string(filters)}, "since": {strconv.FormatInt(since.Unix(), 10)}}
	return d.get(ctx, d.http, "/events?"+query.Encode(), func(resp *http.Response) error {
		// An event a line, which alone says that it is time to look: none of
		// them has to be understood, nor can be too long.
		buf := make([]byte, 4096)
		for {
			n, err := resp.Body.Read(buf)
			if n > 0 {
				changed()
			}
			if err != nil {
				return fmt.Errorf("events: %w", err)
			}
		}
	})
}

// get hands a good answer to read.
func (d *docker) get(ctx context.Context, client *http.Client, path string, read func(*http.Response) error) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, d.base+path, nil)
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(resp.Body, 256)) // what came is what there is to quote
		return fmt.Errorf("docker answered %s: %s", resp.Status, strings.TrimSpace(string(text)))
	}
	if read == nil {
		return nil
	}
	if err := read(resp); err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, io.LimitReader(resp.Body, 1<<20)) // so that the connection can be kept
	return err
}

// binding is a port of the guest that a container publishes. Among running
// containers it is one's alone.
type binding struct {
	protocol string
	ip       netip.Addr // of the guest
	port     uint16
}

// publication is a binding and where it leads.
type publication struct {
	binding
	container string         // its name
	private   netip.AddrPort // in the container; the address is invalid where Docker tells none
}

// publications returns what the containers publish on IPv4, ordered so that
// the same ones always get the same ports: all addresses before one, and
// addresses that others reach before loopback.
func publications(list []container) []publication {
	found := map[binding]publication{}
	for _, c := range list {
		for _, p := range c.Ports {
			if p.PublicPort == 0 || p.Type != "tcp" && p.Type != "udp" {
				continue
			}
			ip := netip.IPv4Unspecified()
			if p.IP != "" {
				var err error
				if ip, err = netip.ParseAddr(p.IP); err != nil || !ip.Is4() {
					continue
				}
			}
			b := binding{p.Type, ip, p.PublicPort}
			found[b] = publication{b, c.name(), netip.AddrPortFrom(c.address(), p.PrivatePort)}
		}
	}
	return slices.SortedFunc(maps.Values(found), func(a, b publication) int {
		return cmp.Or(cmp.Compare(a.port, b.port), cmp.Compare(a.protocol, b.protocol),
			cmp.Compare(rank(a.ip), rank(b.ip)), a.ip.Compare(b.ip))
	})
}

func rank(ip netip.Addr) int {
	switch {
	case ip.IsUnspecified():
		return 0
	case ip.IsLoopback():
		return 2
	}
	return 1
}

// validName is what Docker takes for a container's name, and its id. Whoever is
// root in the guest can answer with another, and names go far: bash evaluates
// what is offered as the completion of a word.
var validName = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.-]*$`)

// name is the container's own name, not that of a link to it. One that no
// container can have is "unnamed".
func (c container) name() string {
	name := c.ID[:min(12, len(c.ID))]
	for _, n := range c.Names {
		if n = strings.TrimPrefix(n, "/"); !strings.Contains(n, "/") {
			name = n
			break
		}
	}
	if !validName.MatchString(name) {
		return "unnamed"
	}
	return name
}

// address is the container's on the network that its published ports lead to:
// the one of its default route. Docker takes the highest priority, then the
// first name (libnetwork's Endpoint.Less); internal networks have no gateway.
func (c container) address() netip.Addr {
	networks := c.NetworkSettings.Networks
	names := slices.SortedFunc(maps.Keys(networks), func(a, b string) int {
		return cmp.Or(cmp.Compare(networks[b].GwPriority, networks[a].GwPriority), cmp.Compare(a, b))
	})
	for _, name := range names {
		addr, err := netip.ParseAddr(networks[name].IPAddress)
		if err == nil && addr.Is4() && networks[name].Gateway != "" {
			return addr
		}
	}
	return netip.Addr{}
}
