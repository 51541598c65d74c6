package project

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"

	"github.com/hostctl/hostctl/internal/durable"
	"github.com/hostctl/hostctl/internal/hint"
)

// Every file name of a project, below its directory:
//
//	.hostctl/                 0700
//	  .gitignore              keeps all of it out of the repository
//	  lock, lock.holder       see Lock
//	  state.json              State
//	  id_ed25519, .pub        the key pair that hostctl logs in with
//	  agent.log               the agent's words, see AgentFiles
//	  shares.key              see ShareKey
//	  shares.json             see SharePorts
//	  shares/                 of the agent's NFS server
//	  machines/NAME/          0700; the provider adds its own files
//	    ssh_host_ed25519_key, .pub, known_hosts
//	    SHARE.mirror, .lock   see MirrorFile
//
// below $XDG_STATE_HOME, the index:
//
//	hostctl/projects/ID.json
//
// and for sockets, whose paths must be short, see RunDir. In the run directory
// the agent has
//
//	agent.lock, agent.pid, agent.sock
const (
	stateDir      = ".hostctl"
	gitignoreFile = ".gitignore"
	lockFile      = "lock"
	holderFile    = "lock.holder"
	stateFile     = "state.json"
	keyFile       = "id_ed25519"
	machinesDir   = "machines"
	hostKeyFile   = "ssh_host_ed25519_key"
	knownHosts    = "known_hosts"
	mirrorExt     = ".mirror"

	shareKeyFile   = "shares.key"
	sharePortsFile = "shares.json"
	sharesDir      = "shares"

	agentLogFile    = "agent.log"
	agentLockFile   = "agent.lock"
	agentPIDFile    = "agent.pid"
	agentSocketFile = "agent.sock"

	indexDir    = "hostctl"
	projectsDir = "projects"
	indexExt    = ".json"

	tempExt = ".tmp"
)

var (
	validID   = regexp.MustCompile(`^[0-9a-f]{12}$`)
	validHost = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)
)

// validName keeps names that come from a state file inside the machines
// directory: they are used as paths, some of them to remove.
func validName(name string) error {
	if !validHost.MatchString(name) {
		return fmt.Errorf("machine name %q is not a DNS label", name)
	}
	return nil
}

// WriteFile replaces path with data (0600) so that after a crash of the
// program or the machine it holds either the old content or the new. The
// directory must exist.
func WriteFile(path string, data []byte) (err error) {
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, "."+filepath.Base(path)+"-*"+tempExt)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, ignoreMissing(os.Remove(f.Name())))
		}
	}()
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return err
	}
	return durable.Replace(f.Name(), path)
}

// sweepTemps removes what a killed [WriteFile] left in dir. It must not run
// beside another writer of the same files.
func sweepTemps(dir, pattern string) error {
	left, err := fs.Glob(os.DirFS(dir), pattern)
	if err != nil {
		return err
	}
	for _, name := range left {
		if err := ignoreMissing(os.Remove(filepath.Join(dir, name))); err != nil {
			return err
		}
	}
	return nil
}

// refuseLinks gives an error when dir is a symbolic link or has one in it, at
// any depth. A repository can bring such a directory, and what hostctl writes
// and removes in it would be written and removed elsewhere.
func refuseLinks(dir string) error {
	return filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return ignoreMissing(err) // a running guest's files come and go
		}
		return refuseType(path, d.Type())
	})
}

// refuseLink gives an error when path itself is a symbolic link.
func refuseLink(path string) error {
	info, err := os.Lstat(path)
	if err != nil {
		return ignoreMissing(err)
	}
	return refuseType(path, info.Mode())
}

func refuseType(path string, mode fs.FileMode) error {
	if mode&fs.ModeSymlink == 0 {
		return nil
	}
	return hint.Wrap(fmt.Errorf("%s is a symbolic link", path),
		"hostctl makes no links there, and would change what this one leads to: remove it")
}

func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
