package project

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"regexp"

	"github.com/hostctl/hostctl/internal/hint"
)

// stateVersion is the schema written. A file with a higher one is refused.
const stateVersion = 1

// libvirtProvider is the provider that LibvirtURI is about.
const libvirtProvider = "libvirt"

// State is the content of state.json.
type State struct {
	Version int    `json:"version"`
	ID      string `json:"id"`      // see Project.ID
	Dir     string `json:"dir"`     // where the project was when it last changed; see settle
	RunDir  string `json:"run_dir"` // see Project.RunDir
	// LibvirtURI is where the project's libvirt machines are; "" without any.
	// LibvirtPool is the storage pool of their disks.
	LibvirtURI  string                  `json:"libvirt_uri,omitempty"`
	LibvirtPool string                  `json:"libvirt_pool,omitempty"`
	Machines    map[string]MachineState `json:"machines"`
}

// Load reads the state. A project without one has an empty state, which is no
// error. It takes no lock: what it returns was complete at some moment.
//
// A file that cannot be understood is an error and is never written over. A
// project directory that is a copy gives a *[CopyError]. In one that was moved
// shares of folders in it are already where they are now, and Dir is still the old
// one, until [Project.Lock].
func (p *Project) Load() (*State, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	s, _, err := p.load()
	return s, err
}

// Update changes the state under the lock, one caller at a time. When change
// fails, or changes nothing, nothing is written.
func (p *Project) Update(change func(*State) error) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.lock == nil {
		return ErrNotLocked
	}
	s, old, err := p.load()
	if err != nil {
		return err
	}
	if err := change(s); err != nil {
		return err
	}
	return p.save(s, old)
}

// load returns the state and the bytes it was read from.
func (p *Project) load() (*State, []byte, error) {
	data, s, err := readState(p.dir)
	if errors.Is(err, fs.ErrNotExist) {
		p.id, p.runDir = "", ""
		return &State{Version: stateVersion, Machines: map[string]MachineState{}}, nil, nil
	}
	if err != nil {
		return nil, nil, err
	}
	if original := p.original(s); original != "" {
		return nil, nil, &CopyError{Dir: p.dir, Original: original}
	}
	if p.moved(s) {
		s.moveShares(s.Dir, p.dir)
	}
	p.id, p.runDir = s.ID, s.RunDir
	return s, data, nil
}

func (p *Project) save(s *State, old []byte) error {
	s.Version = stateVersion
	if err := s.validate(); err != nil {
		return fmt.Errorf("write state: %w", err)
	}
	data, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return fmt.Errorf("write state: %w", err)
	}
	data = append(data, '\n')
	if bytes.Equal(data, old) {
		return nil
	}
	if err := WriteFile(p.statePath(), data); err != nil {
		return fmt.Errorf("write state: %w", p.explain(err))
	}
	return nil
}

// readState reads the state file of the project in dir.
func readState(dir string) ([]byte, *State, error) {
	path := filepath.Join(dir, stateDir, stateFile)
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, nil, err
	}
	s, err := parseState(data)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", path, err)
	}
	return data, s, nil
}

// parseState never trusts the file: a repository from elsewhere may bring one,
// and names in it become paths to remove.
func parseState(data []byte) (*State, error) {
	const advice = "nothing was changed: restore the file from a backup, or remove it and run hostctl destroy, which finds the machines without it, to start afresh"
	var head struct {
		Version int `json:"version"`
	}
	if err := json.Unmarshal(data, &head); err != nil {
		return nil, hint.Wrap(fmt.Errorf("the state is damaged: %w", err), advice)
	}
	if head.Version > stateVersion {
		return nil, hint.Wrap(fmt.Errorf("the state has version %d, this hostctl knows up to %d", head.Version, stateVersion),
			"a newer hostctl made these machines: use that one")
	}
	var s State
	if err := json.Unmarshal(data, &s); err != nil {
		return nil, hint.Wrap(fmt.Errorf("the state is damaged: %w", err), advice)
	}
	if err := s.validate(); err != nil {
		return nil, hint.Wrap(fmt.Errorf("the state is damaged: %w", err), advice)
	}
	if s.Machines == nil {
		s.Machines = map[string]MachineState{}
	}
	return &s, nil
}

func (s *State) validate() error {
	if s.Version < 1 {
		return errors.New("no version")
	}
	if !validID.MatchString(s.ID) {
		return fmt.Errorf("id %q is not 12 hex digits", s.ID)
	}
	if s.RunDir != "" && !isRunDir(s.RunDir, s.ID) {
		return fmt.Errorf("run_dir %q is not one of this project", s.RunDir)
	}
	for name, ms := range s.Machines {
		if err := validName(name); err != nil {
			return err
		}
		for _, nic := range ms.NICs {
			if err := nic.validate(); err != nil {
				return fmt.Errorf("machine %q: %w", name, err)
			}
		}
		for _, shares := range [][]ShareSpec{ms.Spec.Shares, ms.Mounted} {
			for _, share := range shares {
				if err := share.validate(); err != nil {
					return fmt.Errorf("machine %q: %w", name, err)
				}
			}
		}
	}
	return nil
}

// validNetwork is a network's name: it becomes part of the names of files and
// of the hypervisor's networks.
var validNetwork = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_-]{0,62}$`)

// validInterface is the name of an interface of the host.
var validInterface = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._:@-]{0,62}$`)

func (n NIC) validate() error {
	if !validNetwork.MatchString(n.Network) {
		return fmt.Errorf("network %q is no network's name", n.Network)
	}
	if _, err := net.ParseMAC(n.MAC); err != nil {
		return fmt.Errorf("network %q: %w", n.Network, err)
	}
	if n.Interface != "" && !validInterface.MatchString(n.Interface) {
		return fmt.Errorf("network %q: %q is no interface's name", n.Network, n.Interface)
	}
	return nil
}
