package lifecycle

import "time"

// EventKind says what an [Event] reports.
type EventKind string

// Kinds of events. For each machine a StepStarted is followed by any number of
// Progress and Notice events and one StepDone; the last event of a machine is
// MachineDone or MachineFailed.
const (
	StepStarted   EventKind = "step_started"
	Progress      EventKind = "progress"
	StepDone      EventKind = "step_done"
	Notice        EventKind = "notice"
	MachineDone   EventKind = "machine_done"
	MachineFailed EventKind = "machine_failed"
)

// Event is one thing that happened on the way. As JSON, one object a line, it
// is the event stream of --output json.
type Event struct {
	Time    time.Time `json:"time"`
	Kind    EventKind `json:"kind"`
	Machine string    `json:"machine,omitempty"`
	Step    string    `json:"step,omitempty"`
	// Message is what the step waits for (StepStarted, Progress), what it
	// found (StepDone), or the notice.
	Message string `json:"message,omitempty"`
	// Seconds is how long the step or the machine took (StepDone,
	// MachineDone, MachineFailed).
	Seconds float64 `json:"seconds,omitempty"`
	// Done and Total are bytes of a download; Total is 0 when unknown.
	Done  int64  `json:"done,omitempty"`
	Total int64  `json:"total,omitempty"`
	Error string `json:"error,omitempty"` // MachineFailed
	Hint  string `json:"hint,omitempty"`  // MachineFailed
}

// Reporter receives events. It is called from several goroutines.
type Reporter interface {
	Report(Event)
}
