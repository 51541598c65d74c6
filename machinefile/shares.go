package machinefile

import (
	"cmp"
	"fmt"
	"maps"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/mitchellh/go-homedir"
	"github.com/zclconf/go-cty/cty"
)

var (
	shareTypes     = []string{string(NFS), string(SFTP)}
	shareTypeAlias = map[string]string{
		"rsync": "sftp", "scp": "sftp", "mirror": "sftp", "copy": "sftp", "sync": "sftp",
		"nfs3": "nfs", "nfsv3": "nfs", "nfs4": "nfs", "nfsv4": "nfs", "virtiofs": "nfs", "9p": "nfs", "9pfs": "nfs", "virtio-9p": "nfs",
		"smb": "nfs", "cifs": "nfs", "sshfs": "nfs", "reverse-sshfs": "nfs", "vboxsf": "nfs", "virtualbox": "nfs", "bind": "nfs", "mount": "nfs",
	}
	shareServers   = []string{string(EmbeddedServer), string(SystemServer)}
	serverAlias    = map[string]string{"kernel": "system", "host": "system", "agent": "embedded", "user": "embedded"}
	directions     = []string{string(Push), string(Both)}
	directionAlias = map[string]string{"host": "push", "one-way": "push", "oneway": "push", "two-way": "both", "twoway": "both", "bidirectional": "both", "pull": "both"}
)

// What other programs call the arguments of shares: Vagrant, Lima, Compose, Podman
// and mount(8). HCL by itself suggests what differs in a letter or two.
var (
	shareAlias = map[string]string{
		"source": "host", "src": "host", "location": "host", "host_path": "host", "hostpath": "host", "hostPath": "host", "path": "host", "folder": "host",
		"target": "guest", "destination": "guest", "dest": "guest", "dst": "guest", "mount_point": "guest", "mountpoint": "guest", "mountPoint": "guest",
		"guest_path": "guest", "guestpath": "guest", "guestPath": "guest", "container": "guest",
		"ro": "readonly", "read-only": "readonly", "driver": "type", "fstype": "type", "mount_type": "type", "mountType": "type",
		"options": "mount_options", "opts": "mount_options", "o": "mount_options", "exclude": "ignore", "excludes": "ignore", "rsync__exclude": "ignore",
		"mkdir": "create", "create_host_path": "create", "inotify": "events", "mountInotify": "events", "watch": "events",
	}
	shareAdvice = map[string]string{
		"writable": "Guests can change what is shared with them, unless readonly = true.",
		"owner":    "In the guest, files of this computer are core's, and owners that are set there are kept.",
		"group":    "In the guest, files of this computer are core's, and groups that are set there are kept.",
		"uid":      "In the guest, files of this computer are core's, and owners that are set there are kept.",
		"gid":      "In the guest, files of this computer are core's, and groups that are set there are kept.",
		"disabled": "Take the block out of the file instead.",
	}
)

// Bounds of shares.
const (
	maxShareName = 63
	// maxGuestPath keeps the name of the mount's systemd unit, in which a byte
	// may take four, within what file systems allow.
	maxGuestPath = 240
)

// neverMounted are folders of the guest that it does not come up, or cannot be
// logged in to, without. What is in those of the second kind can be mounted.
var (
	neverMounted = []string{"/bin", "/boot", "/dev", "/etc", "/lib", "/lib64", "/proc", "/run", "/sbin", "/sys", "/usr", "/var/lib/docker", "/var/lib/containerd"}
	neverCovered = []string{"/", "/home", "/home/core", "/home/core/.ssh", "/opt", "/root", "/root/.ssh", "/srv", "/tmp", "/var", "/var/lib", "/var/log", "/var/tmp", "/mnt", "/media"}
)

// decodeCommonShares reads the shares of all machines.
func (l *loader) decodeCommonShares(blocks hcl.Blocks, s *scope) {
	labelled := make([]labelledBlock, 0, len(blocks))
	for _, block := range blocks {
		labelled = append(labelled, l.parseShare(block))
	}
	l.shares = l.decodeShares(labelled, s)
	l.checkGuestPaths(l.shares)
}

