package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/hostctl/hostctl/cloudconfig"
	"github.com/hostctl/hostctl/image"
	"github.com/hostctl/hostctl/internal/agent"
	"github.com/hostctl/hostctl/internal/folder"
	"github.com/hostctl/hostctl/internal/hint"
	"github.com/hostctl/hostctl/internal/lifecycle"
	"github.com/hostctl/hostctl/internal/project"
	"github.com/hostctl/hostctl/internal/sshclient"
	"github.com/hostctl/hostctl/internal/ui"
	"github.com/hostctl/hostctl/machinefile"
	"github.com/hostctl/hostctl/provider"
	"github.com/hostctl/hostctl/sync/mirror"
)

func newShareStatusCmd(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "status [machine...]",
		Short: "Show whether shares work, and what to do where they do not",
		Long: `Looks into the guests of the named machines, or of all, for the shares that they
were given, and asks the project's agent what it serves. Shares that only the
machine file has are listed, too. Changes nothing. Exits with 1 when a share of a
running machine does not work.`,
		Example: `  hostctl share status
  hostctl share status core-01 -o json`,
		ValidArgsFunction: a.completeMachines,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.runShareStatus(cmd.Context(), args)
		},
	}
}

// States of shares.
const (
	shareMounted    = "mounted"
	shareNotMounted = "not mounted"
	shareThere      = "there" // a mirrored share's folder
	shareMissing    = "missing"
	shareNew        = "not applied" // the machine, if there is one, has not been told of it
	shareDown       = "machine down"
	shareUnknown    = "unknown"
)

// shareStatus is how a share is.
type shareStatus struct {
	Machine string `json:"machine"`
	Name    string `json:"name"`
	Type    string `json:"type"`
	Host    string `json:"host"`
	Guest   string `json:"guest"`
	State   string `json:"state"`
	// Server is where this computer serves it to the guest; "" where it does
	// not.
	Server string `json:"server"`
	// Mirror is how the agent keeps the guest's copy; nil: it keeps none.
	Mirror *agent.Mirror `json:"mirror,omitempty"`
	// Notice is why programs in the guest do not learn at once of changes here.
	Notice string `json:"notice,omitempty"`
	Error  string `json:"error,omitempty"`
	Hint   string `json:"hint,omitempty"`
}

// errShares is that a share does not work; the table says more.
var errShares = &exitError{exitFailure}

