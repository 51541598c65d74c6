package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/adrg/xdg"
	"github.com/hashicorp/hcl/v2"
	"github.com/spf13/cobra"

	"github.com/hostctl/hostctl/image"
	"github.com/hostctl/hostctl/internal/folder"
	"github.com/hostctl/hostctl/internal/hint"
	"github.com/hostctl/hostctl/internal/lifecycle"
	"github.com/hostctl/hostctl/internal/project"
	"github.com/hostctl/hostctl/internal/ui"
	"github.com/hostctl/hostctl/machinefile"
	"github.com/hostctl/hostctl/provider"
)

// app holds what commands share. Everything is made when first asked for: a
// command that only looks pays for nothing else.
type app struct {
	streams streams
	argv    []string
	environ []string
	flags   struct {
		dir, file, output string
		vars, varFiles    []string
		noColor, verbose  bool
	}
	started bool // a command began: errors from here on are not usage errors

	folders folder.Looks

	talk   *ui.UI
	source *machinefile.Source // of the machine file that was loaded
	loaded *machinefile.Config // the machine file, once it was found valid
}

func newApp(argv []string, s streams, environ []string) *app {
	return &app{streams: s, argv: argv, environ: environ, folders: folder.Looks{Patience: folderPatience}}
}

func (a *app) checkFlags() error {
	if a.flags.output != "text" && a.flags.output != "json" {
		return &usageError{fmt.Errorf("unknown output format %q: text or json", a.flags.output)}
	}
	return nil
}

func (a *app) json() bool { return a.flags.output == "json" }

func (a *app) ui() *ui.UI {
	if a.talk == nil {
		a.talk = ui.New(ui.Options{
			Stdin: a.streams.in, Stdout: a.streams.out, Stderr: a.streams.err,
			NoColor: a.flags.noColor, JSON: a.json(), Getenv: a.getenv,
		})
	}
	return a.talk
}

func (a *app) getenv(name string) string {
	for _, kv := range a.environ {
		if v, ok := strings.CutPrefix(kv, name+"="); ok {
			return v
		}
	}
	return ""
}

