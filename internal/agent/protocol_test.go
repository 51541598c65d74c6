package agent

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"testing"

	"github.com/hostctl/hostctl/network"
	"github.com/hostctl/hostctl/provider"
)

// A port that is taken is told by another process as by this one.
func TestErrorsSurviveTheSocket(t *testing.T) {
	t.Parallel()
	f := network.Forward{Name: "web", Protocol: "tcp", HostIP: netip.MustParseAddr("127.0.0.1"), HostPort: 8080, GuestPort: 80}
	for name, want := range map[string]error{
		"nothing": nil,
		"a holder": &provider.PortError{Forward: f, Err: &network.InUseError{
			Addr: f.HostAddr(), Protocol: "tcp", Holder: &network.Process{Name: "squatter", PID: 3}, Err: errors.New("address already in use"),
		}},
		"no holder": &provider.PortError{Forward: f, Err: &network.InUseError{
			Addr: f.HostAddr(), Protocol: "tcp", Err: errors.New("address already in use"),
		}},
		"no address": &provider.PortError{Forward: f, Err: errors.New("cannot assign requested address")},
		"another":    errors.New("libvirtd does not answer"),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			data, err := json.Marshal(answerOf(want))
			if err != nil {
				t.Fatal(err)
			}
			var answer syncAnswer
			if err := json.Unmarshal(data, &answer); err != nil {
				t.Fatal(err)
			}
			got := answer.err()
			if fmt.Sprint(got) != fmt.Sprint(want) {
				t.Errorf("got %q, want %q", got, want)
			}
			a, okA := errors.AsType[*network.InUseError](got)
			b, okB := errors.AsType[*network.InUseError](want)
			if okA != okB || okA && !reflect.DeepEqual(a.Holder, b.Holder) {
				t.Errorf("got %#v, want %#v", a, b)
			}
		})
	}
}
