//go:build !386 && !arm

package safefile

import "golang.org/x/sys/unix"

// sysSetgroups is the system call that takes group numbers of 32 bits.
const sysSetgroups = unix.SYS_SETGROUPS
