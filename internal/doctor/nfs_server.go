package doctor

import (
	"context"
	"errors"

	"github.com/hostctl/hostctl/internal/hint"
	"github.com/hostctl/hostctl/machinefile"
	"github.com/hostctl/hostctl/sync/exports"
)

// nfsServer looks at this host's own NFS server, where a share is to be served by it.
func (p *Patient) nfsServer(ctx context.Context) []Finding {
	folders := map[string]bool{}
	for _, m := range p.machines() {
		for _, s := range m.Shares {
			if s.Server == machinefile.SystemServer {
				folders[s.Host] = true
			}
		}
	}
	if len(folders) == 0 || p.Exports == nil {
		return nil
	}
	program, err := p.Exports.Program()
	if err != nil {
		return one(Finding{Level: Problem, Detail: err.Error(), Fix: hint.Of(err)})
	}
	var found []Finding
	if err := p.Exports.Running(ctx); err != nil {
		found = append(found, failed(err))
	} else {
		found = append(found, ok("runs, for %s; told by %s", count(len(folders), "folder"), program))
	}
	mistakes, err := p.Exports.Mistakes(ctx)
	if err != nil {
		found = append(found, Finding{Level: Warning, Detail: err.Error(), Fix: hint.Of(err)})
	}
	for _, m := range mistakes {
		f := Finding{Level: Warning, Detail: m.Error(), Fix: "mend that line"}
		if m.Stops {
			f.Level = Problem
			f.Fix = "mend that line: nothing below it is exported, and hostctl up leaves the file alone"
		}
		found = append(found, f)
	}
	if err := p.Exports.Allowed(ctx); errors.Is(err, exports.ErrNotAllowed) {
		found = append(found, Finding{Level: Info, Detail: "sudo asks for a password when what is exported changes",
			Fix: "hostctl share sudoers | sudo tee " + exports.SudoersFile})
	} else if err != nil {
		found = append(found, failed(err))
	}
	return found
}
