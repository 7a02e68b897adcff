package server

import (
	"testing"

	"golang.org/x/sys/unix"
)

// What a client gets unasked is one message per wait, between answers, and nothing when it has gone: its descriptor may
// be the next client's by then.
func TestMailbox(t *testing.T) {
	for _, row := range []struct {
		name string
		do   func(b *mailbox)
		want int // messages
	}{
		{"nothing expected", func(b *mailbox) { b.post(0) }, 0},
		{"one for one wait", func(b *mailbox) { b.arm(false); b.post(0); b.post(0) }, 1},
		{"held until the states are out", func(b *mailbox) { b.arm(true); b.post(0) }, 0},
		{"released", func(b *mailbox) { b.arm(true); b.post(0); b.release() }, 1},
		{"not inside an answer", func(b *mailbox) { b.arm(false); b.begin(); b.post(0) }, 0},
		{"after the answer", func(b *mailbox) { b.arm(false); b.begin(); b.post(0); b.end() }, 1},
		{"disarmed", func(b *mailbox) { b.arm(false); b.disarm(); b.post(0) }, 0},
		{"the client has gone", func(b *mailbox) { b.arm(false); b.close(); b.post(0) }, 0},
		{"the client has gone with one due", func(b *mailbox) { b.arm(true); b.post(0); b.close(); b.release() }, 0},
	} {
		t.Run(row.name, func(t *testing.T) {
			pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer unix.Close(pair[0])
			defer unix.Close(pair[1])
			row.do(&mailbox{fd: pair[0]})
			n, _, err := unix.Recvfrom(pair[1], make([]byte, 100), unix.MSG_DONTWAIT)
			if err == unix.EAGAIN {
				n = 0
			}
			if n != 8*row.want {
				t.Errorf("%d bytes, want %d messages", n, row.want)
			}
		})
	}
}
