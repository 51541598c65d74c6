package qemu

import (
	"context"

	"github.com/shirou/gopsutil/v4/process"
	"golang.org/x/sys/windows"
)

// ours reports whether the process runs as this user.
func ours(_ context.Context, ps *process.Process) bool {
	h, err := windows.OpenProcess(windows.PROCESS_QUERY_LIMITED_INFORMATION, false, uint32(ps.Pid))
	if err != nil {
		return false
	}
	defer windows.CloseHandle(h)
	var token windows.Token
	if err := windows.OpenProcessToken(h, windows.TOKEN_QUERY, &token); err != nil {
		return false
	}
	defer token.Close()
	theirs, err := token.GetTokenUser()
	if err != nil {
		return false
	}
	mine, err := windows.GetCurrentProcessToken().GetTokenUser()
	return err == nil && theirs.User.Sid.Equals(mine.User.Sid)
}
