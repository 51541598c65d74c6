package machinefile

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/hashicorp/hcl/v2"
)

// The options that the file may set: those of nfs(5) and mount(8), as the kernel
// of the guest reads them (fs/nfs/fs_context.c of Linux 6). What is not here, or
// has another value, would fail late, as "an incorrect mount option".
var (
	// flagOptions have no value.
	flagOptions = []string{
		"ac", "acl", "async", "atime", "cto", "dev", "diratime", "dirsync", "exec", "fsc", "hard", "iversion", "lazytime",
		"lock", "loud", "mand", "noac", "noacl", "noatime", "nocto", "nodev", "nodiratime", "noexec", "nofsc", "noiversion",
		"nolazytime", "nolock", "nomand", "nomigration", "noposix", "nordirplus", "norelatime", "noresvport",
		"nosharecache", "nostrictatime", "nosuid", "nosymfollow", "notrunkdiscovery", "posix", "rdirplus",
		"relatime", "resvport", "sharecache", "silent", "soft", "softerr", "softreval", "strictatime", "suid", "sync",
		"trunkdiscovery",
	}
	// numberOptions have a number between these.
	numberOptions = map[string][2]uint64{
		"acdirmax": {0, math.MaxUint32}, "acdirmin": {0, math.MaxUint32}, "acregmax": {0, math.MaxUint32},
		"acregmin": {0, math.MaxUint32}, "actimeo": {0, math.MaxUint32}, // seconds
		"bsize": {0, math.MaxUint32}, "rsize": {0, math.MaxUint32}, "wsize": {0, math.MaxUint32}, // bytes
		"max_connect": {1, 16}, "nconnect": {1, 16},
		"retrans": {0, math.MaxInt32}, "timeo": {1, math.MaxInt32}, // times; tenths of a second
	}
	// wordOptions have one of these words.
	wordOptions = map[string][]string{
		"local_lock":  {"all", "flock", "posix", "none"},
		"lookupcache": {"all", "positive", "pos", "none"},
		"write":       {"lazy", "eager", "wait"},
	}
	// textOptions have any value.
	textOptions = []string{"context", "defcontext", "fsc", "fscontext", "rootcontext"}
)

// knownMountOptions are all of these, and those that mountOption knows by itself.
func knownMountOptions() []string {
	return slices.Concat(flagOptions, slices.Collect(maps.Keys(numberOptions)), slices.Collect(maps.Keys(wordOptions)), textOptions,
		[]string{"tcp", "vers", "nfsvers", "sec"})
}

// decidedMountOptions are what hostctl itself decides, and why.
var decidedMountOptions = map[string]string{
	"addr":             "hostctl knows under which address the guest reaches this computer",
	"clientaddr":       "hostctl knows under which address the guest reaches this computer",
	"mountaddr":        "hostctl knows under which address the guest reaches this computer",
	"mounthost":        "hostctl knows under which address the guest reaches this computer",
	"port":             "hostctl chooses the server's port, and keeps it",
	"mountport":        "hostctl chooses the server's port, and keeps it",
	"mountprog":        "hostctl's server has the usual one",
	"mountvers":        "it follows from the version of NFS",
	"nfsprog":          "hostctl's server has the usual one",
	"namlen":           "the server says it",
	"bg":               "systemd mounts the share, and again when that failed",
	"fg":               "systemd mounts the share, and again when that failed",
	"nosoftreval":      "it is how shares are mounted anyway, and kernels do not know the word although nfs(5) has it",
	"source":           "it follows from host",
	"migration":        "hostctl's server goes nowhere",
	"xprtsec":          "hostctl's server has no TLS: what it says does not leave this computer",
	"sloppy":           "it would hide options that the guest's kernel does not take",
	"retry":            "systemd mounts the share, and again when that failed",
	"auto":             "systemd mounts the share at every start of the guest",
	"noauto":           "systemd mounts the share at every start of the guest",
	"_netdev":          "systemd mounts the share when the network is there",
	"nofail":           "the guest comes up without its shares, too",
	"user":             "root mounts the share",
	"users":            "root mounts the share",
	"nouser":           "root mounts the share",
	"owner":            "root mounts the share",
	"group":            "root mounts the share",
	"remount":          "hostctl up mounts a share anew when its options change",
	"defaults":         "it says nothing",
	"bind":             "a share is a mount of its own",
	"fsid":             "it is an option of exports, not of mounts",
	"no_subtree_check": "it is an option of exports, not of mounts",
	"subtree_check":    "it is an option of exports, not of mounts",
	"no_root_squash":   "it is an option of exports: in an embedded share, the guest's root is root",
	"root_squash":      "it is an option of exports, not of mounts",
	"all_squash":       "it is an option of exports, not of mounts",
	"anonuid":          "it is an option of exports: files of this computer belong to core",
	"anongid":          "it is an option of exports: files of this computer belong to core",
	"insecure":         "it is an option of exports, not of mounts",
}

