package qemu

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

const testID = "6f0e3f0a-5a8b-4a51-9a55-0f3f6c1a9b01"

// monitor answers each line it gets with the next script entry.
func monitor(t *testing.T, script ...string) *qmp {
	t.Helper()
	client, server := net.Pipe()
	t.Cleanup(func() { client.Close() })
	go func() {
		defer server.Close()
		in := bufio.NewScanner(server)
		for i, answer := range script {
			if i > 0 && !in.Scan() {
				return
			}
			if _, err := io.WriteString(server, answer); err != nil {
				return
			}
		}
	}()
	return newQMP(client)
}

const greeting = `{"QMP": {"version": {"qemu": {"micro": 22, "minor": 2, "major": 7}}, "capabilities": ["oob"]}}` + "\r\n"

func TestQMP(t *testing.T) {
	t.Parallel()
	m := monitor(t, greeting,
		`{"return": {}, "id": 1}`+"\r\n",
		`{"timestamp": {"seconds": 1, "microseconds": 2}, "event": "RESUME"}`+"\r\n"+`{"return": {"UUID": "`+testID+`"}, "id": 2}`+"\r\n",
		`{"return": {"late": true}, "id": 1}`+"\r\n"+`{"return": {"status": "running", "running": true}, "id": 3}`+"\r\n",
		`{"id": 4, "error": {"class": "CommandNotFound", "desc": "The command dance has not been found"}}`+"\r\n",
	)
	if err := m.negotiate(t.Context(), testID); err != nil {
		t.Fatal(err)
	}
	var status struct{ Running bool }
	if err := m.execute(t.Context(), "query-status", &status); err != nil || !status.Running {
		t.Errorf("query-status: %+v, %v", status, err)
	}
	if err := m.execute(t.Context(), "dance", nil); err == nil || err.Error() != "dance: The command dance has not been found" {
		t.Errorf("dance: %v", err)
	}
	if err := m.execute(t.Context(), "query-status", nil); !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("after the end: %v", err)
	}
}

func TestQMPQuitNeedsNoAnswer(t *testing.T) {
	t.Parallel()
	m := monitor(t, greeting, "{\"return\": {}, \"id\": 1}\n", `{"return": {"UUID": "`+testID+`"}, "id": 2}`+"\n", "")
	if err := m.negotiate(t.Context(), testID); err != nil {
		t.Fatal(err)
	}
	if err := m.execute(t.Context(), "quit", nil); err != nil {
		t.Error(err)
	}
}

func TestQMPRefusesAnothersMonitor(t *testing.T) {
	t.Parallel()
	m := monitor(t, greeting, "{\"return\": {}, \"id\": 1}\n", "{\"return\": {\"UUID\": \"other\"}, \"id\": 2}\n")
	err := m.negotiate(t.Context(), testID)
	if want := "the monitor belongs to other, not " + testID; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

func TestQMPEndsWithItsContext(t *testing.T) {
	t.Parallel()
	m := monitor(t, greeting, "{\"return\": {}, \"id\": 1}\n", "", "never comes")
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := m.negotiate(ctx, testID); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
}

func TestQMPRefusesEndlessLines(t *testing.T) {
	t.Parallel()
	m := monitor(t, strings.Repeat("x", maxMessage+1))
	if err := m.negotiate(t.Context(), testID); !errors.Is(err, bufio.ErrTooLong) {
		t.Errorf("got %v", err)
	}
}

// FuzzQMP lets a monitor say anything: the client must return.
func FuzzQMP(f *testing.F) {
	f.Add(greeting)
	f.Add(greeting + "{\"return\": {}, \"id\": 1}\n" + `{"return": {"UUID": "x"}, "id": 2}` + "\n")
	f.Add(`{"QMP": null}` + "\n{}\n[]\n")
	f.Add(greeting + `{"error": {}}`)
	f.Fuzz(func(t *testing.T, said string) {
		client, server := net.Pipe()
		defer client.Close()
		go io.Copy(io.Discard, server)
		go func() {
			io.WriteString(server, said)
			server.Close()
		}()
		m := newQMP(client)
		if err := m.negotiate(t.Context(), testID); err == nil && !strings.Contains(said, testID) {
			t.Error("accepted a monitor without the id")
		}
	})
}

func FuzzDecodeDomain(f *testing.F) {
	f.Add([]byte(fmt.Sprintf(`{"version": 1, "domain": {"name": "core-01", "id": %q}}`, testID)))
	f.Add([]byte(`{"version": 99}`))
	f.Add([]byte(`{"version": 1, "domain": {"forwards": [{"host_ip": "::1"}]}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		d, err := decodeDomain("domain.json", data)
		if err == nil && len(d.ID) < 32 {
			t.Errorf("accepted id %q", d.ID)
		}
	})
}
