package agent

import (
	"errors"
	"time"

	"github.com/hostctl/hostctl/internal/hint"
	"github.com/hostctl/hostctl/network"
	"github.com/hostctl/hostctl/provider"
	"github.com/hostctl/hostctl/sync/mirror"
)

// The agent is asked over HTTP on a UNIX socket, with JSON as answers:
//
//	GET  /status              statusAnswer
//	POST /sync?machine=NAME   syncAnswer, when the state on disk is in force
//	POST /mirror?machine=NAME&share=NAME   mirrorAnswers: how far the run is, and what it came to
//	POST /stop                {}, when everything is released
const (
	statusPath = "/status"
	syncPath   = "/sync"
	mirrorPath = "/mirror"
	stopPath   = "/stop"
)

// statusAnswer says besides what the agent does for which directory it works:
// a project that was moved keeps its socket. Libvirt is the one that the agent
// has asked, "" for none.
type statusAnswer struct {
	Status
	Dir     string `json:"dir"`
	Libvirt string `json:"libvirt,omitempty"`
}

// syncAnswer is what went wrong with the machine that was asked about.
type syncAnswer struct {
	Port  *takenPort `json:"port,omitempty"`
	Error string     `json:"error,omitempty"`
}

// mirrorAnswer is how far a run of a mirrored share is, or what it came to,
// which is the last one. Without Progress and Result the agent has not mirrored
// it.
type mirrorAnswer struct {
	Progress *mirror.Progress `json:"progress,omitempty"`

	Result  *mirror.Result `json:"result,omitempty"`
	Earlier *Earlier       `json:"earlier,omitempty"`
	Skipped []skipped      `json:"skipped,omitempty"` // of Result
	Busy    bool           `json:"busy,omitempty"`    // Error is mirror.ErrBusy
	Error   string         `json:"error,omitempty"`
	Hint    string         `json:"hint,omitempty"` // of Error
}

// Earlier is what the agent did about a mirrored share last, in a run that
// nobody had asked for.
type Earlier struct {
	Changes int       `json:"changes"`
	Files   int       `json:"files"`
	Bytes   int64     `json:"bytes"`
	At      time.Time `json:"at"`
}

// skipped is a [mirror.Problem] on its way to another process.
type skipped struct {
	Path   string `json:"path"`
	Reason string `json:"reason"`
}

// mirrorAnswerOf makes what a run came to ready to be sent.
func mirrorAnswerOf(r *mirror.Result, before *Earlier, err error) mirrorAnswer {
	if errors.Is(err, ErrNotMirrored) {
		return mirrorAnswer{}
	}
	if r == nil {
		r = &mirror.Result{}
	}
	a := mirrorAnswer{Result: r, Earlier: before, Busy: errors.Is(err, mirror.ErrBusy)}
	if err != nil {
		a.Error, a.Hint = err.Error(), hint.Of(err)
	}
	for _, p := range r.Skipped {
		a.Skipped = append(a.Skipped, skipped{p.Path, p.Err.Error()})
	}
	return a
}

// result is what [mirrorAnswerOf] was given.
func (a mirrorAnswer) result() (*mirror.Result, error) {
	for _, s := range a.Skipped {
		a.Result.Skipped = append(a.Result.Skipped, mirror.Problem{Path: s.Path, Err: errors.New(s.Reason)})
	}
	switch {
	case a.Busy:
		return a.Result, mirror.ErrBusy
	case a.Error != "":
		err := errors.New(a.Error)
		if a.Hint != "" {
			err = hint.Wrap(err, "%s", a.Hint)
		}
		return a.Result, err
	}
	return a.Result, nil
}

// takenPort is a *[provider.PortError] on its way to another process.
type takenPort struct {
	Forward network.Forward  `json:"forward"`
	InUse   bool             `json:"in_use"` // Err was a *network.InUseError
	Holder  *network.Process `json:"holder,omitempty"`
	Error   string           `json:"error"`
}

// answerOf makes err ready to be sent.
func answerOf(err error) syncAnswer {
	port, ok := errors.AsType[*provider.PortError](err)
	switch {
	case err == nil:
		return syncAnswer{}
	case !ok:
		return syncAnswer{Error: err.Error()}
	}
	taken := &takenPort{Forward: port.Forward}
	if port.Err != nil {
		taken.Error = port.Err.Error()
	}
	if in, ok := errors.AsType[*network.InUseError](port.Err); ok {
		taken.InUse, taken.Holder = true, in.Holder
	}
	return syncAnswer{Port: taken}
}

// err is what [answerOf] was given.
func (a syncAnswer) err() error {
	switch {
	case a.Port != nil:
		err := errors.New(a.Port.Error)
		if a.Port.InUse {
			f := a.Port.Forward
			err = &network.InUseError{Addr: f.HostAddr(), Protocol: f.Protocol, Holder: a.Port.Holder, Err: err}
		}
		return &provider.PortError{Forward: a.Port.Forward, Err: err}
	case a.Error != "":
		return errors.New(a.Error)
	}
	return nil
}
