package lifecycle

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/hostctl/hostctl/provider"
)

// maxNamed is how many machines a line names.
const maxNamed = 10

// announce says what up is about to do, in the words of plan.
func (e *Engine) announce(boots []*boot) {
	for _, action := range []Action{CreateAction, StartAction} {
		var names []string
		for _, b := range boots {
			if b.agreed() == action {
				names = append(names, b.name)
			}
		}
		if more := len(names) - maxNamed; more > 1 {
			names = append(names[:maxNamed], fmt.Sprintf("and %d more", more))
		}
		if len(names) > 0 {
			e.notice("plan: %s %s", action, strings.Join(names, ", "))
		}
	}
	for _, b := range boots {
		action := b.agreed()
		if action.rank() <= StartAction.rank() {
			continue
		}
		var changes []Change
		for _, c := range b.plan.Changes {
			if c.Takes.rank() <= action.rank() {
				changes = append(changes, c)
			}
		}
		e.notice("plan: %s %s%s", action, b.name, changesText(changes))
	}
}

// changesText returns ": memory from 1GiB to 2GiB" for one change, and a line for
// each of several, or of one whose values have commas of their own.
func changesText(changes []Change) string {
	if len(changes) == 1 && !changes[0].long() {
		return ": " + changes[0].String()
	}
	var text strings.Builder
	for _, c := range changes {
		if c.long() {
			fmt.Fprintf(&text, "\n  %s\n    from %s\n    to   %s", c.Field, c.From, c.To)
		} else {
			fmt.Fprintf(&text, "\n  %s", c)
		}
	}
	return text.String()
}

// long reports whether nobody sees, in one line, where the old value ends.
func (c Change) long() bool {
	return c.From != "" && c.To != "" && strings.Contains(c.From+c.To, ", ")
}

// agreed is what up does with the machine, without what was not agreed to.
func (b *boot) agreed() Action {
	if !b.plan.Action.disturbs() || b.restart || b.replace {
		return b.plan.Action
	}
	if b.plan.State == provider.Stopped {
		return StartAction
	}
	for _, c := range b.plan.Changes {
		if c.Takes == UpdateAction {
			return UpdateAction
		}
	}
	return NoAction
}

// agree finds out whether machines may be restarted and replaced for what
// changed in the file. It asks once for all of them.
func (e *Engine) agree(ctx context.Context, boots []*boot) error {
	var restarts, replaces []string
	for _, b := range boots {
		if b.plan.State == Unknown {
			continue
		}
		var fields []string
		for _, c := range b.plan.Changes {
			if c.Takes == b.plan.Action {
				fields = append(fields, c.Field)
			}
		}
		what := fmt.Sprintf("%s (%s)", b.name, strings.Join(fields, ", "))
		switch b.plan.Action {
		case RestartAction:
			restarts = append(restarts, what)
		case ReplaceAction:
			replaces = append(replaces, what)
		}
	}
	if len(restarts)+len(replaces) == 0 {
		return nil
	}
	agreed := e.Yes
	if !agreed && e.Confirm != nil {
		var err error
		if agreed, err = e.Confirm(ctx, question(restarts, replaces)); err != nil {
			return err
		}
	}
	if !agreed {
		return nil
	}
	for _, b := range boots {
		if b.plan.State == Unknown {
			continue
		}
		b.restart = b.plan.Action == RestartAction
		b.replace = b.plan.Action == ReplaceAction
		b.op.replaced[b.name] = b.replace
	}
	return nil
}

func question(restarts, replaces []string) string {
	var parts []string
	if len(restarts) > 0 {
		parts = append(parts, "restart "+strings.Join(restarts, ", "))
	}
	switch len(replaces) {
	case 0:
	case 1:
		parts = append(parts, "make "+replaces[0]+" anew and lose all data on its disk")
	default:
		parts = append(parts, "make "+strings.Join(replaces, ", ")+" anew and lose all data on their disks")
	}
	return strings.Join(parts, "; ") + "?"
}

// notice reports something that is about no machine in particular.
func (e *Engine) notice(format string, args ...any) {
	e.Reporter.Report(Event{Time: time.Now(), Kind: Notice, Message: fmt.Sprintf(format, args...)})
}
