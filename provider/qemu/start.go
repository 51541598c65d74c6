package qemu

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/hostctl/hostctl/internal/hint"
	"github.com/hostctl/hostctl/internal/run"
	"github.com/hostctl/hostctl/internal/usernet"
	"github.com/hostctl/hostctl/internal/wait"
	"github.com/hostctl/hostctl/network"
	"github.com/hostctl/hostctl/provider"
)

// launch starts QEMU and waits until it runs the guest. A QEMU that it cannot
// wait for it ends again.
func (p *Provider) launch(ctx context.Context, dir domainDir, d provider.Domain) error {
	socket, err := p.socket(qmpSocketName(d.ID))
	if err != nil {
		return err
	}
	if _, err := os.Stat(d.Disk.Base); err != nil {
		return &provider.FieldError{Field: "image", Err: err}
	}
	bin, err := p.program(emulator(d.Arch), d.Arch)
	if err != nil {
		return err
	}
	s := surroundings{socket: socket}
	if s.accel, _, err = choose(d.Accel, d.Arch, hardware()); err != nil {
		return err
	}
	if s.firmware, err = p.firmware(d); err != nil {
		return err
	}
	if err := rotateSerial(dir); err != nil {
		return err
	}
	var inherited []*os.File
	if s.plugs, inherited, err = p.plugAll(ctx, d); err != nil {
		return err
	}
	defer closeAll(inherited)
	log, err := os.OpenFile(dir.path(logFile), os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	// QEMU outlives ctx, and this process.
	cmd := exec.CommandContext(context.WithoutCancel(ctx), bin, args(d, s)...)
	cmd.Dir = string(dir)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = run.Detached()
	cmd.ExtraFiles = inherited
	p.cfg.Logger.InfoContext(ctx, "starting qemu", "domain", d.Name, "argv", cmd.Args)
	if err := cmd.Start(); err != nil {
		return err
	}
	closeAll(inherited) // so that they end with QEMU
	var exit error
	exited := make(chan struct{})
	go func() {
		exit = cmd.Wait() // also spares the host a zombie
		close(exited)
	}()

	err = awaitMonitor(ctx, s.socket, d.ID, func(ctx context.Context) error {
		select {
		case <-exited:
			return wait.Permanent(explain(ctx, dir, d, exit))
		default:
		}
		// A monitor that answers may be that of another QEMU, started at the
		// same moment by another hostctl. QEMU locks the pid file before it
		// listens, and the one that finds it locked ends.
		v, _, err := findByPIDFile(ctx, dir, d.ID)
		if err == nil && v.pid != cmd.Process.Pid {
			err = errors.New("qemu has not written its pid file")
		}
		return err
	})
	if _, ended := errors.AsType[*exitError](err); err == nil || ended {
		return err
	}
	if kerr := cmd.Process.Kill(); kerr != nil && !errors.Is(kerr, os.ErrProcessDone) {
		return errors.Join(err, kerr)
	}
	<-exited
	return err
}

// adopt waits for a QEMU that this call did not start; [errGone] says that it
// was just ending.
func (p *Provider) adopt(ctx context.Context, dir domainDir, d provider.Domain, v vm) error {
	p.cfg.Logger.InfoContext(ctx, "qemu runs already", "domain", d.Name, "pid", v.pid)
	err := awaitMonitor(ctx, v.socket(), d.ID, func(ctx context.Context) error {
		gone, err := v.gone(ctx, d.ID)
		if gone {
			return wait.Permanent(errGone)
		}
		return err
	})
	if _, silent := errors.AsType[*silentError](err); silent {
		return hint.Wrap(fmt.Errorf("process %d: %w", v.pid, err),
			"if it was stopped (kill -STOP), kill -CONT %[1]d has it go on; hostctl halt %[2]s ends it, by force if need be, and hostctl up %[2]s boots it again", v.pid, d.Name)
	}
	if err != nil {
		return err
	}
	if _, known, err := findByPIDFile(ctx, dir, d.ID); known || err != nil {
		return err
	}
	return dir.write(pidFile, []byte(strconv.Itoa(v.pid)+"\n"))
}

// awaitMonitor waits until QEMU's monitor says that the guest runs. A paused
// guest goes on: QEMU pauses one whose disk it cannot write because the host's
// is full. Each attempt asks ready first, whose permanent error says that QEMU
// has ended. *[silentError] says that the monitor did not answer in time.
func awaitMonitor(ctx context.Context, socket, id string, ready func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	silent := false
	began := time.Now()
	err := wait.Until(ctx, pollEvery, func(ctx context.Context) error {
		silent = false
		if err := ready(ctx); err != nil {
			return err
		}
		m, err := dialQMP(ctx, socket, id)
		if err != nil {
			silent = isTimeout(err)
			return err
		}
		defer m.conn.Close()
		var status struct {
			Running bool   `json:"running"`
			Status  string `json:"status"`
		}
		if err := m.execute(ctx, "query-status", &status); err != nil {
			silent = isTimeout(err)
			return err
		}
		if status.Status == "paused" || status.Status == "io-error" {
			if err := m.execute(ctx, "cont", nil); err != nil {
				return err
			}
		}
		if !status.Running {
			return fmt.Errorf("the guest is %s", status.Status)
		}
		return nil
	})
	if errors.Is(err, wait.ErrTimeout) && silent {
		return &silentError{time.Since(began), err}
	}
	if errors.Is(err, wait.ErrTimeout) {
		return fmt.Errorf("wait for QEMU's monitor: %w", err)
	}
	return err
}

func isTimeout(err error) bool {
	return errors.Is(err, context.DeadlineExceeded) || errors.Is(err, os.ErrDeadlineExceeded)
}

// rotateSerial keeps the output of the start before, and makes the new file
// before QEMU does, which would let others read it.
func rotateSerial(dir domainDir) error {
	info, err := os.Lstat(dir.path(serialFile))
	if err == nil && info.Size() > 0 { // a start that came to nothing has said nothing
		err = os.Rename(dir.path(serialFile), dir.path(serialOld))
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := os.OpenFile(dir.path(serialFile), os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	return f.Close()
}

// exitError is a QEMU that ended at once.
type exitError struct{ err error }

func (e *exitError) Error() string { return e.err.Error() }
func (e *exitError) Unwrap() error { return e.err }

var (
	// errLocked is a QEMU that found another one on its files.
	errLocked = errors.New("another process has the machine's disk open")
	// errGone is a QEMU that ended while it was being adopted.
	errGone = errors.New("qemu has ended")
)

// silentError is a QEMU that hangs, or was stopped. What the last attempt came to
// says nothing more.
type silentError struct {
	after time.Duration
	err   error
}

func (e *silentError) Error() string {
	return fmt.Sprintf("QEMU does not answer (waited %s)", e.after.Round(time.Second))
}
func (e *silentError) Unwrap() error { return e.err }

// explain turns the last words of a QEMU that ended into an error.
func explain(ctx context.Context, dir domainDir, d provider.Domain, exit error) error {
	log, err := os.ReadFile(dir.path(logFile))
	if err != nil {
		return &exitError{errors.Join(exit, err)}
	}
	f := parseFailure(string(log))
	switch {
	case f.rule != "":
		err = forwardError(ctx, d.Forwards, f)
	case f.locked:
		err = fmt.Errorf("%w: %s", errLocked, f.text)
	case f.memory:
		err = &provider.FieldError{Field: "memory", Err: fmt.Errorf("this host has no %d MiB to give: %s", d.Memory, f.text), Advice: "ask for less memory or stop other machines"}
	case f.accel:
		err = &provider.FieldError{Field: "accel", Err: errors.New(f.text), Advice: "leave accel out, or set accel = \"tcg\" to run under emulation"}
	case f.stream:
		err = hint.Wrap(errors.New("this QEMU cannot join machines to a private LAN"),
			"host-only networks need QEMU 7.2 or newer, or root")
	case f.helper:
		err = errors.New(f.text)
		for _, nic := range d.NICs {
			if nic.Interface != "" {
				err = &provider.FieldError{Field: "interface", Network: nic.Network, Err: err, Advice: helperAdvice(nil, nic.Interface)}
				break
			}
		}
	case f.text != "":
		err = hint.Wrap(fmt.Errorf("qemu ended: %s", f.text), "all it said is in %s", dir.path(logFile))
	default:
		err = fmt.Errorf("qemu ended without a word: %w", exit)
	}
	return &exitError{err}
}

// failure is what QEMU's output tells about its end.
type failure struct {
	text   string // QEMU's last words on one line, without its name
	rule   string // of a forward that could not be set up
	locked bool
	memory bool
	accel  bool
	stream bool // it does not know -netdev stream
	helper bool // qemu-bridge-helper refused
}

var (
	rulePattern    = regexp.MustCompile(`Could not set up host forwarding rule '([^']*)'`)
	lockedPattern  = regexp.MustCompile(`Failed to get (?:shared )?"[a-z]+" lock|[Cc]annot (?:create PID file|lock pid file)|Could not lock PID file`)
	memoryPattern  = regexp.MustCompile(`cannot set up guest memory`)
	accelPattern   = regexp.MustCompile(`Could not access KVM kernel module|failed to initialize (?:kvm|KVM|hvf|HVF|whpx|WHPX)|invalid accelerator|No accelerator found`)
	streamPattern  = regexp.MustCompile(`-netdev stream\S*: .*'type'`)
	helperPattern  = regexp.MustCompile(`bridge helper failed`)
	programPattern = regexp.MustCompile(`^\S*qemu-(?:system-\w+(?:\.exe)?|kvm): `)
	// optionPattern is the option that QEMU quotes before its complaint, in a
	// long form that says nothing to the user.
	optionPattern = regexp.MustCompile(`^-[a-z][a-z_-]* \S+: `)
)

// parseFailure reads the output of a QEMU that ended by itself.
func parseFailure(log string) failure {
	var words []string
	for line := range strings.Lines(log) {
		line = strings.TrimSpace(line)
		if line == "" || strings.Contains(line, ": warning: ") {
			continue
		}
		line = programPattern.ReplaceAllString(line, "")
		words = append(words, optionPattern.ReplaceAllString(line, ""))
	}
	// The last lines belong to the error that ended QEMU; two say it all.
	if len(words) > 2 {
		words = words[len(words)-2:]
	}
	f := failure{
		text:   strings.Join(words, "; "),
		locked: lockedPattern.MatchString(log),
		memory: memoryPattern.MatchString(log),
		accel:  accelPattern.MatchString(log),
		stream: streamPattern.MatchString(log),
		helper: helperPattern.MatchString(log),
	}
	if m := rulePattern.FindStringSubmatch(log); m != nil {
		f.rule = m[1]
	}
	return f
}

// forwardError finds out what kept QEMU from binding a host port, which it
// does not say itself.
func forwardError(ctx context.Context, forwards []network.Forward, f failure) error {
	for _, fw := range forwards {
		if usernet.Rule(fw) == f.rule {
			return usernet.Explain(ctx, fw, f.text)
		}
	}
	return errors.New(f.text)
}
