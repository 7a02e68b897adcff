package schedule

import (
	"context"
	"testing"

	"golang.org/x/sys/unix"
)

// TestStaleHangup: a client goes away while it waits, and before that is looked at a new client has its descriptor, and
// waits too. The new one has not gone away. (Once in five million calls of 200 clients one was told SCARD_E_CANCELLED.)
func TestStaleHangup(t *testing.T) {
	w, err := newFDWatch()
	if err != nil {
		t.Fatal(err)
	}
	defer w.close()
	pair := func() (ours, theirs int) {
		p, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		return p[0], p[1]
	}
	listener, quiet := pair()
	first, firstClient := pair()
	old, oldClient := pair()
	fresh, freshClient := pair()
	defer func() {
		for _, fd := range []int{listener, quiet, first, old, freshClient} {
			unix.Close(fd)
		}
	}()
	ctx, stop := context.WithCancel(t.Context())
	var end func()
	w.onHangup(first, func() { // both events are out of the kernel, this one is looked at first
		end()
		if err := unix.Dup3(fresh, old, unix.O_CLOEXEC); err != nil {
			t.Error(err)
		}
		unix.Close(fresh)
		w.onHangup(old, func() { t.Error("the new client is taken for gone") })
		stop()
	})
	end = w.onHangup(old, func() { t.Error("a client that had ended its wait was called") })
	unix.Close(firstClient)
	unix.Close(oldClient)
	if err := w.run(ctx, listener, func() bool { return false }); err != nil {
		t.Fatal(err)
	}
}
