//go:build linux || darwin

package nfs

import (
	"errors"

	"golang.org/x/sys/unix"
)

// status is nfsstat3 of RFC 1813, section 2.6.
type status uint32

const (
	ok             status = 0
	errPerm        status = 1
	errNoEnt       status = 2
	errIO          status = 5
	errNXIO        status = 6
	errAcces       status = 13
	errExist       status = 17
	errXDev        status = 18
	errNoDev       status = 19
	errNotDir      status = 20
	errIsDir       status = 21
	errInval       status = 22
	errFBig        status = 27
	errNoSpc       status = 28
	errROFS        status = 30
	errMLink       status = 31
	errNameTooLong status = 63
	errNotEmpty    status = 66
	errDQuot       status = 69
	errStale       status = 70
	errBadHandle   status = 10001
	errNotSync     status = 10002
	errBadCookie   status = 10003
	errNotSupp     status = 10004
	errTooSmall    status = 10005
	errServerFault status = 10006
	errBadType     status = 10007
	errJukebox     status = 10008
)

func (s status) Error() string { return "nfs status " + itoa(uint64(s)) }

// statusOf is what the guest is told of err.
func statusOf(err error) status {
	if err == nil {
		return ok
	}
	var s status
	if errors.As(err, &s) {
		return s
	}
	var e unix.Errno
	if !errors.As(err, &e) {
		return errServerFault
	}
	switch e {
	case unix.EPERM:
		return errPerm
	case unix.ENOENT:
		return errNoEnt
	case unix.ENXIO:
		return errNXIO
	case unix.EACCES:
		return errAcces
	case unix.EEXIST:
		return errExist
	case unix.EXDEV:
		return errXDev
	case unix.ENODEV:
		return errNoDev
	case unix.ENOTDIR:
		return errNotDir
	case unix.EISDIR:
		return errIsDir
	case unix.EINVAL:
		return errInval
	case unix.EFBIG:
		return errFBig
	case unix.ENOSPC:
		return errNoSpc
	case unix.EROFS:
		return errROFS
	case unix.EMLINK:
		return errMLink
	case unix.ENAMETOOLONG:
		return errNameTooLong
	case unix.ENOTEMPTY:
		return errNotEmpty
	case unix.EDQUOT:
		return errDQuot
	case unix.ESTALE:
		return errStale
	case unix.ENOTSUP, unix.ENOSYS:
		return errNotSupp
	case unix.ETXTBSY, unix.EAGAIN, unix.EMFILE, unix.ENFILE, unix.ENOMEM:
		return errJukebox // passes: the guest tries again
	case unix.ELOOP:
		return errStale // a symbolic link has taken the place of what was there
	}
	return errIO
}
