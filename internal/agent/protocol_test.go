package agent

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"testing"

	"github.com/hostctl/hostctl/internal/hint"
	"github.com/hostctl/hostctl/network"
	"github.com/hostctl/hostctl/provider"
	"github.com/hostctl/hostctl/sync/mirror"
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

// So is what became of a mirrored share, with the advice.
func TestMirrorAnswersSurviveTheSocket(t *testing.T) {
	t.Parallel()
	advised := hint.Wrap(errors.New("the folder is gone"), "make it")
	for name, tt := range map[string]struct {
		err, want error
	}{
		"nothing": {nil, nil},
		"busy":    {mirror.ErrBusy, mirror.ErrBusy},
		"advice":  {&mirror.PartialError{Problems: []mirror.Problem{{Path: "a", Err: advised}}}, errors.New("a was not mirrored: the folder is gone")},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := &mirror.Result{Files: 2, Skipped: []mirror.Problem{{Path: "s", Err: errors.New("a socket")}}}
			data, err := json.Marshal(mirrorAnswerOf(r, nil, tt.err))
			if err != nil {
				t.Fatal(err)
			}
			var answer mirrorAnswer
			if err := json.Unmarshal(data, &answer); err != nil {
				t.Fatal(err)
			}
			got, err := answer.result()
			if fmt.Sprint(err) != fmt.Sprint(tt.want) || hint.Of(err) != hint.Of(tt.err) || errors.Is(err, mirror.ErrBusy) != errors.Is(tt.err, mirror.ErrBusy) {
				t.Errorf("got %v (hint %q), want %v (hint %q)", err, hint.Of(err), tt.want, hint.Of(tt.err))
			}
			if got.Files != 2 || len(got.Skipped) != 1 || got.Skipped[0].Path != "s" || got.Skipped[0].Err.Error() != "a socket" {
				t.Errorf("got %+v", got)
			}
		})
	}
}
