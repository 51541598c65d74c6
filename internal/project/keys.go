package project

import (
	"crypto/ed25519"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/crypto/ssh"

	"github.com/hostctl/hostctl/internal/hint"
)

// KeyPair is an ed25519 key pair.
type KeyPair struct {
	File    string // the private key (0600, OpenSSH's PEM); the public one is at File + ".pub"
	Private string // content of File
	Public  string // one line as in authorized_keys: "ssh-ed25519 AAAA... comment", no newline
	Signer  ssh.Signer
}

// Keys returns the key pair that hostctl logs in to the project's guests with.
// Under the lock it is made when missing; without, that is [ErrNoState].
func (p *Project) Keys() (KeyPair, error) {
	return p.keyPair(filepath.Join(p.StateDir(), keyFile), "hostctl")
}

// HostKey returns the SSH host key of the machine's guest, which is given to
// the guest at its first boot and known here before. Under the lock the pair,
// and the file for [Project.KnownHosts], are made when missing, which needs
// the machine's directory; without, that is [ErrNoState].
func (p *Project) HostKey(machine string) (KeyPair, error) {
	if err := validName(machine); err != nil {
		return KeyPair{}, err
	}
	k, err := p.keyPair(filepath.Join(p.MachineDir(machine), hostKeyFile), machine)
	if err != nil {
		return KeyPair{}, fmt.Errorf("host key of %s: %w", machine, err)
	}
	if p.locked() {
		line := p.HostKeyAlias(machine) + " " + k.Public + "\n"
		if err := p.keep(p.KnownHosts(machine), line); err != nil {
			return KeyPair{}, err
		}
	}
	return k, nil
}

// HostKeyAlias is the name that the machine's host key has in its known_hosts
// file: the guest's address, a forwarded port of the loopback, says nothing.
func (p *Project) HostKeyAlias(machine string) string { return "hostctl-" + p.ID() + "-" + machine }

// KnownHosts returns the path of the machine's known_hosts file, for the
// system's SSH client.
func (p *Project) KnownHosts(machine string) string {
	return filepath.Join(p.MachineDir(machine), knownHosts)
}

func (p *Project) keyPair(file, comment string) (KeyPair, error) {
	p.keys.Lock()
	defer p.keys.Unlock()
	data, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		if !p.locked() {
			return KeyPair{}, ErrNoState
		}
		data, err = newPrivateKey(comment)
		if err == nil {
			err = p.explain(WriteFile(file, data))
		}
	}
	if err != nil {
		return KeyPair{}, err
	}
	signer, err := ssh.ParsePrivateKey(data)
	if err != nil {
		return KeyPair{}, hint.Wrap(fmt.Errorf("%s: %w", file, err),
			"the guests know only this key: restore it from a backup, or destroy the machines and make them again")
	}
	k := KeyPair{
		File:    file,
		Private: string(data),
		Public:  strings.TrimSpace(string(ssh.MarshalAuthorizedKey(signer.PublicKey()))) + " " + comment,
		Signer:  signer,
	}
	if p.locked() {
		// Derived, so a crash between the two files heals itself.
		if err := p.keep(file+".pub", k.Public+"\n"); err != nil {
			return KeyPair{}, err
		}
	}
	return k, nil
}

// keep writes the file unless it already has the content.
func (p *Project) keep(path, content string) error {
	if old, err := os.ReadFile(path); err == nil && string(old) == content {
		return nil
	}
	return p.explain(WriteFile(path, []byte(content)))
}

func newPrivateKey(comment string) ([]byte, error) {
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		return nil, err
	}
	block, err := ssh.MarshalPrivateKey(key, comment)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(block), nil
}