// parseShare takes an argument by another program's name for the one that it is,
// so that this is the only mistake reported of it.
func (l *loader) parseShare(block *hcl.Block) labelledBlock {
	names := slices.Concat(slices.Collect(maps.Keys(shareAlias)), slices.Collect(maps.Keys(shareAdvice)))
	content, rest, diags := block.Body.PartialContent(&hcl.BodySchema{Attributes: attributes(names...)})
	l.diags = append(l.diags, diags...)
	known := *block
	known.Body = rest
	parsed := l.parseLabelled(&known, shareSchema)
	for _, name := range slices.Sorted(maps.Keys(content.Attributes)) {
		attr, right := content.Attributes[name], shareAlias[name]
		advice := didYouMean(quoteNonEmpty(right))
		if right == "" {
			advice = " " + shareAdvice[name]
		}
		l.errorf(attr.NameRange, "Unsupported argument", "An argument named %s is not expected here.%s", quote(name), advice)
		if _, set := parsed.attrs[right]; right != "" && !set {
			parsed.attrs[right] = attr
		}
	}
	return parsed
}

// decodeShares reads share blocks in file order.
func (l *loader) decodeShares(blocks []labelledBlock, s *scope) []Share {
	reported := map[mistake]bool{}
	names := make(map[string]hcl.Range, len(blocks))
	var shares []Share
	for _, block := range blocks {
		if first, ok := names[block.label]; ok {
			l.errorf(block.labelRange, "Duplicate share", "The share %s is already declared on line %d.", quote(block.label), first.Start.Line)
			continue
		}
		names[block.label] = block.header
		before := len(l.diags)
		shares = append(shares, l.decodeShare(block, s))
		l.diags = append(l.diags[:before], onlyNew(l.diags[before:], reported)...)
	}
	return shares
}

// withCommonShares puts the shares of all machines before own, which replace
// those of their names.
func (l *loader) withCommonShares(own []Share) []Share {
	named := func(name string) func(Share) bool { return func(s Share) bool { return s.Name == name } }
	var shares []Share
	for _, s := range l.shares {
		if i := slices.IndexFunc(own, named(s.Name)); i >= 0 {
			s = own[i]
		}
		shares = append(shares, s)
	}
	for _, s := range own {
		if !slices.ContainsFunc(l.shares, named(s.Name)) {
			shares = append(shares, s)
		}
	}
	if len(own) > 0 { // else they have been looked at
		l.checkGuestPaths(shares)
	}
	return shares
}

// checkGuestPaths refuses two shares of which one would hide the other.
func (l *loader) checkGuestPaths(shares []Share) {
	for i, s := range shares {
		for _, other := range shares[:i] {
			if s.Guest == "" || other.Guest == "" {
				continue
			}
			at, over := s, other
			if s.Range.Start.Line < other.Range.Start.Line { // one of a machine's own replaced that of all
				at, over = other, s
			}
			subject := at.RangeOf("guest")
			switch {
			case s.Guest == other.Guest:
				l.errorf(subject, "Guest folder used twice", "%s is already the folder of the share %s (line %d). Give each share a folder of its own.", at.Guest, quote(over.Name), over.Range.Start.Line)
			case within(s.Guest, other.Guest) || within(other.Guest, s.Guest):
				l.errorf(subject, "Shares inside each other", "%s and %s, the folder of the share %s (line %d), are inside each other: one would hide what is in the other. Give each share a folder of its own.", at.Guest, over.Guest, quote(over.Name), over.Range.Start.Line)
			}
		}
	}
}

// within reports whether the clean path inner lies under the clean path outer.
func within(inner, outer string) bool {
	return strings.HasPrefix(inner, strings.TrimSuffix(outer, "/")+"/")
}

