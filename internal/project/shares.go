package project

import (
	"cmp"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
)

// ShareSpec is a share as the machine file describes it.
type ShareSpec struct {
	Name      string   `json:"name"`
	Type      string   `json:"type"`                // "nfs" or "sftp"
	Host      string   `json:"host"`                // absolute and clean
	Guest     string   `json:"guest"`               // absolute and clean
	ReadOnly  bool     `json:"readonly,omitempty"`  // nfs
	Server    string   `json:"server,omitempty"`    // nfs: "embedded" or "system"
	Options   []string `json:"options,omitempty"`   // nfs: of mount
	Events    bool     `json:"events,omitempty"`    // nfs
	Direction string   `json:"direction,omitempty"` // sftp: "push" or "both"
	Ignore    []string `json:"ignore,omitempty"`    // lines of a .gitignore
	// Was is where the folder of an embedded share was when guests were told of it;
	// "" unless the project was moved since, and the folder with it.
	Was string `json:"was,omitempty"`
}

// Embedded reports whether the project's agent serves the share.
func (s ShareSpec) Embedded() bool { return s.Type == "nfs" && s.Server == "embedded" }

// Mirrored reports whether the guest has a copy of the folder.
func (s ShareSpec) Mirrored() bool { return s.Type == "sftp" }

// usualOwner is the number of the user of most guests.
const usualOwner = 500

// Export is the name under which the agent's server has the share: that of the
// machines that see the same folder in the same way. owner is the number of
// their user. It stays when the project is moved: so does what guests have mounted,
// and have open.
func (s ShareSpec) Export(owner uint32) string {
	seen := fmt.Appendf(nil, "%v %s", s.ReadOnly, cmp.Or(s.Was, s.Host))
	if owner != usualOwner { // the names that guests know stay
		seen = fmt.Appendf(seen, " %d", owner)
	}
	sum := sha256.Sum256(seen)
	return s.Name + "-" + hex.EncodeToString(sum[:4])
}

func (s ShareSpec) validate() error {
	if !validNetwork.MatchString(s.Name) {
		return fmt.Errorf("share %q is no share's name", s.Name)
	}
	if !filepath.IsAbs(s.Host) || filepath.Clean(s.Host) != s.Host {
		return fmt.Errorf("share %q: the folder %q is not absolute", s.Name, s.Host)
	}
	return nil
}

// moveShares has the shares follow a project that was moved from the old directory.
// A folder outside of it is where it was. The host's own NFS server exports folders
// by their paths, so there a moved one is another share.
func (s *State) moveShares(from, to string) {
	move := func(shares []ShareSpec) {
		for i, share := range shares {
			rest, err := filepath.Rel(from, share.Host)
			if err != nil || !filepath.IsLocal(rest) || !share.Embedded() && !share.Mirrored() {
				continue
			}
			shares[i].Host = filepath.Join(to, rest)
			if share.Embedded() {
				shares[i].Was = cmp.Or(share.Was, share.Host)
			}
			if shares[i].Was == shares[i].Host { // it is back
				shares[i].Was = ""
			}
		}
	}
	for _, ms := range s.Machines {
		move(ms.Spec.Shares)
		move(ms.Mounted)
	}
}

// Served lists the shares that the agent has to serve for the machine: those of
// its spec, and those that the guest still has mounted.
func (m MachineState) Served() []ShareSpec {
	var out []ShareSpec
	owner := m.Image.Guest.UserID()
	seen := map[string]bool{}
	for _, shares := range [][]ShareSpec{m.Spec.Shares, m.Mounted} {
		for _, s := range shares {
			if name := s.Export(owner); s.Embedded() && !seen[name] {
				seen[name] = true
				out = append(out, s)
			}
		}
	}
	return out
}

// AsksServer reports whether the guest, when it runs, has something to ask the
// agent's server: of shares, or of those that have left it.
func (m MachineState) AsksServer() bool { return m.SharesLeft || len(m.Served()) > 0 }

// shareKeySize is in bytes; package nfs asks for as many.
const shareKeySize = 32

// ShareKey returns the secret that the paths and file handles of the project's
// shares are made with. Under the lock it is made when missing; without, that
// is [ErrNoState].
func (p *Project) ShareKey() ([]byte, error) {
	p.keys.Lock()
	defer p.keys.Unlock()
	path := filepath.Join(p.StateDir(), shareKeyFile)
	data, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist) && !p.locked():
		return nil, ErrNoState
	case errors.Is(err, fs.ErrNotExist):
		data = make([]byte, shareKeySize)
		rand.Read(data) // never fails, says its documentation
		return data, p.explain(WriteFile(path, data))
	case err == nil && len(data) < shareKeySize:
		err = fmt.Errorf("%s: %d bytes are no key: delete it, and hostctl up makes another", path, len(data))
	}
	return data, err
}

// SharePorts returns the ports on which the agent serves shares, by the
// address that it listens on.
func (p *Project) SharePorts() (map[netip.Addr]uint16, error) {
	data, err := os.ReadFile(filepath.Join(p.StateDir(), sharePortsFile))
	if errors.Is(err, fs.ErrNotExist) {
		return map[netip.Addr]uint16{}, nil
	}
	if err != nil {
		return nil, err
	}
	var ports map[netip.Addr]uint16
	if err := json.Unmarshal(data, &ports); err != nil {
		return nil, fmt.Errorf("%s: %w", sharePortsFile, err)
	}
	if ports == nil { // of "null"
		ports = map[netip.Addr]uint16{}
	}
	return ports, nil
}

// KeepSharePorts writes down what [Project.SharePorts] returns. It is the
// agent's, which is one, and needs no lock.
func (p *Project) KeepSharePorts(ports map[netip.Addr]uint16) error {
	data, err := json.Marshal(ports)
	if err != nil {
		return err
	}
	return p.explain(WriteFile(filepath.Join(p.StateDir(), sharePortsFile), append(data, '\n')))
}

// SharesDir is where the agent's server keeps what it knows of files beside
// what their file system can.
func (p *Project) SharesDir() string { return filepath.Join(p.StateDir(), sharesDir) }
