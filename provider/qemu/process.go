package qemu

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/shirou/gopsutil/v4/process"

	"github.com/hostctl/hostctl/internal/wait"
)

// vm is a QEMU process.
type vm struct {
	pid  int
	argv []string
}

// find returns the QEMU that runs the domain with that id. The pid file knows
// it in all but rare cases (QEMU was started a moment ago by a hostctl that
// was killed; somebody removed the file); then all processes are searched.
func find(ctx context.Context, dir domainDir, id string) (vm, bool, error) {
	v, ok, err := findByPIDFile(ctx, dir, id)
	if ok || err != nil {
		return v, ok, err
	}
	return search(ctx, func(v vm, _ *process.Process) bool { return v.id() == id })
}

// findByPIDFile trusts the file's number only as far as that process's
// command line agrees.
func findByPIDFile(ctx context.Context, dir domainDir, id string) (vm, bool, error) {
	data, err := os.ReadFile(dir.path(pidFile))
	if errors.Is(err, fs.ErrNotExist) {
		return vm{}, false, nil
	}
	if err != nil {
		return vm{}, false, err
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(data)))
	if err != nil || pid <= 1 {
		return vm{}, false, nil // QEMU is just writing it, or it is damaged
	}
	v := inspect(ctx, pid)
	if v.id() == id {
		return v, true, nil
	}
	return v, false, ctx.Err() // a look that was cut short has seen nothing
}

// findByDir returns the QEMU that works in the directory.
func findByDir(ctx context.Context, dir domainDir) (vm, bool, error) {
	want, err := os.Stat(string(dir))
	if err != nil {
		return vm{}, false, err
	}
	return search(ctx, func(v vm, ps *process.Process) bool {
		if v.id() == "" {
			return false
		}
		cwd, err := ps.CwdWithContext(ctx)
		if err != nil {
			return false // not ours to look into
		}
		have, err := os.Stat(cwd)
		return err == nil && os.SameFile(have, want)
	})
}

func search(ctx context.Context, match func(vm, *process.Process) bool) (vm, bool, error) {
	pids, err := process.PidsWithContext(ctx)
	if err != nil {
		return vm{}, false, fmt.Errorf("list processes: %w", err)
	}
	for _, pid := range pids {
		if v := inspect(ctx, int(pid)); match(v, &process.Process{Pid: pid}) {
			return v, true, nil
		}
	}
	return vm{}, false, ctx.Err()
}

// inspect reads the command line of a process of this user's; it stays empty
// when the process is gone, a zombie, or another user's, who could give it any.
func inspect(ctx context.Context, pid int) vm {
	ps := process.Process{Pid: int32(pid)}
	argv, err := ps.CmdlineSliceWithContext(ctx)
	if err != nil || !isQEMU(argv) || !ours(ctx, &ps) {
		return vm{pid: pid}
	}
	return vm{pid: pid, argv: argv}
}

// id is the domain that the process runs, or "" when it is no QEMU of ours.
func (v vm) id() string {
	if !isQEMU(v.argv) {
		return ""
	}
	return v.option("-uuid")
}

func isQEMU(argv []string) bool {
	if len(argv) == 0 {
		return false
	}
	name := filepath.Base(argv[0])
	return strings.HasPrefix(name, "qemu-system-") || name == filepath.Base(redHatQEMU)
}

// accel is what the guest runs on.
func (v vm) accel() string {
	name, _, _ := strings.Cut(v.option("-accel"), ",")
	return name
}

// socket is where its monitor listens, wherever that was when it started.
func (v vm) socket() string { return suboption(v.option("-chardev"), "path") }

// suboption returns a value of QEMU's option syntax.
func suboption(option, name string) string {
	for o := range strings.SplitSeq(strings.ReplaceAll(option, ",,", "\x00"), ",") {
		if value, ok := strings.CutPrefix(o, name+"="); ok {
			return strings.ReplaceAll(value, "\x00", ",")
		}
	}
	return ""
}

// option returns the value of the first such option.
func (v vm) option(name string) string {
	if values := v.options(name); len(values) > 0 {
		return values[0]
	}
	return ""
}

// options returns the values of all such options.
func (v vm) options(name string) []string {
	var values []string
	for i, arg := range v.argv[:max(len(v.argv)-1, 0)] {
		if arg == name {
			values = append(values, v.argv[i+1])
		}
	}
	return values
}

// gone reports whether the process has ended.
func (v vm) gone(ctx context.Context, id string) (bool, error) {
	gone := inspect(ctx, v.pid).id() != id
	if err := ctx.Err(); err != nil { // a look that was cut short has seen nothing
		return false, context.Cause(ctx)
	}
	return gone, nil
}

func (v vm) awaitGone(ctx context.Context, id string, timeout time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	err := wait.Until(ctx, pollEvery, func(ctx context.Context) error {
		gone, err := v.gone(ctx, id)
		if err == nil && !gone {
			err = errStillRunning
		}
		return err
	})
	if errors.Is(err, wait.ErrTimeout) {
		return fmt.Errorf("qemu (pid %d) does not end: %w", v.pid, err)
	}
	return err
}

// signal takes hold of the process before it looks whether it is the right one
// (a pidfd on Linux, a handle on Windows), so that the number cannot change
// hands in between.
func (v vm) signal(ctx context.Context, id string, sig os.Signal) error {
	ps, err := os.FindProcess(v.pid)
	if err != nil {
		return err
	}
	if inspect(ctx, v.pid).id() == id {
		err = ps.Signal(sig)
	}
	if errors.Is(err, os.ErrProcessDone) {
		err = nil
	}
	if err := errors.Join(err, ps.Release()); err != nil {
		return fmt.Errorf("signal qemu (pid %d): %w", v.pid, err)
	}
	return nil
}

// command runs one QMP command on the process's monitor.
func (v vm) command(ctx context.Context, id, name string) error {
	ctx, cancel := context.WithTimeout(ctx, qmpTimeout)
	defer cancel()
	m, err := dialQMP(ctx, v.socket(), id)
	if err != nil {
		return err
	}
	defer m.conn.Close()
	return m.execute(ctx, name, nil)
}
