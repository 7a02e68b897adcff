//go:build cgo

package main

// extern void note_ends(char *note);
import "C"

import (
	"log/slog"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"

	"pam_pkcs11/internal/logs"
)

// pamPKCS11Worker is entered by the launcher (through pam_pkcs11_worker_main) with the socket to
// the relay. It does not return.
//
//export pamPKCS11Worker
func pamPKCS11Worker(fd C.int) {
	// No way leads back into the launcher's C code.
	defer exit(1)

	if err := checkSandbox(); err != nil {
		slog.New(logs.Syslog("unknown", "auth")).Error("worker not sealed by its launcher", "error", err)
		return
	}

	// Programs that a library starts must not get the socket; without blocking, Go's poller waits
	// for the socket and no thread does.
	unix.CloseOnExec(int(fd))
	if err := unix.SetNonblock(int(fd), true); err != nil {
		return
	}

	relay := &relaySocket{File: os.NewFile(uintptr(fd), "relay"), fd: int(fd)}
	serve(relay, hostPID(int(fd)), exit)
}

// relaySocket is the socket to the relay, open until the process ends.
type relaySocket struct {
	*os.File
	fd int
}

// CloseWrite ends what is sent; the host's end is still seen.
func (s *relaySocket) CloseWrite() error { return unix.Shutdown(s.fd, unix.SHUT_WR) }

// sendDescriptor sends a short frame and a descriptor with it, as the first that is sent: there is
// room for it.
func (s *relaySocket) sendDescriptor(frame []byte, fd int) error {
	return unix.Sendmsg(s.fd, frame, unix.UnixRights(fd), nil, unix.MSG_NOSIGNAL)
}

// noteEnds lets exit(3) and abort(3), which a library may call, leave a note.
func noteEnds(page []byte) { C.note_ends((*C.char)(unsafe.Pointer(&page[noteExited]))) }

// hostPID is the process that made the socket.
func hostPID(fd int) int {
	peer, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
	if err != nil {
		return 0
	}
	return int(peer.Pid)
}
