package proxy

import (
	"errors"
	"io"
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// spliceFrom is how much must have come for splice(2) to be worth its system
// calls.
const spliceFrom = 16 << 10

// spliceWhatIsThere moves what src has received for as long as that is much.
// It does not wait for more: a connection that waits must not hold the pipe
// that [net.TCPConn.ReadFrom] splices through.
func spliceWhatIsThere(dst, src net.Conn) error {
	from, ok := src.(*net.TCPConn)
	if _, both := dst.(*net.TCPConn); !ok || !both {
		return nil
	}
	raw, err := from.SyscallConn()
	if err != nil {
		return err
	}
	for {
		n, failed := 0, error(nil)
		err := raw.Control(func(fd uintptr) { n, failed = unix.IoctlGetInt(int(fd), unix.SIOCINQ) })
		if err != nil || failed != nil || n < spliceFrom {
			return errors.Join(err, failed)
		}
		_, err = io.CopyN(dst, from, int64(n))
		if errors.Is(err, os.ErrDeadlineExceeded) {
			// The source's, which passed while dst took its time. What was
			// taken from the source has been written.
			return nil
		}
		if err != nil {
			return err
		}
	}
}
