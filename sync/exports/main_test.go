package exports

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"runtime"
	"testing"

	"github.com/hostctl/hostctl/internal/hint"
)

// The words by which the test binary is called as something else: as root's side,
// and as a user's command that wants it.
const (
	serveWord  = "exports"
	ensureWord = "ensure"
	askWord    = "ensure-asking"
	probeWord  = "probe"
)

func TestMain(m *testing.M) {
	if len(os.Args) == 2 {
		if play, ok := map[string]func() error{
			serveWord:  serve,
			ensureWord: func() error { return ensure(nil) },
			askWord:    func() error { return ensure(ask) },
			probeWord:  probe,
		}[os.Args[1]]; ok {
			if err := play(); err != nil {
				fmt.Fprintln(os.Stderr, err)
				os.Exit(1)
			}
			os.Exit(0)
		}
	}
	os.Exit(inLab(m))
}

func serve() error {
	return Serve(context.Background(), system(), Caller(os.Getenv), os.Stdin, os.Stdout)
}

func system() Server { return Server{System: runtime.GOOS} }

// said is what the user's side says in the end.
type said struct {
	Found     Found
	Err, Hint string
}

func user() (*Client, error) {
	self, err := os.Executable()
	return &Client{Server: system(), Owner: Caller(os.Getenv), Helper: HelperFor(self, serveWord)}, err
}

func ensure(ask func(context.Context, string, func() error) error) error {
	c, err := user()
	if err != nil {
		return err
	}
	c.Ask = ask
	var r Request
	if err := json.NewDecoder(os.Stdin).Decode(&r); err != nil {
		return err
	}
	var s said
	if s.Found, err = c.Ensure(context.Background(), r); err != nil {
		s.Err, s.Hint = err.Error(), hint.Of(err)
	}
	var out bytes.Buffer
	if err := json.NewEncoder(&out).Encode(s); err != nil {
		return err
	}
	_, err = os.Stdout.Write(out.Bytes())
	return err
}

func ask(_ context.Context, why string, sudo func() error) error {
	fmt.Fprintln(os.Stderr, "why:", why)
	return sudo()
}

func probe() error {
	c, err := user()
	if err != nil {
		return err
	}
	return c.Allowed(context.Background())
}