// mountOptions reads the options of a mount: a list, in which one element may
// have several with commas, as mount(8) takes them.
func (a *arguments) mountOptions(share *Share) {
	var given []string
	a.texts("mount_options", `such as ["noatime", "actimeo=3"]`, &given)
	names := map[string]bool{}
	for i, element := range given {
		before := len(a.l.diags)
		for option := range strings.SplitSeq(element, ",") {
			if option = strings.TrimSpace(option); option != "" {
				a.addMountOption(share, option, names)
			}
		}
		// Lists can be long: what is wrong is one of it.
		if at, ok := a.elementRange("mount_options", i, len(given)); ok {
			for _, d := range a.l.diags[before:] {
				d.Subject = at.Ptr()
			}
		}
	}
	if names["hard"] && (names["soft"] || names["softerr"]) {
		a.fail("mount_options", "Options exclude each other", "mount_options has hard and soft; leave soft out, which loses what is being written when the server does not answer.")
	}
}

func (a *arguments) addMountOption(share *Share, option string, names map[string]bool) {
	name, value, _ := strings.Cut(option, "=")
	if names[name] && name != "context" {
		a.fail("mount_options", "Option given twice", "mount_options has %s twice; one is enough.", quote(name))
		return
	}
	names[name] = true
	if kept, ok := a.mountOption(share, option, name, value); ok {
		share.MountOptions = append(share.MountOptions, kept)
	}
}

// elementRange is where the i-th of n elements of a list is, when it is written
// out as one.
func (a *arguments) elementRange(name string, i, n int) (hcl.Range, bool) {
	attr, ok := a.attrs[name]
	if !ok {
		return hcl.Range{}, false
	}
	elements, diags := hcl.ExprList(attr.Expr)
	if diags.HasErrors() || len(elements) != n {
		return hcl.Range{}, false
	}
	return elements[i].Range(), true
}

// mountOption checks one option and returns what is to be mounted with, or
// false for nothing.
func (a *arguments) mountOption(share *Share, option, name, value string) (string, bool) {
	fail := func(summary, detail string, args ...any) (string, bool) {
		a.fail("mount_options", summary, detail, args...)
		return "", false
	}
	if strings.ContainsFunc(option, func(r rune) bool { return r <= ' ' || r == 0x7f || r == '"' || r == '\'' || r == '\\' || r == '%' }) {
		return fail("Invalid option", "%s is no mount option: one has neither spaces nor quotes, backslashes or %%.", quote(option))
	}
	if strings.HasPrefix(name, "x-") || strings.HasPrefix(name, "X-") || strings.HasPrefix(name, "comment") {
		return fail("Unexpected option", "%s is for /etc/fstab, and shares are mounted by units that hostctl writes. Leave it out.", quote(option))
	}
	if why, ok := decidedMountOptions[name]; ok {
		return fail("Option is hostctl's", "%s cannot be set: %s. Leave it out.", quote(option), why)
	}
	embedded := share.Server != SystemServer
	switch name {
	case "ro":
		return fail("Unexpected option", "Write readonly = true in the share instead of the option \"ro\": then the server takes no changes either.")
	case "rw":
		if share.ReadOnly {
			return fail("Options exclude each other", `The share has readonly = true and the mount option "rw". Leave one of them out.`)
		}
		return "", false
	case "tcp", "udp", "mountproto", "proto", "rdma":
		return a.transport(option, name, value)
	case "intr", "nointr":
		a.warnOption("Mount option replaced", "%s has meant nothing since Linux 2.6.25, and is left out. Take it out of the file.", quote(option))
		return "", false
	case "vers", "nfsvers", "v2", "v3", "v4", "v4.0", "v4.1", "v4.2", "minorversion":
		return a.version(embedded, option, name, value)
	case "lock":
		if embedded {
			return fail("No locks across machines", `The embedded server has no lock manager: with "nolock", the default, locks hold among the programs of one guest. Leave "lock" out, or use server = "system".`)
		}
	case "sec":
		if value != "sys" {
			return fail("Unexpected option", `hostctl's server knows "sec=sys" only: who can mount is decided by the path, which is a secret. Leave it out.`)
		}
		return option, true
	case "soft", "softerr":
		if !share.ReadOnly {
			a.warnOption("Option can lose data", "With %s, what a program writes while this computer does not answer can be lost, and the program may never learn of it: see nfs(5). Leave it out; shares wait until they are served again.", quote(option))
		}
	}
	if summary, detail := kernelOption(name, option); detail != "" {
		return fail(summary, "%s", detail)
	}
	return option, true
}

