package agent

import (
	"encoding/json"
	"fmt"
	"slices"
	"testing"
)

// list is what Docker 20.10 answers to GET /containers/json, shortened to what
// matters here: a container on two networks, one with host networking, one that
// publishes a range, one with IPv6 only; and what only a false engine answers.
const list = `[
 {"Id": "8dfafdbc3a40", "Names": ["/web/db", "/db"], "Ports": [{"IP": "127.0.0.1", "PrivatePort": 5432, "PublicPort": 5432, "Type": "tcp"}, {"PrivatePort": 9000, "Type": "tcp"}],
  "NetworkSettings": {"Networks": {"back": {"IPAddress": "172.19.0.2", "Gateway": ""}, "front": {"IPAddress": "172.18.0.2", "Gateway": "172.18.0.1"}}}},
 {"Id": "9cd87474be90", "Names": ["/web"], "Ports": [
   {"IP": "::", "PrivatePort": 80, "PublicPort": 8080, "Type": "tcp"}, {"IP": "0.0.0.0", "PrivatePort": 80, "PublicPort": 8080, "Type": "tcp"},
   {"IP": "0.0.0.0", "PrivatePort": 53, "PublicPort": 53, "Type": "udp"}, {"IP": "0.0.0.0", "PrivatePort": 7, "PublicPort": 7, "Type": "sctp"}],
  "NetworkSettings": {"Networks": {"bridge": {"IPAddress": "172.17.0.2", "Gateway": "172.17.0.1"}}}},
 {"Id": "3176a2479c92", "Names": ["/host"], "Ports": [], "NetworkSettings": {"Networks": {"host": {"IPAddress": "", "Gateway": ""}}}},
 {"Id": "4cb07b47f9fb", "Names": ["/six"], "Ports": [{"IP": "::1", "PrivatePort": 80, "PublicPort": 81, "Type": "tcp"}], "NetworkSettings": {"Networks": {}}},
 {"Id": "5cb07b47f9fb0123", "Names": [], "Ports": [{"PrivatePort": 80, "PublicPort": 82, "Type": "tcp"}], "NetworkSettings": {"Networks": {}}},
 {"Id": "6cb07b47f9fb", "Names": ["/$(id)"], "Ports": [{"PrivatePort": 80, "PublicPort": 90, "Type": "tcp"}], "NetworkSettings": {"Networks": {}}},
 {"Id": "", "Names": [], "Ports": [{"PrivatePort": 80, "PublicPort": 91, "Type": "tcp"}], "NetworkSettings": {"Networks": {}}}
]`

func TestPublications(t *testing.T) {
	t.Parallel()
	var containers []container
	if err := json.Unmarshal([]byte(list), &containers); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, p := range publications(containers) {
		got = append(got, fmt.Sprintf("%s:%d/%s to %s of %s", p.ip, p.port, p.protocol, p.private, p.container))
	}
	want := []string{
		"0.0.0.0:53/udp to 172.17.0.2:53 of web",
		"0.0.0.0:82/tcp to invalid AddrPort of 5cb07b47f9fb",
		"0.0.0.0:90/tcp to invalid AddrPort of unnamed",
		"0.0.0.0:91/tcp to invalid AddrPort of unnamed",
		"127.0.0.1:5432/tcp to 172.18.0.2:5432 of db",
		"0.0.0.0:8080/tcp to 172.17.0.2:80 of web",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %q\nwant %q", got, want)
	}
}

func TestParseConnection(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"10.0.2.2 39522 10.0.2.15 22":               "10.0.2.2 10.0.2.15",
		"::ffff:192.168.122.1 1 192.168.122.9 22\n": "192.168.122.1 192.168.122.9",
		"":                             `the guest's SSH_CONNECTION is ""`,
		"fe80::1%eth0 1 fe80::2 22":    `the guest is not reached by IPv4: SSH_CONNECTION is "fe80::1%eth0 1 fe80::2 22"`,
		"10.0.2.2 1 -j.ACCEPT.0.15 22": `ParseAddr("-j.ACCEPT.0.15"): unexpected character (at "-j.ACCEPT.0.15")`,
		"10.0.2.2 39522 10.0.2.15":     `the guest's SSH_CONNECTION is "10.0.2.2 39522 10.0.2.15"`,
	} {
		host, guest, err := parseConnection(in)
		got := fmt.Sprintf("%s %s", host, guest)
		if err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
	}
}

// What a guest says of its containers must not get more than it should into
// the rules, and must not stop the agent.
func FuzzPublications(f *testing.F) {
	f.Add([]byte(list))
	f.Fuzz(func(t *testing.T, data []byte) {
		var containers []container
		if json.Unmarshal(data, &containers) != nil {
			return
		}
		seen := map[binding]bool{}
		for _, p := range publications(containers) {
			if p.port == 0 || !p.ip.Is4() || seen[p.binding] || p.protocol != "tcp" && p.protocol != "udp" {
				t.Errorf("%+v", p)
			}
			seen[p.binding] = true
		}
	})
}