func (a *app) logger() *slog.Logger {
	if !a.flags.verbose {
		return slog.New(slog.DiscardHandler)
	}
	return slog.New(slog.NewTextHandler(a.ui().Log(), &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// dir returns the directory that the command is about, which exists.
func (a *app) dir() (string, error) {
	if a.flags.dir == "" {
		return ".", nil
	}
	info, err := os.Stat(a.flags.dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "", &usageError{fmt.Errorf("directory %s does not exist", a.flags.dir)}
	case err != nil:
		return "", &usageError{err}
	case !info.IsDir():
		return "", &usageError{hint.Wrap(fmt.Errorf("%s is not a directory", a.flags.dir), "name a machine file with -f")}
	}
	return a.flags.dir, nil
}

// machineFile returns the machine file's path.
func (a *app) machineFile() (string, error) {
	if a.flags.file != "" {
		path := a.flags.file
		if a.flags.dir != "" && !filepath.IsAbs(path) {
			path = filepath.Join(a.flags.dir, path)
		}
		if _, err := os.Stat(path); err != nil {
			if errors.Is(err, fs.ErrNotExist) {
				err = fmt.Errorf("machine file %s does not exist", path)
			}
			return "", &usageError{err}
		}
		return path, nil
	}
	dir, err := a.dir()
	if err != nil {
		return "", err
	}
	path, err := machinefile.Find(dir)
	if err != nil {
		return "", &usageError{err}
	}
	return path, nil
}

// project opens the state of the machine file's directory, without reading
// the machine file: what runs can be used and stopped while it is being edited.
func (a *app) project() (*project.Project, error) {
	path, err := a.machineFile()
	if err != nil {
		if dir, ok := a.stateDir(); ok {
			return project.Open(dir, a.dirs())
		}
		return nil, err
	}
	return project.Open(filepath.Dir(path), a.dirs())
}

// stateDir is the project directory of machines whose machine file is gone:
// what runs can still be stopped. The folders above are not searched, since in
// a shared one such as /tmp the state could be anybody's.
func (a *app) stateDir() (string, bool) {
	dir, err := a.dir()
	if err != nil || a.flags.file != "" {
		return "", false
	}
	p, err := project.Open(dir, a.dirs())
	if err != nil {
		return "", false
	}
	state, err := p.Load()
	return dir, err == nil && len(state.Machines) > 0
}

func (a *app) dirs() project.Options {
	return project.Options{StateHome: xdg.StateHome, RuntimeDir: a.getenv("XDG_RUNTIME_DIR")}
}

// config loads and validates the machine file, once.
func (a *app) config() (*machinefile.Config, error) {
	if a.loaded != nil {
		return a.loaded, nil
	}
	path, err := a.machineFile()
	if err != nil {
		return nil, err
	}
	config, source, diags := machinefile.Load(path, machinefile.Options{
		Vars: a.flags.vars, VarFiles: a.flags.varFiles, Environ: a.environ, Catalog: a.catalogNames(),
	})
	a.source = source
	if diags.HasErrors() {
		return nil, &fileError{diags}
	}
	a.writeDiags(diags)
	a.loaded = config
	return config, nil
}

func (a *app) catalogNames() []machinefile.CatalogImage {
	var out []machinefile.CatalogImage
	for _, e := range image.Catalog() {
		c := machinefile.CatalogImage{Name: e.Name}
		for _, t := range e.Tracks {
			switch e.TrackKind {
			case "channel":
				c.Channels = append(c.Channels, t.Name)
			case "stream":
				c.Streams = append(c.Streams, t.Name)
			}
		}
		out = append(out, c)
	}
	for _, name := range a.images().Imports() {
		out = append(out, machinefile.CatalogImage{Name: name})
	}
	return out
}

// writeDiags shows what is wrong, or doubtful, in the machine file.
func (a *app) writeDiags(diags hcl.Diagnostics) {
	if len(diags) == 0 {
		return
	}
	// A failed write to standard error has nowhere to be reported.
	_ = a.ui().Render(func(w io.Writer, width int, color bool) error {
		return machinefile.WriteDiagnostics(w, a.source, diags, width, color)
	})
}

func (a *app) images() *image.Store {
	return image.NewStore(image.Config{Logger: a.logger()})
}

// engine runs command on the project's machines.
func (a *app) engine(p *project.Project, command string) *lifecycle.Engine {
	providers := a.providers(p)
	e := &lifecycle.Engine{
		Project:  p,
		Provider: providers.get,
		Images:   a.images(),
		Guests:   guests{},
		Agent:    a.agent(p, providers),
		Mirrors:  mirrors{p, a.ui().Warn},
		Reporter: a.ui().Reporter(),
		Command:  "hostctl " + command,
	}
	if client, err := a.exports(); err == nil {
		e.Exports = &systemExports{client: client, project: p, notice: a.ui().Notice}
	}
	return e
}

// choose returns the machines of the config that names select, in the file's
// order; no names select all.
func choose(config *machinefile.Config, names []string) ([]*machinefile.Machine, error) {
	if len(names) == 0 {
		return config.Machines, nil
	}
	var known []string
	for _, m := range config.Machines {
		known = append(known, m.Name)
	}
	for _, name := range names {
		if !slices.Contains(known, name) {
			return nil, unknownMachine(name, known)
		}
	}
	var out []*machinefile.Machine
	for _, m := range config.Machines {
		if slices.Contains(names, m.Name) {
			out = append(out, m)
		}
	}
	return out, nil
}

// notInProject is the state of a machine that neither the machine file nor the
// state has.
const notInProject = "not in this project"

// unknownMachine says which names there are, the nearest one first.
func unknownMachine(name string, known []string) error {
	err := &lifecycle.StateError{Machine: name, State: notInProject}
	switch near := hint.Nearest(name, known); {
	case near != "":
		err.Advice = fmt.Sprintf("did you mean %q?", near)
	case len(known) == 0:
		err.Advice = "the machine file has no machine block"
	default:
		err.Advice = "its machines: " + strings.Join(known, ", ")
	}
	return err
}

// created returns the names of the state's machines, sorted.
func created(s *project.State) []string {
	return slices.Sorted(maps.Keys(s.Machines))
}

// made checks names against the machines that exist and those of the machine
// file, and returns each once; no names select all that exist.
func (a *app) made(p *project.Project, names []string) ([]string, error) {
	state, err := p.Load()
	if err != nil {
		return nil, err
	}
	if len(names) == 0 {
		return created(state), nil
	}
	var out []string
	for _, name := range names {
		if slices.Contains(out, name) {
			continue
		}
		out = append(out, name)
		if _, ok := state.Machines[name]; ok {
			continue
		}
		// Not made, or mistyped? Only the machine file knows.
		config, err := a.config()
		if err != nil {
			return nil, err
		}
		if _, err := choose(config, []string{name}); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// one is a machine of the state that a command is about.
type one struct {
	project  *project.Project
	name     string
	state    project.MachineState
	provider provider.Provider
}

// oneMachine returns the machine called by args[0], or the only one.
func (a *app) oneMachine(args []string) (*one, error) {
	p, err := a.project()
	if err != nil {
		return nil, err
	}
	state, err := p.Load()
	if err != nil {
		return nil, err
	}
	names := created(state)
	switch {
	case len(args) > 0:
		names = args[:1]
	case len(names) == 0:
		config, err := a.config()
		if err != nil {
			return nil, err
		}
		for _, m := range config.Machines {
			names = append(names, m.Name)
		}
	}
	if len(names) != 1 {
		return nil, notOne(names)
	}
	if _, err := a.made(p, names); err != nil {
		return nil, err
	}
	ms, ok := state.Machines[names[0]]
	if !ok {
		return nil, notCreated(names[0])
	}
	prov, err := a.providers(p).get(ms.Provider)
	if err != nil {
		return nil, err
	}
	return &one{project: p, name: names[0], state: ms, provider: prov}, nil
}

// notOne says why the machine that is meant has to be named.
func notOne(names []string) error {
	if len(names) == 0 {
		return &usageError{hint.Wrap(errNoMachines, `add one, for instance: machine "core-01" { image = "flatcar" }`)}
	}
	return &usageError{hint.Wrap(fmt.Errorf("this project has %d machines", len(names)), "name one of them: %s", strings.Join(names, ", "))}
}

var errNoMachines = errors.New("this machine file has no machines")

func notCreated(name string) error {
	return &lifecycle.StateError{Machine: name, State: "not created", Advice: "hostctl up " + name + " makes it"}
}

// isMachine reports whether the project has a machine of that name, as far as it
// can tell: it is for advice.
func (a *app) isMachine(name string) bool {
	p, err := a.project()
	if err != nil {
		return false
	}
	_, err = a.made(p, []string{name})
	return err == nil
}

// running makes sure that the machine runs.
func (m *one) running(ctx context.Context) error {
	status, err := m.provider.Status(ctx, m.name)
	switch {
	case errors.Is(err, provider.ErrNotFound):
		return notCreated(m.name)
	case err != nil:
		return err
	case status.State != provider.Running:
		return &lifecycle.StateError{Machine: m.name, State: string(status.State), Advice: "hostctl up " + m.name + " boots it"}
	}
	return nil
}

// completeMachines offers the names of the machine file and of the state.
func (a *app) completeMachines(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	var names []string
	if config, err := a.config(); err == nil {
		for _, m := range config.Machines {
			names = append(names, m.Name)
		}
	}
	if p, err := a.project(); err == nil {
		if state, err := p.Load(); err == nil {
			names = append(names, created(state)...)
		}
	}
	slices.Sort(names)
	names = slices.DeleteFunc(slices.Compact(names), func(n string) bool { return slices.Contains(args, n) })
	return names, cobra.ShellCompDirectiveNoFileComp
}

// completeMachine is completeMachines for commands that take one.
func (a *app) completeMachine(cmd *cobra.Command, args []string, prefix string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return a.completeMachines(cmd, args, prefix)
}