func (l *loader) decodeShare(block labelledBlock, s *scope) Share {
	a := &arguments{l: l, scope: s, attrs: block.attrs, header: block.header}
	share := Share{Name: block.label, Type: NFS, Range: block.header, ranges: a.ranges()}
	switch {
	case !hclsyntax.ValidIdentifier(share.Name) || !networkName.MatchString(share.Name):
		l.errorf(block.labelRange, "Invalid name", "The name of a share must start with a letter and have only the letters a to z, digits, - and _.")
	case len(share.Name) > maxShareName:
		l.errorf(block.labelRange, "Invalid name", "The name of a share must have at most %d characters, not %d.", maxShareName, len(share.Name))
	}
	a.require("host", `the folder on this computer, as in "~/code" or "./src"`)
	a.require("guest", `the folder in the guest, as in "/home/core/share"`)
	var kind string
	a.oneOf("type", shareTypes, shareTypeAlias, &kind)
	a.hostFolder(l.dir, &share.Host)
	a.guestFolder(&share.Guest)
	a.flag("create", &share.Create)
	a.texts("ignore", "lines of a .gitignore file", &share.Ignore)
	switch {
	case kind == "" && a.set("type"): // of a wrong type nothing follows
	case kind == string(SFTP):
		share.Type = SFTP
		a.sftpShare(&share)
	default:
		a.nfsShare(&share)
	}
	return share
}

func (a *arguments) nfsShare(share *Share) {
	a.notFor("direction", `direction is for shares of type "sftp": a mounted folder is one and the same on both sides.`)
	server := string(EmbeddedServer)
	a.oneOf("server", shareServers, serverAlias, &server)
	share.Server = ShareServer(server)
	a.flag("readonly", &share.ReadOnly)
	share.Events = true
	a.flag("events", &share.Events)
	if !share.Events && a.set("ignore") {
		a.fail("ignore", "Unexpected argument", "ignore says which changes are not told to the guest, and with events = false none are: leave one of them out.")
	}
	a.mountOptions(share)
	// By their paths alone: to follow links, a disk that hangs would be waited for.
	if share.Host != "" && holds(share.Host, filepath.Join(a.l.dir, stateDir)) {
		a.fail("host", "The project's keys are in this folder", `It has hostctl's own folder %s, with the keys of this project's machines, and guests and their containers can read them. Share a folder of its own, as in "./src".`, stateDir)
		a.l.diags[len(a.l.diags)-1].Severity = hcl.DiagWarning
	}
}

// stateDir is where hostctl keeps what it knows of a project, beside the machine file.
const stateDir = ".hostctl"

// holds reports whether a folder of this computer is the other one, or around it.
func holds(folder, other string) bool {
	rest, err := filepath.Rel(folder, other)
	return err == nil && filepath.IsLocal(rest)
}

func (a *arguments) sftpShare(share *Share) {
	a.notFor("server", `server is for shares of type "nfs": sftp needs none.`)
	a.notFor("mount_options", `mount_options are for shares of type "nfs": with sftp, nothing is mounted.`)
	a.notFor("events", `events is for shares of type "nfs": files that sftp changes are the guest's own, and its watchers see it.`)
	a.notFor("readonly", `readonly is for shares of type "nfs": sftp never changes this computer's files unless direction is "both".`)
	direction := string(Push)
	a.oneOf("direction", directions, directionAlias, &direction)
	share.Direction = Direction(direction)
}

// hostFolder reads a folder of this computer.
func (a *arguments) hostFolder(dir string, to *string) {
	var text string
	if !a.text("host", &text) {
		return
	}
	if text == "" || strings.ContainsAny(text, "\x00\n\r") {
		a.fail("host", "Invalid path", `host must be a folder of this computer, as in "~/code" or "./src".`)
		return
	}
	if name, below, _ := strings.Cut(text, "/"); strings.HasPrefix(name, "$") {
		a.fail("host", "Invalid path", "%s is not expanded: write %s. A folder of that very name is %s.", name, expanded(strings.Trim(name, "${}"), below), quote("./"+text))
		return
	}
	folder, err := homedir.Expand(text)
	if err != nil {
		a.fail("host", "Invalid path", "Only ~/ stands for a home folder: %s.", err)
		return
	}
	if !filepath.IsAbs(folder) {
		folder = filepath.Join(dir, folder)
	}
	*to = filepath.Clean(folder)
}

