package machinefile

import (
	"maps"
	"net/url"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
)

// libvirtSchemes are the ways to a libvirtd that runs QEMU guests, and whether
// its host is named. https://libvirt.org/uri.html
var libvirtSchemes = map[string]bool{
	"qemu":      false,
	"qemu+unix": false,
	"qemu+tcp":  true,
	"qemu+tls":  true,
	"qemu+ssh":  true,
}

var libvirtPaths = []string{"/system", "/session"}

// decodeProviders reads the provider blocks: libvirt's is the only one.
func (l *loader) decodeProviders(blocks hcl.Blocks, s *scope) Libvirt {
	var libvirt Libvirt
	for _, block := range blocks {
		switch name := block.Labels[0]; {
		case name == LibvirtProvider && libvirt.Range != (hcl.Range{}):
			l.errorf(block.DefRange, "Duplicate provider", "The provider %s already has a block on line %d.", quote(name), libvirt.Range.Start.Line)
		case name == LibvirtProvider:
			libvirt = l.decodeLibvirt(block, s)
		case laterProviders[name] != "":
			l.notSupportedYet(block.DefRange, laterProviders[name])
		case slices.Contains(providers, name):
			l.errorf(block.DefRange, "Unexpected block", "The provider %s has nothing to set; only %s has a block.", quote(name), quote(LibvirtProvider))
		default:
			l.errorf(block.LabelRanges[0], "Unknown provider", "%s is no provider with a block, which only %s has.%s", quote(name), quote(LibvirtProvider),
				suggest(name, slices.AppendSeq(slices.Clone(providers), maps.Keys(laterProviders))))
		}
	}
	return libvirt
}

func (l *loader) decodeLibvirt(block *hcl.Block, s *scope) Libvirt {
	content, diags := block.Body.Content(libvirtSchema)
	l.diags = append(l.diags, diags...)
	a := &arguments{l: l, scope: s, attrs: content.Attributes, header: block.DefRange}
	libvirt := Libvirt{Range: block.DefRange, ranges: a.ranges()}
	a.libvirtURI(&libvirt.URI)
	if a.word("pool", &libvirt.Pool) && strings.ContainsAny(libvirt.Pool, "/\n") {
		a.fail("pool", "Invalid name", "pool must be the name of a storage pool such as \"default\", not a path: virsh pool-list --all shows them.")
	}
	return libvirt
}

// libvirtURI checks what libvirt itself would refuse late or take for another
// hypervisor.
func (a *arguments) libvirtURI(to *string) {
	if !a.word("uri", to) {
		return
	}
	text := *to
	u, err := url.Parse(text)
	if err != nil {
		a.fail("uri", "Invalid URI", "uri must be as libvirt writes it, for instance \"qemu:///system\": %s.", strings.TrimSuffix(err.Error(), "."))
		return
	}
	named, known := libvirtSchemes[u.Scheme]
	shape := ` It must be such as "qemu:///system", "qemu:///session" or "qemu+ssh://user@host/system".`
	switch {
	case !known:
		hint := ""
		if near := "/" + strings.TrimLeft(text, "/"); slices.Contains(libvirtPaths, near) {
			hint = didYouMean(quote("qemu://" + near))
		} else if u.Scheme != "" {
			hint = suggest(u.Scheme, slices.Collect(maps.Keys(libvirtSchemes)))
		}
		a.fail("uri", "Invalid URI", "%s leads to no libvirtd that runs QEMU guests: uri must start with %s, and ://.%s", quote(text), list(slices.Sorted(maps.Keys(libvirtSchemes)), "or"), hint)
	case !strings.HasPrefix(text, u.Scheme+"://"):
		a.fail("uri", "Invalid URI", "%s has no :// after its scheme.%s", quote(text), shape)
	case !named && slices.Contains(libvirtPaths, "/"+u.Host) && u.Path == "":
		a.fail("uri", "Invalid URI", "%s names a host called %s and no /system or /session.%s", quote(text), quote(u.Host), didYouMean(quote(u.Scheme+":///"+u.Host)))
	case !slices.Contains(libvirtPaths, u.Path):
		a.fail("uri", "Invalid URI", "The path in %s must be /system, or /session for a libvirtd of your own.%s", quote(text), shape)
	case named && u.Host == "":
		a.fail("uri", "Invalid URI", "%s names no host: %s://HOST%s.", quote(text), u.Scheme, u.Path)
	case u.Path == "/session" && (u.Scheme == "qemu+tcp" || u.Scheme == "qemu+tls"):
		a.fail("uri", "Invalid URI", "A session is reached through its socket or by SSH, not by %s: use %s.", u.Scheme, quote("qemu+ssh://"+u.Host+u.Path))
	case !named && u.Host != "":
		a.fail("uri", "Invalid URI", "%s reaches only this computer, and %s names a host: say how to reach it, as in %s.", u.Scheme, quote(text), quote("qemu+ssh://"+u.Host+u.Path))
	}
}