func (a *app) runShareStatus(ctx context.Context, names []string) error {
	p, err := a.project()
	if err != nil {
		return err
	}
	some := len(names) > 0
	names, err = a.made(p, names)
	if err != nil {
		return err
	}
	state, err := p.Load()
	if err != nil {
		return err
	}
	declared := map[string]*machinefile.Machine{}
	config, err := a.config()
	switch {
	case err == nil:
		for _, m := range config.Machines {
			declared[m.Name] = m
			if !some && !slices.Contains(names, m.Name) {
				names = append(names, m.Name)
			}
		}
	case len(state.Machines) == 0:
		return err
	} // a file that is being edited is no reason not to say what there is
	for _, name := range names {
		for _, s := range state.Machines[name].Spec.Shares {
			a.folders.Begin(s.Host)
		}
	}
	serving, agentErr := a.agentStatus(ctx, p, agentPatience)
	found := make([][]shareStatus, len(names))
	var g errgroup.Group
	for i, name := range names {
		ms := state.Machines[name]
		later := sharesToApply(declared[name], ms)
		if len(ms.Spec.Shares)+len(later) == 0 {
			continue
		}
		g.Go(func() error {
			f := shareFacts{name: name, family: ms.Image.Guest, agentErr: agentErr, serving: serving.Machines[name], hostErr: func(dir string) error { return a.folders.At(ctx, dir) }}
			f.told, f.down = ms.Mounted, true
			if ms.Provider != "" {
				f.down = false
				a.lookAtShares(ctx, p, ms, &f)
			}
			for _, s := range ms.Spec.Shares {
				found[i] = append(found[i], f.status(s))
			}
			for _, s := range later {
				found[i] = append(found[i], f.unapplied(s))
			}
			return ctx.Err()
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	all := append([]shareStatus{}, slices.Concat(found...)...)
	if err := a.showShares(all); err != nil {
		return err
	}
	if slices.ContainsFunc(all, func(s shareStatus) bool { return s.Error != "" }) {
		return errShares
	}
	return nil
}

// sharesToApply are those that only the machine file has; m is nil for a machine
// that it has not.
func sharesToApply(m *machinefile.Machine, ms project.MachineState) []machinefile.Share {
	if m == nil {
		return nil
	}
	return slices.DeleteFunc(slices.Clone(m.Shares), func(s machinefile.Share) bool {
		return slices.ContainsFunc(ms.Spec.Shares, func(given project.ShareSpec) bool { return given.Name == s.Name })
	})
}

func (a *app) showShares(all []shareStatus) error {
	if a.json() {
		return a.ui().JSON(all)
	}
	if len(all) == 0 {
		a.ui().Notice("no machine has a share")
		return nil
	}
	rows := make([][]string, len(all))
	for i, s := range all {
		rows[i] = []string{s.Machine, s.Name, s.Type, s.State, cmp.Or(s.Server, "-"), s.Host, s.Guest}
	}
	err := a.ui().Table([]ui.Column{
		{Name: "MACHINE"}, {Name: "SHARE"}, {Name: "TYPE"}, {Name: "STATE", Tone: shareTone}, {Name: "SERVER"}, {Name: "HOST"}, {Name: "GUEST"},
	}, rows)
	for _, s := range all {
		if s.Mirror != nil && s.Mirror.Notice != "" {
			a.ui().Warn("%s: share %q: its folder is scanned, not watched: %s", s.Machine, s.Name, s.Mirror.Notice)
		}
		if s.Notice != "" {
			a.ui().Warn("%s: share %q: %s", s.Machine, s.Name, s.Notice)
		}
		if s.Error != "" {
			a.ui().Error(hint.Wrap(fmt.Errorf("%s: share %q: %s", s.Machine, s.Name, s.Error), "%s", s.Hint))
		}
	}
	return err
}

func shareTone(state string) ui.Tone {
	switch state {
	case shareMounted, shareThere, agent.MirrorCopying, agent.MirrorWatching, agent.MirrorScanning:
		return ui.Good
	}
	return ui.Faint
}

// shareFacts are what is known of a machine's shares.
type shareFacts struct {
	name     string
	family   image.Guest
	down     bool
	told     []project.ShareSpec
	serving  agent.MachineStatus
	agentErr error
	guestErr error           // why the guest could not be looked at
	mounts   map[string]bool // folders of the guest that are mounted by NFS
	folders  map[string]bool // folders of the guest that are there
	hostErr  func(dir string) error
}

// folderPatience is how long a folder of this computer may take where the answer is
// shown, or sync begins.
const folderPatience = 2 * time.Second

// mendsFolder says what to do about a folder of this computer that cannot be shared.
// One that has been mirrored is not made anew.
func mendsFolder(machine string, mirrored bool, err error) string {
	up := "run hostctl up " + machine
	switch {
	case errors.Is(err, folder.ErrSilent):
		return hint.Of(err) + ", or take the share out of the machine file and " + up
	case errors.Is(err, fs.ErrNotExist) && mirrored:
		return mirror.AdviceForGone
	case errors.Is(err, fs.ErrNotExist):
		return "make the folder, or set create = true and " + up
	}
	return "share another folder and " + up + ", or have this one opened to you"
}

// guestPatience bounds looking into a guest.
const guestPatience = 20 * time.Second

// lookAtShares finds out about the machine and its guest.
func (a *app) lookAtShares(ctx context.Context, p *project.Project, ms project.MachineState, f *shareFacts) {
	prov, err := a.providers(p).get(ms.Provider)
	if err != nil {
		f.guestErr = err
		return
	}
	status, err := prov.Status(ctx, f.name)
	switch {
	case errors.Is(err, provider.ErrNotFound) || err == nil && status.State != provider.Running:
		f.down = true
		return
	case err != nil:
		f.guestErr = err
		return
	}
	ctx, cancel := context.WithTimeout(ctx, guestPatience)
	defer cancel()
	f.guestErr = f.lookInside(ctx, p, ms)
}

// lookInside asks the guest. It reads the list of mounts and touches none of
// them: one whose server is gone would not answer.
func (f *shareFacts) lookInside(ctx context.Context, p *project.Project, ms project.MachineState) error {
	target, err := lifecycle.Target(p, f.name, ms)
	if err != nil {
		return err
	}
	c, err := sshclient.Dial(ctx, target)
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }() // what it said is known
	command := "cat /proc/self/mounts"
	for _, s := range ms.Spec.Shares {
		if s.Type == string(machinefile.SFTP) {
			folder := sshclient.Quote(f.guestPath(s))
			command += fmt.Sprintf("; test ! -d %s || printf 'folder %%s\\n' %[1]s", folder)
		}
	}
	var out bytes.Buffer
	if _, err := c.Exec(ctx, command, sshclient.Streams{Out: &out}); err != nil {
		return err
	}
	f.read(out.String())
	return nil
}

func (f *shareFacts) guestPath(s project.ShareSpec) string {
	return cloudconfig.GuestPath(s.Guest, f.family)
}

// read takes apart what the guest said: proc(5), /proc/self/mounts, in which
// blanks and the like are octal.
func (f *shareFacts) read(text string) {
	f.mounts, f.folders = map[string]bool{}, map[string]bool{}
	octal := strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`)
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		if folder, ok := strings.CutPrefix(line, "folder "); ok {
			f.folders[folder] = true
			continue
		}
		if fields := strings.Fields(line); len(fields) > 2 && (fields[2] == "nfs" || fields[2] == "nfs4") {
			f.mounts[octal.Replace(fields[1])] = true
		}
	}
}

// status says how one share is.
func (f *shareFacts) status(s project.ShareSpec) shareStatus {
	st := shareStatus{Machine: f.name, Name: s.Name, Type: s.Type, Host: s.Host, Guest: s.Guest}
	fail := func(state, advice string, err error) shareStatus {
		st.State = state
		if err != nil {
			st.Error, st.Hint = err.Error(), advice
		}
		return st
	}
	up := "hostctl up " + f.name
	if f.down {
		st.State = shareDown
		return st
	}
	there, state, missing := f.mounts[f.guestPath(s)], shareMounted, shareNotMounted
	if s.Type == string(machinefile.SFTP) {
		there, state, missing = f.folders[f.guestPath(s)], shareThere, shareMissing
	}
	if !there {
		state = missing
	}
	if f.guestErr != nil {
		state = shareUnknown
	}
	told := slices.ContainsFunc(f.told, func(t project.ShareSpec) bool { return t.Name == s.Name })
	if err := f.hostErr(s.Host); err != nil {
		return fail(state, mendsFolder(f.name, told && s.Mirrored(), err), err)
	}
	if s.Embedded() {
		if why := unserved(s, f.serving, f.agentErr); why != "" {
			return fail(state, mends(f.name, nil), errors.New(why))
		}
		by := served(s, f.serving)
		st.Server, st.Notice = by.Address.String(), by.Notice
	}
	if s.Mirrored() && told {
		st.Mirror = kept(s, f.serving)
		switch why := unkept(s, f.serving, f.agentErr); {
		case why != "":
			return fail(state, mends(f.name, st.Mirror), errors.New(why))
		case there:
			state = st.Mirror.State
		}
	}
	switch {
	case f.guestErr != nil:
		return fail(shareUnknown, up+" waits until the guest answers", fmt.Errorf("the guest cannot be asked: %w", f.guestErr))
	case there:
		st.State = state
	case !told:
		return fail(shareNew, up, errors.New("the guest was not told of it yet"))
	case s.Type == string(machinefile.SFTP):
		return fail(state, fmt.Sprintf("hostctl sync %s copies it again", f.name), errors.New("its folder is gone in the guest"))
	default:
		return fail(state, fmt.Sprintf("hostctl ssh %s -c 'sudo systemctl start %q' mounts it again, or says where the reason is", f.name, cloudconfig.MountUnit(f.guestPath(s))),
			errors.New("it is not mounted in the guest"))
	}
	return st
}

// unapplied is a share that only the machine file has.
func (f *shareFacts) unapplied(s machinefile.Share) shareStatus {
	st := shareStatus{Machine: f.name, Name: s.Name, Type: string(s.Type), Host: s.Host, Guest: s.Guest, State: shareNew}
	if !f.down {
		st.Error, st.Hint = "only the machine file has it yet", "hostctl up "+f.name
	}
	return st
}

// mends says what to do about a share that the agent does not keep as it should;
// mirrored is nil unless it tries to.
func mends(machine string, mirrored *agent.Mirror) string {
	if mirrored != nil {
		return "hostctl sync " + machine + " tries it again"
	}
	return "hostctl up " + machine + " mends that"
}

// unserved says why the agent does not serve a share, "" where it does.
func unserved(s project.ShareSpec, by agent.MachineStatus, agentErr error) string {
	if agentErr != nil {
		return agentTrouble(agentErr, "serves")
	}
	if found := served(s, by); found != nil {
		return found.Error
	}
	return "the project's agent does not serve it"
}

// unkept says why the guest's copy of a share is not kept like its folder, ""
// where it is.
func unkept(s project.ShareSpec, by agent.MachineStatus, agentErr error) string {
	if agentErr != nil {
		return agentTrouble(agentErr, "mirrors")
	}
	if found := kept(s, by); found != nil {
		return found.Error
	}
	return "the project's agent does not mirror it"
}

// kept is what the agent says of a mirrored share; nil: nothing.
func kept(s project.ShareSpec, by agent.MachineStatus) *agent.Mirror {
	for _, m := range by.Mirrors {
		if m.Name == s.Name && m.Host == s.Host {
			return &m
		}
	}
	return nil
}

// agentTrouble says that the agent, which serves or mirrors a share, cannot.
func agentTrouble(err error, does string) string {
	fails := "does not answer"
	if errors.Is(err, agent.ErrNotRunning) {
		fails = "does not run"
	}
	return "the project's agent, which " + does + " it, " + fails
}

// served is what the agent says of a share; nil: nothing.
func served(s project.ShareSpec, by agent.MachineStatus) *agent.Share {
	for _, share := range by.Shares {
		if share.Name == s.Name && share.Host == s.Host {
			return &share
		}
	}
	return nil
}
