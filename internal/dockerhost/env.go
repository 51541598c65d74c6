package dockerhost

import (
	"fmt"
	"io"
	"strings"
	"unicode"
)

// Env is what a shell has to change so that its Docker client uses a machine.
type Env struct {
	Host string // "tcp://127.0.0.1:2375"
	// Command is the argv that prints these lines; a comment tells the user how
	// to evaluate it. Empty: no comment.
	Command []string
}

// misleading returns what keeps a client from using DOCKER_HOST as it is. The
// first two turn on TLS and say where its keys are; DOCKER_TLS does the first as
// well, though undocumented (docker/cli, cli/flags/options.go). The docker
// command prefers DOCKER_HOST to DOCKER_CONTEXT, but not every program beside it
// does.
func misleading() []string {
	return []string{"DOCKER_TLS_VERIFY", "DOCKER_CERT_PATH", "DOCKER_TLS", "DOCKER_CONTEXT"}
}

// daemon returns what names a daemon, none of it of use without the others.
func daemon() []string { return []string{"DOCKER_HOST", "DOCKER_TLS_VERIFY", "DOCKER_CERT_PATH"} }

// Write writes the lines that make shell use the machine. Nothing is written
// when a value cannot be put into a line of it.
func (e Env) Write(w io.Writer, shell Shell) error {
	return e.write(w, shell, misleading(), []variable{{"DOCKER_HOST", e.Host}})
}

// WriteUnset writes the lines that undo [Env.Write]; Host plays no part.
func (e Env) WriteUnset(w io.Writer, shell Shell) error {
	return e.write(w, shell, daemon(), nil)
}

type variable struct{ name, value string }

// write keeps to an order and a form that survive careless evaluation: each
// statement ends by itself and the comment comes last, because unquoted
// $(hostctl env), fish's eval (hostctl env) and csh's back quotes turn all
// lines into one.
func (e Env) write(w io.Writer, shell Shell, unset []string, set []variable) error {
	d, err := shell.dialect()
	if err != nil {
		return err
	}
	var b strings.Builder
	line := func(s string) { b.WriteString(s + "\n") }
	for _, name := range unset {
		line(d.unset(name))
	}
	for _, v := range set {
		// No dialect but sh can carry a line break through its evaluation, and
		// none of the values has a use for any control character.
		if strings.ContainsFunc(v.value, unicode.IsControl) {
			return fmt.Errorf("%s: %q has a control character", v.name, v.value)
		}
		line(d.set(v.name, v.value))
	}
	if len(e.Command) > 0 {
		command := d.command(e.Command)
		if strings.ContainsFunc(command, unicode.IsControl) {
			return fmt.Errorf("command %q has a control character", command)
		}
		line(d.comment("Run this command to configure your shell:"))
		line(d.comment(d.eval(command)))
	}
	_, err = io.WriteString(w, b.String())
	return err
}
