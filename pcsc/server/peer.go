package server

import (
	"unsafe"

	"golang.org/x/sys/unix"

	"pam_pkcs11/pcsc/resmgr"
)

// peerOf asks the kernel who is at the other end.
func peerOf(fd int) (resmgr.Peer, error) {
	cred, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
	if err != nil {
		return resmgr.Peer{}, err
	}

	return resmgr.Peer{
		PID:    int(cred.Pid),
		UID:    cred.Uid,
		GID:    cred.Gid,
		Groups: peerGroups(fd),
	}, nil
}

// peerGroups are the supplementary groups of the process at the other end when it connected; none
// where the kernel cannot say.
func peerGroups(fd int) []uint32 {
	groups := make([]uint32, 64)
	for range 2 {
		size := uint32(4 * len(groups))
		_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT,
			uintptr(fd), unix.SOL_SOCKET, unix.SO_PEERGROUPS,
			uintptr(unsafe.Pointer(unsafe.SliceData(groups))), uintptr(unsafe.Pointer(&size)), 0)

		switch {
		case errno == 0:
			return groups[:min(int(size/4), len(groups))]
		case errno != unix.ERANGE || size > 4*65536:
			return nil
		}

		// With ERANGE the kernel has set size to the room that the groups need.
		groups = make([]uint32, size/4)
	}
	return nil
}
