package cloudconfig

import (
	"bytes"
	"fmt"
	"net/netip"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/hostctl/hostctl/image"
)

// newDocument lists what the guest is given. Where families differ the guest's
// facts decide, never its name.
func newDocument(in Input) (document, error) {
	g := in.Guest
	doc := document{Variant: g.ButaneVariant, Version: g.ButaneVersion}

	user := user{Name: g.User}
	for _, key := range in.AuthorizedKeys {
		user.AuthorizedKeys = append(user.AuthorizedKeys, strings.TrimSpace(key))
	}
	if in.DockerPort != 0 && g.DockerGroup {
		user.Groups = []string{"docker"}
	}
	doc.Passwd.Users = append(doc.Passwd.Users, user)

	doc.addFile("/etc/hostname", 0o644, in.Hostname)
	// sshd on every family makes only the host keys that are missing, so this
	// one stays; Ignition writes it as root and labels it for SELinux.
	doc.addFile("/etc/ssh/ssh_host_ed25519_key", 0o600, in.HostKey.Private)
	doc.addFile("/etc/ssh/ssh_host_ed25519_key.pub", 0o644, in.HostKey.Public)

	if err := doc.addNICs(g.NICs, in.NICs); err != nil {
		return document{}, err
	}
	if len(in.Hosts) > 0 {
		doc.addFile("/etc/hosts", 0o644, localHosts+HostsBlock(in.Hosts))
	}
	if in.DockerPort != 0 {
		doc.addDocker(g, in.DockerPort, in.DockerAddresses)
	}
	if err := doc.stopUpdates(g.Updates); err != nil {
		return document{}, err
	}
	return doc, nil
}

// dockerSocket is the unit of CoreOS's documentation ("Customizing Docker",
// "Enable the remote API on a new socket"), to the letter but for what the
// socket listens on.
const dockerSocket = `[Unit]
Description=Docker Socket for the API

[Socket]
%sService=docker.service

[Install]
WantedBy=sockets.target
`

// dockerEnabler has the name and the purpose of the documented unit, which ran
// "systemctl enable docker-tcp.socket" once. Ignition's preset does that here,
// and as the socket comes before its service, dockerd gets the listener on the
// first boot already. Where it could not - on Flatcar docker.service arrives
// with a system extension, before which systemd refuses the socket, and a
// socket is refused as well while its service runs - dockerd is started anew
// behind the socket. In the usual case the unit costs one systemctl, after
// Docker is up.
const dockerEnabler = `[Unit]
Description=Enable the Docker Socket for the API
After=docker-tcp.socket docker.service

[Service]
Type=oneshot
ExecCondition=/bin/sh -c '! systemctl --quiet is-active docker-tcp.socket'
ExecStart=/usr/bin/systemctl enable docker-tcp.socket
ExecStart=-/usr/bin/systemctl stop docker.service
ExecStart=/usr/bin/systemctl start docker-tcp.socket docker.service

[Install]
WantedBy=multi-user.target
`

// listen returns what docker-tcp.socket listens on.
func listen(port uint16, addresses []netip.Addr) string {
	if len(addresses) == 0 {
		return fmt.Sprintf("ListenStream=%d\nBindIPv6Only=both\n", port)
	}
	var b strings.Builder
	for _, a := range addresses {
		fmt.Fprintf(&b, "ListenStream=%s\n", netip.AddrPortFrom(a, port))
	}
	// The socket is there before DHCP has answered.
	b.WriteString("FreeBind=yes\n")
	return b.String()
}

// DockerSocket returns the unit docker-tcp.socket, as Ignition writes it.
func DockerSocket(port uint16, addresses []netip.Addr) string {
	return fmt.Sprintf(dockerSocket, listen(port, addresses))
}

// DockerSocketCommand is a command line for the guest's shell that puts a unit of
// [DockerSocket], which it reads from standard input, in the place of the one that the
// guest has. Docker starts anew when it is another: a socket is refused while its
// service runs, and the other socket would start that. Until Docker has come up the
// former unit stands beside it, as docker-tcp.socket.old. It is put back on failures and
// signals; while Docker has not come up with it, it tells the next call that not all is
// done. A shell whose connection was lost may still be at it, so there is a lock.
const DockerSocketCommand = `sudo sh -c 'set -e; at=/etc/systemd/system/docker-tcp.socket; new=$at.new; old=$at.old
anew() { systemctl daemon-reload && systemctl stop docker-tcp.socket docker.socket docker.service && systemctl start docker-tcp.socket docker.service; }
back() { trap "" HUP INT TERM PIPE; set +e; [ ! -e "$old" ] || { ln -f "$old" "$new" && mv -f "$new" "$at" && anew && rm "$old"; }; rm -f "$new"; }
exec 9<"${at%/*}"; flock 9; trap back EXIT; trap "exit 1" HUP INT TERM PIPE
cat > "$new"; [ -s "$new" ]
if [ ! -e "$old" ] && [ "$(cat "$new")" = "$(cat "$at")" ]; then exit 0; fi
chmod 644 "$new"; chcon --reference="$at" "$new" 2>/dev/null || true
[ -e "$old" ] || ln "$at" "$old"
mv "$new" "$at"; anew; rm "$old"'`

