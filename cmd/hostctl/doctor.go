package main

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/spf13/cobra"

	"github.com/hostctl/hostctl/internal/dockerhost"
	"github.com/hostctl/hostctl/internal/doctor"
	"github.com/hostctl/hostctl/internal/project"
	"github.com/hostctl/hostctl/internal/ui"
	"github.com/hostctl/hostctl/machinefile"
)

func newDoctorCmd(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "doctor",
		Short: "Check this computer, and say how to mend what is wrong",
		Long: `Checks what machines need of this computer (QEMU, KVM, libvirt, the image cache,
disk and memory, the machine file's ports and networks), and what may keep the
Docker client from them. Changes nothing. Without a machine file, only the
computer is checked.

Exits with 1 when something that machines need is broken; warnings are none.`,
		Example: `  hostctl doctor
  hostctl doctor -o json | jq -r '.findings[] | select(.level == "problem").fix'`,
		Args:              takes(0, 0),
		ValidArgsFunction: cobra.NoFileCompletions,
		SuggestFor:        []string{"check", "diagnose", "info"},
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.runDoctor(cmd.Context())
		},
	}
}

func (a *app) runDoctor(ctx context.Context) error {
	patient, err := a.patient()
	if err != nil {
		return err
	}
	findings := doctor.Run(ctx, patient.Checks())
	if err := ctx.Err(); err != nil {
		return err
	}
	if a.json() {
		err = a.ui().JSON(struct {
			Usable   bool             `json:"usable"`
			Findings []doctor.Finding `json:"findings"`
		}{doctor.Usable(findings), findings})
	} else {
		err = a.ui().Checks(checkLines(findings))
	}
	if err != nil || doctor.Usable(findings) {
		return err
	}
	problems := 0
	for _, f := range findings {
		if f.Level == doctor.Problem {
			problems++
		}
	}
	return fmt.Errorf("%s found", count(problems, "problem"))
}

// patient is this host with the project around the working directory, if
// there is one.
func (a *app) patient() (*doctor.Patient, error) {
	p := &doctor.Patient{
		Getenv:   a.getenv,
		LookPath: exec.LookPath,
		Unset:    a.unsetLine(),
		Version:  version,
		Images:   a.images(),
	}
	config, err := a.config()
	var (
		wrong   *fileError
		missing *machinefile.NotFoundError
	)
	switch {
	case err == nil:
		p.Config = config
	case errors.As(err, &wrong):
		for _, d := range wrong.diags {
			if d.Severity == hcl.DiagError { // a warning is none
				p.Mistakes++
			}
		}
	case !errors.As(err, &missing):
		return nil, err
	}
	if missing == nil {
		p.Project, err = a.project()
	} else {
		var dir string
		if dir, err = a.dir(); err == nil {
			p.Project, err = project.Open(dir, a.dirs())
		}
	}
	if err != nil {
		return nil, err
	}
	providers := a.providers(p.Project)
	p.Provider, p.Agent = providers.get, a.agent(p.Project, providers)
	p.Exports, err = a.exports()
	return p, err
}

// unsetLine is what the user's shell evaluates to lose DOCKER_HOST.
func (a *app) unsetLine() string {
	shell, err := a.shell("")
	if err != nil {
		shell = dockerhost.POSIX
	}
	line, err := shell.Evaluation("hostctl", "env", "--unset")
	if err != nil {
		return "hostctl env --unset"
	}
	return line
}

func checkLines(findings []doctor.Finding) []ui.CheckLine {
	marks := map[doctor.Level]ui.Mark{
		doctor.OK: ui.Fine, doctor.Info: ui.Aside, doctor.Warning: ui.Doubtful, doctor.Problem: ui.Wrong,
	}
	lines := make([]ui.CheckLine, len(findings))
	for i, f := range findings {
		lines[i] = ui.CheckLine{Mark: marks[f.Level], Name: f.Check, Detail: strings.TrimSpace(f.Detail), Advice: f.Fix}
	}
	return lines
}
