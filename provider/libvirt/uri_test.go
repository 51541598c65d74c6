package libvirt

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/hostctl/hostctl/internal/hint"
)

func TestParseURI(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		uri  string
		want target
	}{
		{"qemu:///system", target{via: viaUNIX, driver: "qemu:///system"}},
		{"qemu:///session", target{via: viaUNIX, driver: "qemu:///session", session: true}},
		{"qemu+unix:///system?socket=/tmp/lv", target{via: viaUNIX, driver: "qemu:///system", socket: "/tmp/lv"}},
		{"qemu://host/system", target{via: viaTLS, driver: "qemu:///system", host: "host"}},
		{"qemu+tls://host:1/system?pkipath=/pki", target{via: viaTLS, driver: "qemu:///system", host: "host", port: "1", pki: "/pki"}},
		{"qemu+tcp://[::1]:16509/system", target{via: viaTCP, driver: "qemu:///system", host: "::1", port: "16509"}},
		{"qemu+ssh://core@host:2222/system?keyfile=/k&known_hosts=/h",
			target{via: viaSSH, driver: "qemu:///system", host: "host", port: "2222", user: "core", keyFile: "/k", known: "/h"}},
		{"qemu+libssh2://host/session?known_hosts_verify=normal", target{via: viaSSH, driver: "qemu:///session", session: true, host: "host"}},
	} {
		got, err := parseURI(c.uri)
		if err != nil {
			t.Errorf("%s: %v", c.uri, err)
			continue
		}
		c.want.uri = c.uri
		if diff := cmp.Diff(c.want, got, cmp.AllowUnexported(target{})); diff != "" {
			t.Errorf("%s:\n%s", c.uri, diff)
		}
	}
	for uri, want := range map[string]string{
		"xen:///system":                               "hostctl runs guests on libvirt's qemu driver only",
		"qemu+ssh:///system":                          "no host",
		"qemu+carrier://host/system":                  `no way to reach libvirtd is called "carrier": unix, tcp, tls, ssh`,
		"qemu://system":                               "it ends in neither /system nor /session",
		"qemu:///embed":                               "it ends in neither /system nor /session",
		"qemu+tcp://host/session":                     "a session is reached through its socket or by SSH",
		"qemu+unix://host/system":                     "a socket has no host",
		"qemu:///system?colour=red":                   `parameter "colour" is not known`,
		"qemu+tls://h/system?no_verify=1":             "hostctl does not connect to hosts that it cannot verify (no_verify)",
		"qemu+ssh://h/system?known_hosts_verify=auto": "hostctl does not connect to hosts that it cannot verify (known_hosts_verify)",
		"qemu://%zz/system":                           `invalid URL escape "%zz"`,
	} {
		_, err := parseURI(uri)
		if err == nil || !strings.HasSuffix(err.Error(), want) || hint.Of(err) == "" {
			t.Errorf("%s: %v, want %s and a hint", uri, err, want)
		}
	}
}

func FuzzParseURI(f *testing.F) {
	for _, uri := range []string{"qemu:///system", "qemu+ssh://a@b:1/system?keyfile=x", "qemu+tcp://[::1]/system"} {
		f.Add(uri)
	}
	f.Fuzz(func(t *testing.T, uri string) {
		got, err := parseURI(uri)
		if err == nil && got.via != viaUNIX && got.host == "" {
			t.Errorf("%q: no host", uri)
		}
	})
}
