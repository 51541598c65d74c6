package doctor

import (
	"context"
	"fmt"

	"github.com/hostctl/hostctl/internal/hint"
)

// machineFile says what the other checks go by, and whether the project's
// state can be read at all.
func (p *Patient) machineFile(context.Context) []Finding {
	var found []Finding
	switch {
	case p.Mistakes > 0:
		found = append(found, Finding{Level: Problem, Detail: count(p.Mistakes, "mistake"), Fix: "hostctl validate shows what is wrong"})
	case p.Config == nil:
		found = append(found, Finding{Level: Info, Detail: "none here: only the host is checked", Fix: "hostctl init writes one"})
	default:
		found = append(found, ok("%s: %s", p.Config.Path, count(len(p.Config.Machines), "machine")))
	}
	if p.Config != nil {
		if err := access(p.Project.Dir()); err != nil {
			found = append(found, Finding{
				Level:  Problem,
				Detail: fmt.Sprintf("%s: %v: machines are kept there", p.Project.Dir(), err),
				Fix:    "work in a copy that is yours",
			})
		}
	}
	if _, err := p.Project.Load(); err != nil {
		found = append(found, Finding{Level: Problem, Detail: err.Error(), Fix: hint.Of(err)})
	}
	return found
}
