package libvirt

import (
	"bytes"
	"context"
	"fmt"
	"io"

	rpc "github.com/digitalocean/go-libvirt"
)

// console reads a serial log, which only libvirt may read, and which may be on
// another host.
type console struct {
	ctx    context.Context //nolint:containedctx // of the reader's life
	pool   pool
	volume string
	offset uint64
	ahead  bytes.Buffer
}

// fetchAtOnce bounds what is held of a log: how long it is, the guest decides.
const fetchAtOnce = 1 << 20

// Read returns io.EOF where the log ends now.
func (c *console) Read(p []byte) (int, error) {
	if c.ahead.Len() == 0 {
		if err := c.fetch(); err != nil {
			return 0, err
		}
	}
	return c.ahead.Read(p)
}

func (c *console) fetch() error {
	v, err := c.pool.seek(c.ctx, c.volume)
	if err != nil {
		return err
	}
	if !v.exists() { // never started
		return nil
	}
	data, err := call(c.ctx, c.pool.driver.conn, func(l *rpc.Libvirt) ([]byte, error) {
		var out bytes.Buffer
		err := l.StorageVolDownload(v.StorageVol, &out, c.offset, fetchAtOnce, 0)
		return out.Bytes(), err
	})
	if err != nil {
		return fmt.Errorf("read the serial log: %w", err)
	}
	c.offset += uint64(len(data))
	c.ahead.Write(data)
	return nil
}

func (c *console) Close() error { return nil }

var _ io.ReadCloser = (*console)(nil)
