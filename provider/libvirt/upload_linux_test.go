package libvirt_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"testing"
	"time"

	rpc "github.com/digitalocean/go-libvirt"

	"github.com/hostctl/hostctl/internal/wait"
	"github.com/hostctl/hostctl/provider/libvirt"
)

// another uploads the image of a site, too.
type another struct {
	*site
	system *libvirt.System
	client *rpc.Libvirt
	volume rpc.StorageVol
	path   string // of the volume
	first  os.FileInfo
	feed   *io.PipeWriter
	over   chan error
}

func newAnother(t *testing.T) *another {
	s := newSite(t, "qemu:///system")
	s.ok(s.p.Create(t.Context(), s.d)) // makes the pool
	a := &another{site: s, system: s.p.(*libvirt.System), client: direct(t, s.where.socket), over: make(chan error, 1)}
	name, err := libvirt.SharedName(s.d.Disk.Base)
	s.ok(err)
	pool, err := a.client.StoragePoolLookupByName("hostctl")
	s.ok(err)
	a.volume, err = a.client.StorageVolCreateXML(pool, "<volume><name>"+name+"</name><capacity>0</capacity><target><format type='raw'/></target></volume>", 0)
	s.ok(err)
	a.path, err = a.client.StorageVolGetPath(a.volume)
	s.ok(err)
	var from *io.PipeReader
	from, a.feed = io.Pipe()
	go func() { a.over <- a.client.StorageVolUpload(a.volume, from, 0, 0, 0) }()
	t.Cleanup(func() {
		l := direct(t, s.where.socket)
		if v, err := l.StorageVolLookupByName(pool, name); err == nil {
			s.ok(l.StorageVolDelete(v, 0))
		}
	})
	a.first, err = os.Stat(a.path)
	s.ok(err)
	return a
}

// write uploads so much that the volume has that many bytes of the image.
func (a *another) write(image []byte, from, to int) {
	a.t.Helper()
	if _, err := a.feed.Write(image[from:to]); err != nil {
		a.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(a.t.Context(), time.Minute)
	defer cancel()
	a.ok(wait.Until(ctx, 10*time.Millisecond, func(context.Context) error {
		info, err := os.Stat(a.path)
		if err == nil && info.Size() != int64(to) {
			err = fmt.Errorf("%d bytes have arrived, want %d", info.Size(), to)
		}
		return err
	}))
}

// whole checks the copy, and reports whether it is the other's.
func (a *another) whole(image []byte) bool {
	a.t.Helper()
	got, err := os.ReadFile(a.path)
	a.ok(err)
	if !bytes.Equal(got, image) {
		a.t.Errorf("the copy has %d bytes, the image %d", len(got), len(image))
	}
	info, err := os.Stat(a.path)
	a.ok(err)
	return os.SameFile(info, a.first)
}

// Two projects that upload the same image to one pool do it once. Not parallel, as the
// pool is everybody's.
func TestUploadOfAnother(t *testing.T) {
	a := newAnother(t)
	image, err := os.ReadFile(a.d.Disk.Base)
	a.ok(err)
	const steps = 64
	a.write(image, 0, len(image)/steps)
	shared := make(chan error, 1)
	go func() { shared <- a.system.ShareFile(t.Context(), a.d.Disk.Base, time.Minute) }()
	for i := 1; i < steps; i++ {
		a.write(image, len(image)*i/steps, len(image)*(i+1)/steps)
	}
	a.ok(a.feed.Close())
	a.ok(<-a.over)
	a.ok(<-shared)
	if !a.whole(image) {
		t.Error("the other's upload was thrown away")
	}
}

// One that stands still, as that of a computer that sleeps does, is not waited for
// without end.
func TestStalledUploadOfAnother(t *testing.T) {
	a := newAnother(t)
	image, err := os.ReadFile(a.d.Disk.Base)
	a.ok(err)
	a.write(image, 0, 4096)
	a.ok(a.system.ShareFile(t.Context(), a.d.Disk.Base, 500*time.Millisecond))
	if a.whole(image) {
		t.Error("who uploads the rest?")
	}
	// The computer wakes up: what it has left to say is nobody's any more.
	if _, err := a.feed.Write(image[4096:]); err != nil {
		t.Fatal(err)
	}
	a.ok(a.feed.Close())
	<-a.over
	if a.whole(image) {
		t.Error("the other's upload is back")
	}
}