// expanded is what a path below a folder is written as that a variable of the
// environment names.
func expanded(variable, below string) string {
	switch variable {
	case "HOME":
		return `"~/` + below + `"`
	case "PWD":
		return `"./` + below + `", which begins in the machine file's folder`
	}
	return `"${env("` + variable + `")}/` + below + `"`
}

// absolute is the folder of the guest that was probably meant by a relative one.
func absolute(text string) string {
	rooted := path.Join("/", text)
	if text == "" {
		rooted = "/share"
	}
	for _, root := range []string{"/home/core", "/mnt", "/media", "/opt", "/srv", "/tmp", "/var"} {
		switch {
		case rooted == root:
			return path.Join(rooted, "share")
		case within(rooted, root):
			return rooted
		}
	}
	return path.Join("/home/core", rooted)
}

// guestFolder reads a folder of the guest, which becomes a part of systemd
// units.
func (a *arguments) guestFolder(to *string) {
	var text string
	if !a.text("guest", &text) {
		return
	}
	clean := path.Clean(text)
	switch {
	case text == "~" || strings.HasPrefix(text, "~/"):
		a.fail("guest", "Invalid path", "guest must be an absolute path: ~ would be root's folder, for root mounts it.%s", didYouMean(quote(path.Join("/home/core", cmp.Or(text[1:], "share")))))
		return
	case !path.IsAbs(text):
		a.fail("guest", "Invalid path", "guest must be an absolute path in the guest.%s", didYouMean(quote(absolute(text))))
		return
	case slices.Contains(strings.Split(text, "/"), ".."):
		a.fail("guest", "Invalid path", "guest must have no .. in it.%s", didYouMean(quote(clean)))
		return
	case strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r == 0x7f || r == '\\' || r == '\uFFFD' }) || strings.HasSuffix(clean, " "):
		a.fail("guest", "Invalid path", "guest must have neither backslashes nor control characters, nor end with a space: systemd's units do not take them.")
		return
	case len(escaped(clean)) > maxGuestPath:
		a.fail("guest", "Invalid path", "%s is too long: systemd's name for it would have %d characters, and can have %d.", quote(text), len(escaped(clean)), maxGuestPath)
		return
	}
	for _, never := range neverMounted {
		if clean == never || within(clean, never) {
			a.fail("guest", "Folder belongs to the guest", "%s is the guest's own: it would not come up with a share there. Use another folder, such as %s.", clean, quote("/home/core/"+path.Base(clean)))
			return
		}
	}
	for _, never := range neverCovered {
		if clean == never {
			a.fail("guest", "Folder belongs to the guest", "A share at %s would hide what the guest keeps there. Use a folder in it, such as %s.", clean, quote(path.Join(clean, "share")))
			return
		}
	}
	*to = clean
}

// escaped is about how systemd writes a path in the name of a unit.
func escaped(p string) string {
	var b strings.Builder
	for i := range len(p) {
		switch c := p[i]; {
		case c == '/', c == '_', c == '.', c == ':', '0' <= c && c <= '9', 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z':
			b.WriteByte(c)
		default:
			fmt.Fprintf(&b, `\x%02x`, c)
		}
	}
	return b.String()
}

// texts reads a list of texts, or one text.
func (a *arguments) texts(name, what string, to *[]string) {
	v, ok := a.get(name, cty.DynamicPseudoType)
	if !ok {
		return
	}
	ty := v.Type()
	if ty == cty.String {
		v, ty = cty.TupleVal([]cty.Value{v}), cty.Tuple([]cty.Type{ty})
	}
	wrong := func() {
		a.fail(name, "Wrong type of value", "%s must be a list of texts, %s; not %s.", name, what, describe(v))
	}
	if !ty.IsListType() && !ty.IsTupleType() && !ty.IsSetType() {
		wrong()
		return
	}
	for it := v.ElementIterator(); it.Next(); {
		_, text := it.Element()
		if text.IsNull() || text.Type() != cty.String {
			wrong()
			return
		}
		*to = append(*to, text.AsString())
	}
}
