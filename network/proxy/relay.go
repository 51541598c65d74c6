package proxy

import (
	"errors"
	"io"
	"net"
)

// relay copies src to dst until src ends.
func relay(dst, src net.Conn) error {
	from, err := newSource(src, false)
	if err != nil {
		return err
	}
	for {
		b, err := from.read()
		full := len(b) == largeBuffer
		if len(b) > 0 && err == nil {
			_, err = dst.Write(b)
		}
		from.release()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err == nil && full {
			err = spliceWhatIsThere(dst, src)
		}
		if err != nil {
			return err
		}
	}
}
