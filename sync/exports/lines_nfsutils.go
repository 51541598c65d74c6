package exports

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/google/uuid"
)

// linuxLines are the lines of exports(5) that export what r wants, with nothing
// left to defaults, which differ by version.
func linuxLines(r Request, o Owner) []string {
	var lines []string
	for _, e := range sorted(r.Exports) {
		words := []string{octal(e.Path)}
		for _, c := range e.Clients {
			words = append(words, address(c)+"("+strings.Join(linuxOptions(e, c, o), ",")+")")
		}
		lines = append(lines, strings.Join(words, " "))
	}
	return lines
}

// linuxOptions are how e is exported to c.
func linuxOptions(e Export, c netip.Prefix, o Owner) []string {
	access, port := "rw", "secure"
	if e.ReadOnly {
		access = "ro"
	}
	if c.Addr().IsLoopback() {
		// QEMU's user network comes from an ordinary process, on any port.
		port = "insecure"
	}
	return []string{
		access,
		"sync", // what a guest was told is on disk is on disk
		port,
		// A guest that makes up file handles stays in the folder. The price is an
		// error for files that are moved to another folder while they are open.
		"subtree_check",
		"all_squash", fmt.Sprintf("anonuid=%d", o.UID), fmt.Sprintf("anongid=%d", o.GID),
		// File systems without a UUID (tmpfs, overlayfs, btrfs's subvolumes) cannot
		// be exported without it; and handles outlive a reboot of this host.
		"fsid=" + fsid(e.Path),
	}
}

// fsidSpace is the name space of those UUIDs.
var fsidSpace = uuid.MustParse("4c2ed2b1-35c1-4a5e-8d6c-5f2c0f0f5a0e")

// fsid depends on the path alone: two projects that export one folder agree.
func fsid(path string) string { return uuid.NewSHA1(fsidSpace, []byte(path)).String() }

// address is how exportfs itself writes a client.
func address(c netip.Prefix) string {
	if c.IsSingleIP() {
		return c.Addr().String()
	}
	return c.String()
}

// octal writes a path so that exportfs reads it back. What is not plain is a
// backslash and three octal digits; quotes would be easier on the eye, but do not
// help with quotes.
func octal(path string) string {
	var b strings.Builder
	for _, c := range []byte(path) {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', strings.IndexByte("/._-+@:", c) >= 0, c >= '0' && c <= '9':
			b.WriteByte(c)
		default:
			fmt.Fprintf(&b, `\%03o`, c)
		}
	}
	return b.String()
}

// sorted is the same for the same exports, in whatever order they come.
func sorted(exports []Export) []Export {
	out := slices.Clone(exports)
	for i, e := range out {
		out[i].Clients = slices.Clone(e.Clients)
		slices.SortFunc(out[i].Clients, netip.Prefix.Compare)
		out[i].Clients = slices.Compact(out[i].Clients)
	}
	slices.SortFunc(out, func(a, b Export) int {
		return cmp.Or(strings.Compare(a.Path, b.Path), slices.CompareFunc(a.Clients, b.Clients, netip.Prefix.Compare))
	})
	return out
}
