package qemu

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"
)

// qmpTimeout bounds one conversation with a monitor. Under emulation QEMU's
// main loop waits for the guest's CPUs, but never seconds.
const qmpTimeout = 5 * time.Second

// maxMessage bounds a QMP line; the commands used here answer with a few
// hundred bytes, and the list of a user network's connections with 80 for each.
const maxMessage = 1 << 20

// qmp is a connection to a QEMU machine protocol monitor (QEMU's
// docs/interop/qmp-spec.txt). A monitor talks to one client at a time: others
// wait until it hangs up, so connections are short.
type qmp struct {
	conn net.Conn
	in   *bufio.Scanner
	next int
}

// qmpMessage is any line that QEMU sends.
type qmpMessage struct {
	Greeting json.RawMessage `json:"QMP"`
	Event    string          `json:"event"`
	ID       *int            `json:"id"`
	Return   json.RawMessage `json:"return"`
	Error    *qmpError       `json:"error"`
}

// qmpError is a command that QEMU refused.
type qmpError struct {
	Class string `json:"class"`
	Desc  string `json:"desc"`
}

func (e *qmpError) Error() string { return e.Desc }

// dialQMP connects to the monitor at path and makes sure that it is the one of
// the domain with that id.
func dialQMP(ctx context.Context, path, id string) (*qmp, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", path)
	if err != nil {
		return nil, err
	}
	m := newQMP(conn)
	if err := m.negotiate(ctx, id); err != nil {
		conn.Close() // the handshake's error is the one that counts
		return nil, fmt.Errorf("qmp: %w", err)
	}
	return m, nil
}

func newQMP(conn net.Conn) *qmp {
	in := bufio.NewScanner(conn)
	in.Buffer(nil, maxMessage)
	return &qmp{conn: conn, in: in}
}

func (m *qmp) negotiate(ctx context.Context, id string) error {
	err := m.within(ctx, func() error {
		msg, err := m.read()
		if err == nil && msg.Greeting == nil {
			err = errors.New("no greeting")
		}
		return err
	})
	if err != nil {
		return err
	}
	if err := m.execute(ctx, "qmp_capabilities", nil); err != nil {
		return err
	}
	var answer struct {
		UUID string `json:"UUID"`
	}
	if err := m.execute(ctx, "query-uuid", &answer); err != nil {
		return err
	}
	if answer.UUID != id {
		return fmt.Errorf("the monitor belongs to %s, not %s", answer.UUID, id)
	}
	return nil
}

// execute runs a command without arguments and decodes its answer into
// result, unless that is nil.
func (m *qmp) execute(ctx context.Context, command string, result any) error {
	return m.executeWith(ctx, command, struct{}{}, result)
}

// human runs a command of the monitor for people and returns what it printed,
// failures too. QMP has no other way to the user network.
func (m *qmp) human(ctx context.Context, line string) (string, error) {
	var out string
	err := m.executeWith(ctx, "human-monitor-command", map[string]any{"command-line": line}, &out)
	return strings.TrimSpace(strings.ReplaceAll(out, "\r\n", "\n")), err
}

// executeWith runs a command. Events that arrive meanwhile are dropped.
func (m *qmp) executeWith(ctx context.Context, command string, arguments, result any) error {
	m.next++
	id := m.next
	return m.within(ctx, func() error {
		line, err := json.Marshal(map[string]any{"execute": command, "arguments": arguments, "id": id})
		if err != nil {
			return err
		}
		if _, err := m.conn.Write(append(line, '\n')); err != nil {
			return err
		}
		for {
			msg, err := m.read()
			if err != nil {
				// QEMU may end before it has answered.
				if command == "quit" && errors.Is(err, io.EOF) {
					return nil
				}
				return fmt.Errorf("%s: %w", command, err)
			}
			if msg.Error != nil && (msg.ID == nil || *msg.ID == id) {
				return fmt.Errorf("%s: %w", command, msg.Error)
			}
			if msg.Return == nil || msg.ID == nil || *msg.ID != id {
				continue
			}
			if result == nil {
				return nil
			}
			if err := json.Unmarshal(msg.Return, result); err != nil {
				return fmt.Errorf("%s: %w", command, err)
			}
			return nil
		}
	})
}

func (m *qmp) read() (qmpMessage, error) {
	if !m.in.Scan() {
		if err := m.in.Err(); err != nil {
			return qmpMessage{}, err
		}
		return qmpMessage{}, io.EOF
	}
	var msg qmpMessage
	err := json.Unmarshal(m.in.Bytes(), &msg)
	return msg, err
}

// within runs f and cuts its reads and writes off when ctx ends.
func (m *qmp) within(ctx context.Context, f func() error) error {
	stop := context.AfterFunc(ctx, func() {
		_ = m.conn.SetDeadline(time.Unix(1, 0)) // fails on a closed connection, which needs none
	})
	defer stop()
	err := f()
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}