// addDocker starts Docker at boot and offers its API on a guest port.
func (d *document) addDocker(g image.Guest, port uint16, addresses []netip.Addr) {
	d.Systemd.Units = append(d.Systemd.Units,
		unit{Name: "docker-tcp.socket", Enabled: true, Contents: DockerSocket(port, addresses)},
		unit{Name: "enable-docker-tcp.service", Enabled: true, Contents: dockerEnabler},
		// Socket activation alone would leave restart=always containers down
		// until somebody asks for Docker.
		unit{Name: "docker.service", Enabled: true},
	)
	if g.DockerLink {
		// Presets are applied before the system extension with docker.service
		// is merged: Flatcar since 3761.0.0, "Getting started with Docker".
		d.Storage.Links = append(d.Storage.Links, link{
			Path:      "/etc/systemd/system/multi-user.target.wants/docker.service",
			Target:    "/usr/lib/systemd/system/docker.service",
			Overwrite: true,
		})
	}
}

// stopUpdates keeps the guest from rebooting by itself.
func (d *document) stopUpdates(u image.Updates) error {
	switch u {
	case "":
	case image.UpdateEngine:
		// update-engine stays: it also marks the boot as good.
		d.addFile("/etc/flatcar/update.conf", 0o644, "SERVER=disabled")
		d.Systemd.Units = append(d.Systemd.Units, unit{Name: "locksmithd.service", Mask: true})
	case image.Zincati:
		d.addFile("/etc/zincati/config.d/90-disable-auto-updates.toml", 0o644, "[updates]\nenabled = false")
	default:
		return fmt.Errorf("unknown updater %q", u)
	}
	return nil
}

// addFile adds a file of root's that replaces what the image has; contents get
// the final newline that OpenSSH wants of a private key.
func (d *document) addFile(path string, mode mode, contents string) {
	d.Storage.Files = append(d.Storage.Files, file{
		Path:      path,
		Mode:      mode,
		Overwrite: true,
		Contents:  resource{Inline: strings.TrimRight(contents, "\n") + "\n"},
	})
}

// document is the part of Butane that hostctl writes: the fields that flatcar
// 1.0.0 and fcos 1.4.0 have in common, and in a reader's order. Butane's own
// types would write out every empty field.
type document struct {
	Variant  string           `yaml:"variant"`
	Version  string           `yaml:"version"`
	Ignition *ignitionSection `yaml:"ignition,omitempty"`
	Passwd   struct {
		Users []user `yaml:"users,omitempty"`
	} `yaml:"passwd,omitempty"`
	Storage struct {
		Files []file `yaml:"files,omitempty"`
		Links []link `yaml:"links,omitempty"`
	} `yaml:"storage,omitempty"`
	Systemd struct {
		Units []unit `yaml:"units,omitempty"`
	} `yaml:"systemd,omitempty"`
}

type ignitionSection struct {
	Config ignitionConfig `yaml:"config"`
}

type ignitionConfig struct {
	Replace resource `yaml:"replace"`
}

type user struct {
	Name           string   `yaml:"name"`
	Groups         []string `yaml:"groups,omitempty"`
	AuthorizedKeys []string `yaml:"ssh_authorized_keys"`
}

type file struct {
	Path      string   `yaml:"path"`
	Mode      mode     `yaml:"mode"`
	Overwrite bool     `yaml:"overwrite"`
	Contents  resource `yaml:"contents"`
}

type resource struct {
	Inline       string        `yaml:"inline,omitempty"`
	Source       string        `yaml:"source,omitempty"`
	Verification *verification `yaml:"verification,omitempty"`
}

type verification struct {
	Hash string `yaml:"hash"`
}

type link struct {
	Path      string `yaml:"path"`
	Target    string `yaml:"target"`
	Overwrite bool   `yaml:"overwrite"`
}

type unit struct {
	Name     string `yaml:"name"`
	Enabled  bool   `yaml:"enabled,omitempty"`
	Mask     bool   `yaml:"mask,omitempty"`
	Contents string `yaml:"contents,omitempty"`
}

// mode is a file mode, written in octal as people do.
type mode uint32

// MarshalYAML implements yaml.Marshaler.
func (m mode) MarshalYAML() (any, error) {
	return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!int", Value: fmt.Sprintf("%#04o", uint32(m))}, nil
}

func (d document) yaml() ([]byte, error) {
	var out bytes.Buffer
	enc := yaml.NewEncoder(&out)
	enc.SetIndent(2)
	if err := enc.Encode(d); err != nil {
		return nil, err
	}
	if err := enc.Close(); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}
