package lifecycle

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/hashicorp/hcl/v2"

	"github.com/hostctl/hostctl/machinefile"
	"github.com/hostctl/hostctl/provider"
)

// StepError is a machine that did not get through a step.
type StepError struct {
	Machine string
	Step    string
	Err     error
}

func (e *StepError) Error() string { return fmt.Sprintf("%s: %s: %v", e.Machine, e.Step, e.Err) }
func (e *StepError) Unwrap() error { return e.Err }

// ConfigError is a value of the machine file that this host or its provider
// cannot meet. The diagnostics point at the value.
type ConfigError struct {
	Diags  hcl.Diagnostics
	Err    error
	Advice string // what to change, and where
}

func (e *ConfigError) Error() string { return e.Err.Error() }
func (e *ConfigError) Unwrap() error { return e.Err }

// Hint says what to change: for those who see no diagnostics, such as readers of
// the event stream.
func (e *ConfigError) Hint() string { return e.Advice }

// refusal is a ConfigError at a value of the machine file.
func refusal(summary string, err error, advice string, subject hcl.Range) *ConfigError {
	detail, at := sentence(err.Error()), fmt.Sprintf("%s line %d", filepath.Base(subject.Filename), subject.Start.Line)
	if advice != "" {
		detail += " " + sentence(advice)
		at = advice + ": " + at
	}
	return &ConfigError{
		Err:    err,
		Advice: at,
		Diags:  hcl.Diagnostics{{Severity: hcl.DiagError, Summary: summary, Detail: detail, Subject: &subject}},
	}
}

// together is one refusal for several; nil for none.
func together(all []*ConfigError) error {
	if len(all) == 0 {
		return nil
	}
	out := *all[0]
	for _, e := range all[1:] {
		out.Diags = append(out.Diags, e.Diags...)
		out.Err = fmt.Errorf("%w; %w", out.Err, e.Err)
		out.Advice += "; " + e.Advice
	}
	return &out
}

// NotReadyError is a guest that runs but does not answer.
type NotReadyError struct {
	Waited string // what for, for instance "Docker on tcp://127.0.0.1:2375"
	Err    error
	Serial string // the end of the guest's serial log, as the guest wrote it
	Advice string
}

func (e *NotReadyError) Error() string { return fmt.Sprintf("%s: %v", e.Waited, e.Err) }
func (e *NotReadyError) Unwrap() error { return e.Err }

// Hint says what to do next.
func (e *NotReadyError) Hint() string { return e.Advice }

// Detail is the end of the serial log, for printing under the error.
func (e *NotReadyError) Detail() string { return e.Serial }

// StateError is a machine that is missing or in the wrong state for a command.
type StateError struct {
	Machine string
	State   string // "not created", "stopped", "running"
	Advice  string
}

func (e *StateError) Error() string { return fmt.Sprintf("machine %q is %s", e.Machine, e.State) }

// Hint says what to do next.
func (e *StateError) Hint() string { return e.Advice }

// atField turns a provider's *FieldError into diagnostics at the machine file's
// value; other errors pass.
func atField(err error, m *machinefile.Machine) error {
	fe, ok := errors.AsType[*provider.FieldError](err)
	if !ok {
		return err
	}
	subject := m.RangeOf(fe.Field)
	for _, f := range m.Forwards {
		if fe.Forward != "" && f.Name == fe.Forward {
			subject = f.Range
		}
	}
	if fe.Network != "" {
		subject = networkRange(m, fe.Network, fe.Field)
	}
	e := refusal(fmt.Sprintf("This host cannot give the %s that is asked for", fe.Field), fe.Err, fe.Advice, subject)
	e.Err = err
	return e
}

// sentence makes an error's text fit for a diagnostic's detail.
func sentence(s string) string {
	r, n := utf8.DecodeRuneInString(s)
	return string(unicode.ToUpper(r)) + strings.TrimSuffix(s[n:], ".") + "."
}
