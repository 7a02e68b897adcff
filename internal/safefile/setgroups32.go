//go:build 386 || arm

package safefile

import "golang.org/x/sys/unix"

const sysSetgroups = unix.SYS_SETGROUPS32