// kernelOption says what is wrong with an option that is the guest's kernel's to
// understand; "": nothing.
func kernelOption(name, option string) (summary, detail string) {
	_, value, given := strings.Cut(option, "=")
	numbers, numbered := numberOptions[name]
	words, worded := wordOptions[name]
	flag, text := slices.Contains(flagOptions, name), slices.Contains(textOptions, name)
	n, err := strconv.ParseUint(value, 10, 64)
	switch {
	case !numbered && !worded && !flag && !text:
		near := suggest(name, knownMountOptions())
		return "Unknown option", fmt.Sprintf("%s is no mount option of NFS.%s", quote(name), cmp.Or(near, " nfs(5) and mount(8) list them."))
	case flag && !given, text && value != "":
		return "", ""
	case flag && !text:
		detail = fmt.Sprintf("%s takes no value.%s", quote(name), didYouMean(quote(name)))
	case text:
		detail = fmt.Sprintf("%s takes a value, as in %s.", quote(name), quote(name+"=..."))
	case numbered && (err != nil || n < numbers[0] || n > numbers[1]):
		most := "on"
		if numbers[1] < math.MaxInt32 {
			most = fmt.Sprintf("to %d", numbers[1])
		}
		detail = fmt.Sprintf("%s takes a whole number from %d %s, not %s.", quote(name), numbers[0], most, quote(value))
	case worded && !slices.Contains(words, value):
		detail = fmt.Sprintf("%s takes %s, not %s.%s", quote(name), list(quoteAll(words), "or"), quote(value), suggest(value, words))
	}
	if detail == "" {
		return "", ""
	}
	return "Invalid option", detail
}

// transport reads which way NFS goes. Kernels since Linux 5.6 are built without
// NFS over UDP, and their mount fails with "an incorrect mount option".
func (a *arguments) transport(option, name, value string) (string, bool) {
	switch {
	case name == "udp" || value == "udp" || value == "udp6":
		a.warnOption("Mount option replaced", "%s is refused by today's kernels, which have NFS over TCP only (Linux 5.6 and later). The share is mounted with \"tcp\" instead; take the option out of the file.", quote(option))
	case name == "rdma" || name != "tcp" && value != "tcp":
		a.fail("mount_options", "Unexpected option", "%s cannot be set: shares are mounted over TCP. Leave it out.", quote(option))
	}
	return "", false // tcp it is, always
}

// version reads which version of NFS a share is mounted with.
func (a *arguments) version(embedded bool, option, name, value string) (string, bool) {
	if name[0] == 'v' && name != "vers" {
		value = name[1:]
	}
	switch {
	case name == "minorversion" && !embedded:
		a.fail("mount_options", "Unexpected option", `Write "vers=4.%s" instead of %s.`, value, quote(option))
	case value == "3":
		return "vers=3", true
	case value == "2":
		a.warnOption("Mount option replaced", "%s is refused by today's kernels, which have no NFS version 2. The share is mounted with version 3 instead; take the option out of the file.", quote(option))
		return "vers=3", true
	case embedded:
		a.fail("mount_options", "Another version of NFS", `The embedded server has NFS version 3 only, so %s cannot be. Leave it out, or use server = "system".`, quote(option))
	case slices.Contains([]string{"4", "4.0", "4.1", "4.2"}, value):
		return "vers=" + value, true
	default:
		a.fail("mount_options", "Another version of NFS", "%s is no version of NFS that guests have: those are 3, 4, 4.1 and 4.2.", quote(value))
	}
	return "", false
}

// warnOption says what was done about an option that cannot be as it stands.
func (a *arguments) warnOption(summary, detail string, args ...any) {
	a.fail("mount_options", summary, detail, args...)
	a.l.diags[len(a.l.diags)-1].Severity = hcl.DiagWarning
}
