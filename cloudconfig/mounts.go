package cloudconfig

import (
	"fmt"
	"net/netip"
	"path"
	"slices"
	"strings"

	"github.com/hostctl/hostctl/image"
)

// Mount is a folder of the host's that the guest mounts by NFS.
type Mount struct {
	Share    string     // its name, for people who look at units
	Where    string     // absolute and clean; see [GuestPath]
	Server   netip.Addr // under which the guest reaches the server
	Port     uint16
	Path     string // on the server
	ReadOnly bool
	// Embedded: the server is hostctl's, which has NFS 3 and MOUNT on one port
	// and no lock manager. Else it is the host's own.
	Embedded bool
	Options  []string // of the machine file; they take the place of the defaults
}

// mountOptions are defaults, by the options that take their place.
//
// actimeo: what is edited on the host must be seen in the guest without delay,
// and an attribute that is asked for once a second costs nothing on a path as
// short as this. Negative lookups are held for as long.
// retry: mount.nfs would try for two minutes; systemd tries again, see
// mountsService.
var mountOptions = []struct {
	option string
	unless []string
}{
	{"hard", []string{"soft", "softerr"}},
	{"rsize=1048576", nil},
	{"wsize=1048576", nil},
	{"actimeo=1", []string{"noac", "acregmin", "acregmax", "acdirmin", "acdirmax"}},
	{"retry=0", nil},
}

func (m Mount) options() string {
	given := func(option string, unless ...string) bool {
		return slices.ContainsFunc(m.Options, func(o string) bool {
			return optionName(o) == optionName(option) || slices.Contains(unless, optionName(o))
		})
	}
	var out []string
	if m.Embedded {
		out = append(out, "vers=3", "proto=tcp", "mountproto=tcp", fmt.Sprintf("port=%d", m.Port), fmt.Sprintf("mountport=%d", m.Port), "nolock")
	} else {
		if !given("vers=4") {
			out = append(out, "vers=4")
		}
		out = append(out, "proto=tcp", fmt.Sprintf("port=%d", m.Port))
	}
	for _, d := range mountOptions {
		if !given(d.option, d.unless...) {
			out = append(out, d.option)
		}
	}
	if m.ReadOnly {
		out = append(out, "ro")
	}
	for _, o := range m.Options {
		if !slices.Contains(out, o) {
			out = append(out, o)
		}
	}
	return strings.Join(out, ",")
}

func optionName(option string) string {
	name, _, _ := strings.Cut(option, "=")
	if name == "nfsvers" {
		name = "vers"
	}
	return name
}

// unitsOf begins the files that are hostctl's.
const unitsOf = "# A share of hostctl's, which writes this file anew: see hostctl up."

// mountsService mounts again what could not be mounted at boot: systemd tries a
// mount unit once.
const mountsService = "hostctl-shares.service"

// unit is the mount's systemd unit. Docker comes after it: a container that
// starts at boot would be given the empty folder below the mount.
func (m Mount) unit() string {
	return unitsOf + `
[Unit]
Description=hostctl share ` + m.Share + `
Wants=network-online.target
After=network-online.target
Before=docker.service

[Mount]
What=` + specifiers(m.Server.String()+":"+m.Path) + `
Where=` + specifiers(m.Where) + `
Type=nfs
Options=` + m.options() + `
TimeoutSec=30

[Install]
WantedBy=multi-user.target
`
}

// specifiers keeps systemd from expanding %.
func specifiers(s string) string { return strings.ReplaceAll(s, "%", "%%") }

