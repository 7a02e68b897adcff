package schedule

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// Reading and writing the socket of a client without the poller. Calls that do not wait use
// RawSyscall, which does not tell the scheduler of the runtime; calls that may wait block, which
// costs a thread, but saves the detour by the poller.

// readSocket reads what is there, and waits until something is. more reports that a request has
// begun to come in: libpcsclite writes it in up to three pieces, and yielding the processor once is
// cheaper than being put to sleep and woken for each of them, when both are on the same one.
func readSocket(fd int, b []byte, more bool) (int, error) {
	if more {
		unix.RawSyscall(unix.SYS_SCHED_YIELD, 0, 0, 0)
		n, _, errno := unix.RawSyscall6(unix.SYS_RECVFROM,
			uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)),
			unix.MSG_DONTWAIT, 0, 0)
		if errno == 0 {
			return int(n), nil
		}
	}

	for {
		n, err := unix.Read(fd, b)
		if err != unix.EINTR {
			return n, err
		}
	}
}

// writeSocket writes all of b.
func writeSocket(fd int, b []byte) error {
	n, _, errno := unix.RawSyscall6(unix.SYS_SENDTO,
		uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)),
		unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL, 0, 0)
	// On an error, EAGAIN among them, the blocking call below sees it again.
	if errno == 0 {
		b = b[n:]
	}

	for len(b) > 0 {
		n, err := unix.Write(fd, b)
		switch err {
		case nil:
			b = b[n:]
		case unix.EINTR:
		default:
			return err
		}
	}
	return nil
}
