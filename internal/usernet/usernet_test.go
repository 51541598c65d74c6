package usernet

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/hostctl/hostctl/network"
)

// table is what QEMU 7.2.22 printed while a connection to port 24001 was
// waiting for the guest and a UDP flow of the guest's was open.
const table = `Hub -1 (net):
  Protocol[State]    FD  Source Address  Port   Dest. Address  Port RecvQ SendQ
  TCP[HOST_FORWARD]  20       127.0.0.1 24011       10.0.2.15    80     0     0
  TCP[SYN_SENT]      15       127.0.0.1 24001       10.0.2.15    22     0     0
  TCP[HOST_FORWARD]  11       127.0.0.1 24001       10.0.2.15    22     0     0
  TCP[HOST_FORWARD]   8               * 24003       10.0.2.15  2375     0     0
  UDP[236 sec]       23       10.0.2.15 48021        10.0.2.3    53     0     0
  UDP[HOST_FORWARD]   9       127.0.0.1 24002       10.0.2.15    53     0     0
`

func TestParse(t *testing.T) {
	t.Parallel()
	loopback := netip.MustParseAddr("127.0.0.1")
	for _, c := range []struct {
		name, out string
		want      []network.Forward
	}{
		{"forwards among connections", table, []network.Forward{
			{Protocol: "tcp", HostIP: loopback, HostPort: 24011, GuestPort: 80},
			{Protocol: "tcp", HostIP: loopback, HostPort: 24001, GuestPort: 22},
			{Protocol: "tcp", HostIP: netip.IPv4Unspecified(), HostPort: 24003, GuestPort: 2375},
			{Protocol: "udp", HostIP: loopback, HostPort: 24002, GuestPort: 53},
		}},
		{"no user network", "", nil},
		{"odd rows", "  TCP[HOST_FORWARD]  20  127.0.0.300 24011  10.0.2.15  80  0  0\n" +
			"  TCP[HOST_FORWARD]  20  127.0.0.1 99999  10.0.2.15  80  0  0\n" +
			"  TCP[HOST_FORWARD]  20  127.0.0.1\n", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			if diff := cmp.Diff(c.want, Parse(c.out), cmpopts.EquateComparable(netip.Addr{})); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

func FuzzParse(f *testing.F) {
	f.Add(table)
	f.Add("  TCP[HOST_FORWARD]  20  ::1 1  10.0.2.15  80  0  0\n")
	f.Fuzz(func(t *testing.T, out string) {
		for _, fw := range Parse(out) {
			if err := Validate(fw); err != nil {
				t.Errorf("%v: %v", fw, err)
			}
		}
	})
}
