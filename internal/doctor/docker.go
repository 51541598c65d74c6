package doctor

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"regexp"
	"strings"
	"time"

	"github.com/hostctl/hostctl/internal/dockerhost"
	"github.com/hostctl/hostctl/internal/run"
)

var clientVersion = regexp.MustCompile(`[0-9]+(?:\.[0-9]+)+`)

// dockerClient looks for the docker command. Its version is asked for in the
// way that takes it to no daemon.
func (p *Patient) dockerClient(ctx context.Context) []Finding {
	path, err := p.LookPath("docker")
	if err != nil {
		return one(Finding{
			Level:  Warning,
			Detail: "no docker command on the PATH: machines come up, and nothing here talks to them",
			Fix:    "install the client: https://docs.docker.com/engine/install/ (docker-ce-cli), apt-get install docker.io, or brew install docker",
		})
	}
	runner := p.Runner
	if runner == nil {
		runner = run.Exec{}
	}
	out, err := runner.Run(ctx, path, "--version")
	if err != nil {
		return one(Finding{Level: Warning, Detail: err.Error(), Fix: path + " --version must work"})
	}
	version := clientVersion.FindString(string(out))
	if version == "" {
		version, _, _ = strings.Cut(strings.TrimSpace(string(out)), "\n")
	}
	return one(ok("%s, %s", version, path))
}

// pingTimeout is how long an engine may take to answer.
const pingTimeout = time.Second

// environment looks at the variables by which this shell's Docker client finds
// its engine. Those of a machine that is gone make every docker command hang or
// fail, in a way that looks like hostctl's fault.
func (p *Patient) environment(ctx context.Context) []Finding {
	host := p.Getenv("DOCKER_HOST")
	var found []Finding
	switch {
	case host == "" && p.Getenv("DOCKER_CONTEXT") == "" && !p.tls():
		return one(ok("no DOCKER_ variables; hostctl env sets them"))
	case host != "":
		found = append(found, p.dockerHost(ctx, host))
	}
	if name := p.Getenv("DOCKER_CONTEXT"); name != "" {
		f := Finding{Level: Warning, Detail: fmt.Sprintf("DOCKER_CONTEXT=%s sends the Docker client to that context", name), Fix: "unset DOCKER_CONTEXT, or let hostctl env do it"}
		if host != "" {
			f.Detail = fmt.Sprintf("DOCKER_CONTEXT=%s: some programs prefer it to DOCKER_HOST", name)
		}
		found = append(found, f)
	}
	machine := p.machineAt(host)
	for _, name := range []string{"DOCKER_TLS_VERIFY", "DOCKER_TLS"} {
		switch {
		case p.Getenv(name) == "":
		case machine != "":
			found = append(found, Finding{Level: Warning, Detail: fmt.Sprintf("%s asks for TLS, and the port of machine %q has none", name, machine), Fix: p.Unset})
		case host == "":
			found = append(found, Finding{Level: Warning, Detail: fmt.Sprintf("%s is set without a DOCKER_HOST", name), Fix: p.Unset})
		}
	}
	return found
}

func (p *Patient) tls() bool {
	return p.Getenv("DOCKER_TLS_VERIFY") != "" || p.Getenv("DOCKER_TLS") != ""
}

// dockerHost asks whether somebody answers at DOCKER_HOST.
func (p *Patient) dockerHost(ctx context.Context, host string) Finding {
	ctx, cancel := context.WithTimeout(ctx, pingTimeout)
	defer cancel()
	u, err := url.Parse(host)
	if err != nil {
		return Finding{Level: Warning, Detail: fmt.Sprintf("DOCKER_HOST=%s is no address", host), Fix: p.Unset}
	}
	var d net.Dialer
	switch {
	case u.Scheme == "tcp" && !p.tls():
		err = dockerhost.Ping(ctx, host)
	case u.Scheme == "tcp":
		// Only a client with its keys can say more.
		err = p.dial(ctx, &d, "tcp", u.Host)
	case u.Scheme == "unix":
		err = p.dial(ctx, &d, "unix", u.Path)
	default:
		return Finding{Level: Info, Detail: fmt.Sprintf("DOCKER_HOST=%s is not asked", host)}
	}
	if err != nil {
		return Finding{Level: Warning, Detail: fmt.Sprintf("DOCKER_HOST=%s: %v", host, err), Fix: p.Unset}
	}
	if machine := p.machineAt(host); machine != "" {
		return ok("DOCKER_HOST=%s answers: machine %q", host, machine)
	}
	return ok("DOCKER_HOST=%s answers", host)
}

// dial connects and lets go. Its errors say what the system said.
func (p *Patient) dial(ctx context.Context, d *net.Dialer, netw, addr string) error {
	conn, err := d.DialContext(ctx, netw, addr)
	switch sys, ok := errors.AsType[*os.SyscallError](err); {
	case err == nil:
		return conn.Close()
	case ctx.Err() != nil:
		return fmt.Errorf("no answer within %s", pingTimeout)
	case ok:
		return sys.Err // without the address, which is in the variable
	}
	return err
}

// machineAt returns the project's machine whose Docker is at host, or "".
func (p *Patient) machineAt(host string) string {
	state, err := p.Project.Load()
	if err != nil || host == "" {
		return ""
	}
	for name, m := range state.Machines {
		if m.DockerHost() == host {
			return name
		}
	}
	return ""
}