func service(names []string) string {
	args := make([]string, len(names))
	for i, n := range names {
		args[i] = strings.ReplaceAll(n, `\`, `\\`) // it reads \x2d as C does
	}
	return unitsOf + `
[Unit]
Description=Mount again what hostctl shares and could not be mounted
Wants=network-online.target
After=network-online.target ` + strings.Join(names, " ") + `
StartLimitIntervalSec=0

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=systemctl start ` + strings.Join(args, " ") + `
Restart=on-failure
RestartSec=10

[Install]
WantedBy=multi-user.target
`
}

// MountUnit is the name of the systemd unit that mounts at the absolute and
// clean path where. systemd.unit(5), "string escaping for inclusion in unit
// names".
func MountUnit(where string) string {
	var b strings.Builder
	trimmed := strings.Trim(where, "/")
	for i := range len(trimmed) {
		switch c := trimmed[i]; {
		case c == '/':
			b.WriteByte('-')
		case c == '_', c == ':', c == '.' && i > 0, '0' <= c && c <= '9', 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z':
			b.WriteByte(c)
		default:
			fmt.Fprintf(&b, `\x%02x`, c)
		}
	}
	if trimmed == "" {
		b.WriteByte('-')
	}
	return b.String() + ".mount"
}

// movedFolders are links in Fedora CoreOS: systemd does not mount through links.
var movedFolders = []string{"/home", "/media", "/mnt", "/opt", "/srv"}

// GuestPath is where the guest really has the folder p of the machine file, in
// which the login user's home is /home/core.
func GuestPath(p string, g image.Guest) string {
	const home = "/home/core"
	if rest, ok := strings.CutPrefix(p, home+"/"); ok && g.Home != "" {
		return path.Join(g.Home, rest)
	}
	if g.Family == "fedora-coreos" {
		for _, moved := range movedFolders {
			if strings.HasPrefix(p, moved+"/") {
				return "/var" + p
			}
		}
	}
	return p
}

// MountsCommand is the command line that reads a script of [MountsScript].
const MountsCommand = "sudo -n sh -s"

// MountsScript returns a script for the guest's root, after which exactly these
// are mounted by hostctl: units are written and removed as needed, folders that
// are missing are made, as user's. When all is so already it changes nothing.
// What cannot be mounted is said on standard error, with status 1.
func MountsScript(mounts []Mount, user string) string {
	var b strings.Builder
	b.WriteString(mountsBegin)
	put := func(name, content string) {
		fmt.Fprintf(&b, "cat > \"$new\"/%s <<'END-OF-UNIT'\n%sEND-OF-UNIT\n", quote(name), content)
	}
	var names []string
	for _, m := range mounts {
		name := MountUnit(m.Where)
		names = append(names, name)
		put(name, m.unit())
	}
	if len(names) > 0 {
		put(mountsService, service(names))
	}
	b.WriteString(mountsChange)
	for _, m := range mounts {
		fmt.Fprintf(&b, "folder %s %s\n", quote(m.Where), quote(user))
	}
	if len(names) > 0 {
		b.WriteString("start")
		for _, name := range names {
			b.WriteString(" " + quote(name))
		}
		b.WriteString("\n")
	}
	b.WriteString(mountsEnd)
	return b.String()
}

// quote makes s one word of the shell.
func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

// The script is a function, so that nothing in it reads the rest of it.
const mountsBegin = `main() {
set -eu
umask 022
units=/etc/systemd/system
changed=$units/hostctl-shares.changed # until systemd has heard of it, also from one that was cut off
new=$(mktemp -d /run/hostctl-shares.XXXXXX)
trap 'rm -rf "$new"' EXIT

# leave NAME unmounts. What is in use goes out of sight at once, and away with
# its last user; a server that is gone is not waited for.
leave() {
    where=$(systemctl show --value --property=Where "$1")
    status=0
    timeout 20 systemctl stop "$1" 2>/dev/null || status=$?
    case $status in
    0) ;;
    124) umount -f -l "$where" || true ;;
    *) umount -l "$where" || true ;;
    esac
}

# folder PATH USER
folder() {
    if [ -d "$1" ] || sudo -n -u "$2" mkdir -p "$1" 2>/dev/null; then
        return
    fi
    mkdir -p "$1"
    chown "$2:" "$1"
}

# start UNIT...
start() {
    if systemctl start "$@" 2>/dev/null; then
        return
    fi
    for unit in "$@"; do
        if ! systemctl is-active --quiet "$unit"; then
            printf '%s: ' "$unit" >&2
            journalctl --quiet --no-pager --lines=5 --output=cat --unit="$unit" >&2 || true
        fi
    done
    systemctl start --no-block ` + mountsService + `
    exit 1
}

`

const mountsChange = `
for old in "$units"/*.mount "$units"/` + mountsService + `; do
    name=${old##*/}
    if [ -f "$old" ] && [ ! -e "$new/$name" ] && head -n 1 "$old" | grep -q '^# A share of hostctl'; then
        : > "$changed"
        systemctl disable --quiet "$name" 2>/dev/null || true
        case $name in
        *.mount) leave "$name" ;;
        *) systemctl stop "$name" || true ;;
        esac
        rm -f "$old"
    fi
done
for unit in "$new"/*; do
    name=${unit##*/}
    if [ ! -e "$unit" ] || cmp -s "$unit" "$units/$name"; then
        continue
    fi
    : > "$changed"
    case $name in
    *.mount) if systemctl is-active --quiet "$name"; then leave "$name"; fi ;;
    esac
    install -m 0600 "$unit" "$units/$name"
done
if [ -e "$changed" ]; then
    # Each of these is slow in a guest under emulation.
    (cd "$new" && if [ -e ` + mountsService + ` ]; then systemctl enable --quiet --no-reload -- *; fi)
    systemctl daemon-reload
    rm -f "$changed"
fi
`

const mountsEnd = `}
main < /dev/null
`
