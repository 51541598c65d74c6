package sshclient

import (
	"fmt"
	"io"
	"net/netip"
	"path/filepath"
	"strings"
)

// Host is what the system's SSH client needs to log in to a machine.
type Host struct {
	Name         string // as in "ssh core-01"
	Addr         netip.AddrPort
	User         string
	IdentityFile string // the private key
	KnownHosts   string // file that holds the host key, and no other machine's
	HostKeyAlias string // the name the key has there
}

// WriteConfig writes ssh_config(5) for the hosts. It asks nothing of the
// user's own configuration: no key of an agent, no known_hosts, no question.
func WriteConfig(w io.Writer, hosts []Host) error {
	var b strings.Builder
	for i, h := range hosts {
		identity, err := configPath(h.IdentityFile)
		if err != nil {
			return err
		}
		known, err := configPath(h.KnownHosts)
		if err != nil {
			return err
		}
		if i > 0 {
			b.WriteByte('\n')
		}
		fmt.Fprintf(&b, "Host %s\n", h.Name)
		for _, line := range [][2]string{
			{"HostName", h.Addr.Addr().String()},
			{"Port", fmt.Sprint(h.Addr.Port())},
			{"User", h.User},
			{"IdentityFile", identity},
			{"IdentitiesOnly", "yes"},
			{"UserKnownHostsFile", known},
			{"HostKeyAlias", h.HostKeyAlias},
			{"HostKeyAlgorithms", "ssh-ed25519"},
			{"StrictHostKeyChecking", "yes"},
			{"CheckHostIP", "no"},
			{"PasswordAuthentication", "no"},
		} {
			fmt.Fprintf(&b, "  %s %s\n", line[0], line[1])
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// configPath quotes a path for ssh_config(5): inside double quotes, backslash
// escapes itself and the quote (OpenSSH 8.7 or newer); outside them, "%" starts
// a token, and "${" a variable, for which there is no escape.
func configPath(path string) (string, error) {
	path = filepath.ToSlash(path) // OpenSSH for Windows takes both
	if strings.Contains(path, "${") || strings.ContainsAny(path, "\n\r\x00") {
		return "", fmt.Errorf("%q: an SSH configuration cannot express this path", path)
	}
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, `%`, `%%`).Replace(path) + `"`, nil
}
