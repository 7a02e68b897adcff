//go:build cgo

package main

import "C"

import (
	"log/slog"
	"os"

	"golang.org/x/sys/unix"

	"pam_pkcs11/internal/logs"
)

// pamPKCS11Worker is entered by the launcher (through pam_pkcs11_worker_main) with the socket to the
// relay. It does not return.
//
//export pamPKCS11Worker
func pamPKCS11Worker(fd C.int) {
	defer exit(1)
	if err := sealed(); err != nil {
		slog.New(logs.Syslog("unknown", "auth")).Error("worker not sealed by its launcher", "error", err)
		return
	}
	unix.CloseOnExec(int(fd))
	if err := unix.SetNonblock(int(fd), true); err != nil {
		return
	}
	relay := os.NewFile(uintptr(fd), "relay")
	serve(relay, hostPID(int(fd)), exit)
}

// hostPID is the process that made the socket.
func hostPID(fd int) int {
	peer, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
	if err != nil {
		return 0
	}
	return int(peer.Pid)
}
