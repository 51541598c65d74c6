package project

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// AgentFiles are those of the project's background process.
type AgentFiles struct {
	Lock   string // held by the one agent of the project
	PID    string // the holder's process id
	Socket string // where it is asked
	Log    string // what it says
}

// AgentFiles returns the agent's files, and makes none: the run directory may
// be missing, which [Project.RunDir] mends. A project without state gives
// [ErrNoState]; a run directory that others could have made an error.
func (p *Project) AgentFiles() (AgentFiles, error) {
	p.mu.Lock()
	dir := p.runDir
	if dir == "" {
		if _, _, err := p.load(); err != nil {
			p.mu.Unlock()
			return AgentFiles{}, err
		}
		dir = p.runDir
	}
	p.mu.Unlock()
	if dir == "" {
		return AgentFiles{}, ErrNoState
	}
	info, err := os.Lstat(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return AgentFiles{}, err
	case !info.IsDir() || !private(info):
		return AgentFiles{}, fmt.Errorf("%s: not a directory of yours alone", dir)
	}
	f := AgentFiles{
		Lock:   filepath.Join(dir, agentLockFile),
		PID:    filepath.Join(dir, agentPIDFile),
		Socket: filepath.Join(dir, agentSocketFile),
		Log:    filepath.Join(p.StateDir(), agentLogFile),
	}
	return f, refuseLink(f.Log)
}
