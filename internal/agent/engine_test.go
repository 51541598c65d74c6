//go:build !windows

package agent_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// engine answers as a Docker engine does, as far as the agent asks:
//
//	https://docs.docker.com/reference/api/engine/version/v1.41/#tag/System/operation/SystemPing
//	https://docs.docker.com/reference/api/engine/version/v1.41/#tag/Container/operation/ContainerList
//	https://docs.docker.com/reference/api/engine/version/v1.41/#tag/System/operation/SystemEvents
//
// Its events come as the real ones: headers at once, then one JSON object for
// each event that the filters let pass, those since a moment first.
type engine struct {
	t    *testing.T
	addr string

	mu         sync.Mutex
	server     *httptest.Server // nil while it is down
	containers map[string]fakeContainer
	ahead      time.Duration // of its clock
	past       []event
	listeners  map[chan event]bool
}

type fakeContainer struct {
	address string
	ports   []fakePort
}

// fakePort is a port as ContainerList shows it.
type fakePort struct {
	IP          string `json:"IP,omitempty"`
	PrivatePort uint16 `json:"PrivatePort"`
	PublicPort  uint16 `json:"PublicPort,omitempty"`
	Type        string `json:"Type"`
}

// event has the fields of an EventMessage.
type event struct {
	Type   string `json:"Type"`
	Action string `json:"Action"`
	Actor  struct {
		ID         string            `json:"ID"`
		Attributes map[string]string `json:"Attributes"`
	} `json:"Actor"`
	Scope    string `json:"scope"`
	Time     int64  `json:"time"`
	TimeNano int64  `json:"timeNano"`
}

func newEngine(t *testing.T) *engine {
	t.Helper()
	e := &engine{t: t, containers: map[string]fakeContainer{}, listeners: map[chan event]bool{}}
	// Another test may be faster.
	for err := errors.New("not yet"); err != nil; {
		e.addr = netip.AddrPortFrom(loopback, free(t)).String()
		err = e.listen()
	}
	t.Cleanup(e.stop)
	return e
}

// start opens the engine's port: the same as before it was stopped.
func (e *engine) start() {
	e.t.Helper()
	check(e.t, e.listen())
}

func (e *engine) listen() error {
	l, err := net.Listen("tcp4", e.addr)
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /_ping", func(w http.ResponseWriter, _ *http.Request) {
		e.mu.Lock()
		defer e.mu.Unlock()
		w.Header().Set("Date", time.Now().Add(e.ahead).UTC().Format(http.TimeFormat))
		w.Header().Set("Api-Version", "1.41")
		fmt.Fprint(w, "OK")
	})
	mux.HandleFunc("GET /containers/json", e.list)
	mux.HandleFunc("GET /events", e.events)
	s := httptest.NewUnstartedServer(mux)
	s.Listener.Close()
	s.Listener = l
	s.Start()
	e.mu.Lock()
	defer e.mu.Unlock()
	e.server = s
	return nil
}

// stop ends the engine and its connections. Without live-restore, its
// containers end with it.
func (e *engine) stop() {
	e.mu.Lock()
	s := e.server
	e.server = nil
	clear(e.containers)
	e.mu.Unlock()
	if s != nil {
		s.CloseClientConnections()
		s.Close()
	}
}

func (e *engine) port() uint16 { return netip.MustParseAddrPort(e.addr).Port() }

// run starts a container on the default bridge. Ports are written as
// "127.0.0.1:8080:80/tcp".
func (e *engine) run(name, address string, ports ...string) {
	e.t.Helper()
	c := fakeContainer{address: address}
	for _, p := range ports {
		spec, protocol, ok := strings.Cut(p, "/")
		fields := strings.Split(spec, ":")
		if !ok || len(fields) != 3 {
			e.t.Fatalf("port %q", p)
		}
		public, err1 := strconv.ParseUint(fields[1], 10, 16)
		private, err2 := strconv.ParseUint(fields[2], 10, 16)
		if err1 != nil || err2 != nil {
			e.t.Fatal(err1, err2)
		}
		c.ports = append(c.ports, fakePort{fields[0], uint16(private), uint16(public), protocol})
		if fields[0] == "0.0.0.0" { // Docker binds both families
			c.ports = append(c.ports, fakePort{"::", uint16(private), uint16(public), protocol})
		}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.containers[name] = c
	e.tell("network", "connect", name)
	e.tell("container", "start", name)
}

// end stops a container.
func (e *engine) end(name string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.containers, name)
	e.tell("container", "kill", name)
	e.tell("container", "die", name)
	e.tell("network", "disconnect", name)
}

// tell needs the lock.
func (e *engine) tell(kind, action, name string) {
	ev := event{Type: kind, Action: action, Scope: "local", Time: time.Now().Unix(), TimeNano: time.Now().UnixNano()}
	ev.Actor.ID, ev.Actor.Attributes = idOf(name), map[string]string{"name": name}
	e.past = append(e.past, ev)
	for c := range e.listeners {
		c <- ev
	}
}

func idOf(name string) string { return fmt.Sprintf("%064x", name) }

func (e *engine) list(w http.ResponseWriter, _ *http.Request) {
	type endpoint struct{ IPAddress, Gateway string }
	type summary struct {
		ID              string `json:"Id"`
		Names           []string
		Ports           []fakePort
		State           string
		NetworkSettings struct{ Networks map[string]endpoint }
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	out := []summary{}
	for name, c := range e.containers {
		s := summary{ID: idOf(name), Names: []string{"/other/alias", "/" + name}, Ports: c.ports, State: "running"}
		s.NetworkSettings.Networks = map[string]endpoint{"bridge": {c.address, "172.17.0.1"}}
		out = append(out, s)
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(out) // whoever asked has gone
}

func (e *engine) events(w http.ResponseWriter, r *http.Request) {
	pass, since := e.filter(r.URL.Query())
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusOK)
	w.(http.Flusher).Flush()

	next := make(chan event, 100)
	e.mu.Lock()
	if since != 0 {
		for _, ev := range e.past {
			if ev.Time >= since {
				next <- ev
			}
		}
	}
	e.listeners[next] = true
	e.mu.Unlock()
	defer func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		delete(e.listeners, next)
	}()
	for {
		select {
		case ev := <-next:
			if !pass(ev) {
				continue
			}
			if json.NewEncoder(w).Encode(ev) != nil {
				return
			}
			w.(http.Flusher).Flush()
		case <-r.Context().Done():
			return
		}
	}
}

func (e *engine) filter(query url.Values) (pass func(event) bool, since int64) {
	var filters map[string][]string
	if err := json.Unmarshal([]byte(query.Get("filters")), &filters); err != nil {
		e.t.Errorf("filters: %v", err)
	}
	since, err := strconv.ParseInt(query.Get("since"), 10, 64)
	if err != nil {
		e.t.Errorf("since: %v", err)
	}
	return func(ev event) bool {
		return slices.Contains(filters["type"], ev.Type) && slices.Contains(filters["event"], ev.Action)
	}, since
}
