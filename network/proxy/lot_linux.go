package proxy

import (
	"errors"
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// lot is where directions wait on which nothing has come for a while. Those
// have no goroutine, which is half of what an idle connection would take. A lot
// is an epoll(7) instance, on which one goroutine waits as it would on any file.
type lot struct {
	tasks *sync.WaitGroup
	file  *os.File
	raw   syscall.RawConn

	mu      sync.Mutex
	waiting map[int]*direction // by the file descriptor of the source
}

func newLot(tasks *sync.WaitGroup) (*lot, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("epoll_create1", err)
	}
	// The runtime's poller takes files that do not block.
	if err := unix.SetNonblock(fd, true); err != nil {
		_ = unix.Close(fd) // the other error says why
		return nil, os.NewSyscallError("fcntl", err)
	}
	l := &lot{tasks: tasks, file: os.NewFile(uintptr(fd), "epoll"), waiting: make(map[int]*direction)}
	l.raw, err = l.file.SyscallConn()
	if err != nil {
		l.file.Close()
		return nil, err
	}
	return l, nil
}

// watch lets directions go on when something has come, until the lot is
// closed.
func (l *lot) watch() {
	events := make([]unix.EpollEvent, 128)
	for {
		n, failed := 0, error(nil)
		err := l.raw.Read(func(fd uintptr) bool {
			n, failed = unix.EpollWait(int(fd), events, 0)
			return n > 0 || failed != nil && !errors.Is(failed, unix.EINTR)
		})
		if err != nil || failed != nil {
			return
		}
		for _, e := range events[:n] {
			l.goOn(int(e.Fd))
		}
	}
}

// goOn starts the direction that waits on fd. One that was woken otherwise is
// not there any more; should another have its fd by now, it waits anew.
func (l *lot) goOn(fd int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if d, ok := l.waiting[fd]; ok {
		l.remove(fd)
		l.tasks.Go(d.carry)
	}
}

// takes reports whether a direction from s can wait here: that of a socket.
func (l *lot) takes(s source) bool {
	_, ok := s.(*socketSource)
	return ok
}

// park reports whether d, which the lot takes, waits here now; its goroutine
// then ends. It does not when its pair has broken off.
func (l *lot) park(d *direction) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if d.pair.broken {
		return false
	}
	var failed error
	err := d.from.(*socketSource).raw.Control(func(fd uintptr) {
		d.parkedAt = int(fd)
		// What has come meanwhile is an event at once.
		failed = l.control(unix.EPOLL_CTL_ADD, d.parkedAt, unix.EPOLLIN|unix.EPOLLRDHUP)
	})
	if err != nil || failed != nil {
		return false
	}
	l.waiting[d.parkedAt] = d
	return true
}

// wake lets the directions of a pair go on that is about to be closed, and
// none of it wait here again: a socket that is closed gives no event.
func (l *lot) wake(p *pair) {
	l.mu.Lock()
	defer l.mu.Unlock()
	p.broken = true
	for i := range p.directions {
		d := &p.directions[i]
		if l.waiting[d.parkedAt] == d {
			l.remove(d.parkedAt)
			l.tasks.Go(d.carry)
		}
	}
}

func (l *lot) remove(fd int) {
	delete(l.waiting, fd)
	// It fails for a socket that was closed, which is nowhere by that.
	_ = l.control(unix.EPOLL_CTL_DEL, fd, 0)
}

func (l *lot) control(op, fd int, events uint32) error {
	var failed error
	err := l.raw.Control(func(epoll uintptr) {
		failed = unix.EpollCtl(int(epoll), op, fd, &unix.EpollEvent{Events: events, Fd: int32(fd)})
	})
	return errors.Join(err, failed)
}

func (l *lot) close() { l.file.Close() }
