package main

import (
	"errors"
	"fmt"
	"io/fs"
	"testing"

	"github.com/pkg/sftp"

	"github.com/hostctl/hostctl/internal/hint"
	"github.com/hostctl/hostctl/internal/project"
	"github.com/hostctl/hostctl/internal/sshclient"
	"github.com/hostctl/hostctl/internal/transfer"
)

func TestGuestPath(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		word, machine, path string
		ok                  bool
	}{
		{"core-01:/etc/motd", "core-01", "/etc/motd", true},
		{":/etc/motd", "", "/etc/motd", true},
		{":", "", ".", true},
		{"core:", "core", ".", true},
		{":a:b", "", "a:b", true},
		{":~", "", ".", true},
		{":~/a", "", "a", true},
		{":~core/a", "", "~core/a", true},
		{"a", "", "", false},
		{"./a:b", "", "", false},
		{"/a:b", "", "", false},
		{"a.txt:b", "", "", false},
		{`a\b:c`, "", "", false},
	} {
		if machine, path, ok := guestPath(tt.word); machine != tt.machine || path != tt.path || ok != tt.ok {
			t.Errorf("guestPath(%q) = %q, %q, %v", tt.word, machine, path, ok)
		}
	}
}

// SFTP calls it a failure, and the guest's kernel may not know.
func TestInReadOnlyShare(t *testing.T) {
	t.Parallel()
	shares := []project.ShareSpec{
		{Name: "code", Host: "/src/code", Guest: "/srv/code"},
		{Name: "ro", Host: "/src/ro", Guest: "/srv/read only", ReadOnly: true},
		{Name: "home", Host: "/src/home", Guest: "/home/core/share", ReadOnly: true},
	}
	failure := error(&sftp.StatusError{Code: 4}) // SSH_FX_FAILURE
	for _, tt := range []struct {
		path  string
		err   error
		share string // "" for none
	}{
		{"/srv/read only/dir/a", failure, "ro"},
		{"/srv/read only", failure, "ro"},
		{"/srv/read only/a", sshclient.ErrReadOnly, "ro"},
		{"share/a", failure, "home"},
		{"/srv/read only/../code/a", failure, ""},
		{"/srv/read only too/a", failure, ""},
		{"/srv/code/a", failure, ""},
		{"/srv/code/a", sshclient.ErrReadOnly, ""},
		{"/srv/read only/a", fs.ErrPermission, ""},
		{"/srv/read only/a", sshclient.ErrFull, ""},
	} {
		failed := &transfer.GuestError{Path: tt.path, Err: tt.err}
		err := inReadOnlyShare(shares, failed)
		if tt.share == "" {
			if !errors.Is(err, failed) || hint.Of(err) != "" {
				t.Errorf("%s, %v: became %q", tt.path, tt.err, err)
			}
			continue
		}
		want := fmt.Sprintf("%s in the guest: the share %q is read-only", tt.path, tt.share)
		advice := "copy it to /src/" + tt.share + " on this computer, or take readonly out of the share's block and run hostctl up"
		if err.Error() != want || hint.Of(err) != advice {
			t.Errorf("%s, %v: %q with hint %q", tt.path, tt.err, err, hint.Of(err))
		}
	}
	if err := inReadOnlyShare(shares, nil); err != nil {
		t.Errorf("no error became %v", err)
	}
}

// What can be done is said.
func TestExplainTransfer(t *testing.T) {
	t.Parallel()
	denied := &transfer.GuestError{Path: "/etc/motd", Err: fs.ErrPermission}
	for _, tt := range []struct {
		name       string
		err        error
		o          transferOptions
		want, hint string
	}{
		{"root's file", denied, transferOptions{}, "/etc/motd in the guest: permission denied", "--sudo reads and writes as the guest's root"},
		{"root's file to root", denied, transferOptions{sudo: true}, "/etc/motd in the guest: permission denied", ""},
		{"this computer's file", fmt.Errorf("/x: %w", fs.ErrPermission), transferOptions{}, "/x: permission denied", ""},
		{"a pattern", &transfer.GuestError{Path: "/var/log/*.log", Err: fs.ErrNotExist}, transferOptions{}, "/var/log/*.log in the guest: file does not exist",
			"patterns are not expanded in the guest: name the file or its directory"},
		{"lost", &transfer.GuestError{Path: "a", Err: sftp.ErrSSHFxConnectionLost}, transferOptions{}, "the connection to the guest was lost",
			"hostctl status shows whether core runs; then run it again"},
		{"no SFTP", fmt.Errorf("%w: refused", sshclient.ErrNoSFTP), transferOptions{}, "the guest gives no SFTP: refused", `the guest's sshd needs a line "Subsystem sftp internal-sftp"`},
		{"no SFTP for root", fmt.Errorf("%w: no password", sshclient.ErrNoSFTP), transferOptions{sudo: true}, "the guest gives no SFTP: no password", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			err := explainTransfer("core", tt.o, tt.err)
			if err.Error() != tt.want || hint.Of(err) != tt.hint {
				t.Errorf("%q with hint %q", err, hint.Of(err))
			}
			if tt.name != "lost" && !errors.Is(err, tt.err) {
				t.Errorf("%v is not what went wrong", err)
			}
		})
	}
}
