package agent

import (
	"errors"

	"github.com/hostctl/hostctl/network"
	"github.com/hostctl/hostctl/provider"
)

// The agent is asked over HTTP on a UNIX socket, with JSON as answers:
//
//	GET  /status              statusAnswer
//	POST /sync?machine=NAME   syncAnswer, when the state on disk is in force
//	POST /stop                {}, when everything is released
const (
	statusPath = "/status"
	syncPath   = "/sync"
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
