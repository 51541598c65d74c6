package libvirt

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/hostctl/hostctl/internal/hint"
	"github.com/hostctl/hostctl/internal/run"
	"github.com/hostctl/hostctl/internal/wait"
)

// sessionTimeout bounds the start of a session's daemon; its first looks at every
// QEMU there is.
const sessionTimeout = 30 * time.Second

// startSession starts the user's own libvirtd, as libvirt's clients do: it ends by
// itself once nobody has used it for two minutes and no guest runs. Of two that are
// started at once the second ends.
func startSession(ctx context.Context, sockets []string) error {
	program, err := sessionDaemon()
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(context.WithoutCancel(ctx), program, "--timeout=120")
	cmd.Dir = "/" // none that it would keep busy
	cmd.SysProcAttr = run.Detached()
	if err := cmd.Start(); err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	ctx, cancel := context.WithTimeout(ctx, sessionTimeout)
	defer cancel()
	return wait.Until(ctx, redial, func(ctx context.Context) error {
		c, err := dialFirst(ctx, sockets)
		if err == nil {
			return c.Close()
		}
		select {
		case end := <-ended:
			ended <- end
			if !absent(err) {
				return wait.Permanent(err)
			}
			return fmt.Errorf("%s ended: %w", filepath.Base(program), errors.Join(end, err))
		default:
			return err
		}
	})
}

func sessionDaemon() (string, error) {
	for _, name := range []string{"libvirtd", "virtqemud"} {
		for _, path := range []string{name, "/usr/sbin/" + name} {
			if found, err := exec.LookPath(path); err == nil {
				return found, nil
			}
		}
	}
	return "", hint.Wrap(errors.New("libvirtd is not installed"), "apt-get install libvirt-daemon libvirt-daemon-driver-qemu")
}
