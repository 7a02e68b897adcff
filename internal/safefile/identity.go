package safefile

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Become takes on the file-system identity of a user: the user number, the group number, and no
// other group.
type Become func(uid, gid uint32) error

// AsUsers runs f on a thread of its own, whose file-system identity f changes with Become: what it
// opens then, it opens with the rights of that user and no others, also where root has none (a home
// on NFS). The rest of the process keeps its identity, and no signal or trace may reach it as that
// user, which setuid would allow. The thread ends with f. In a process that does not run as root
// Become does nothing.
//
// When ctx ends first, its error is returned and f is left behind with its thread, since a file
// system that hangs cannot be interrupted: f must touch nothing that is used after AsUsers. f must
// not start threads in C (no name services): they would inherit the identity.
func AsUsers[T any](ctx context.Context, f func(Become) (T, error)) (T, error) {
	type outcome struct {
		value T
		err   error
	}
	// Room for the outcome: f must be able to end when nobody waits for it any more.
	done := make(chan outcome, 1)
	go onOwnThread(func() {
		var o outcome
		// A fault of f must not end the whole process.
		defer func() {
			if v := recover(); v != nil {
				o.err = fmt.Errorf("internal fault: %v", v)
			}
			done <- o
		}()
		o.value, o.err = f(become)
	})

	select {
	case o := <-done:
		return o.value, o.err
	case <-ctx.Done():
		var none T
		return none, ctx.Err()
	}
}

// onOwnThread runs f on a thread that ends with it: the runtime ends a thread whose goroutine ends
// without having unlocked it. The first thread of a process would not end but keep the identity, so
// it is occupied while another one does the work.
func onOwnThread(f func()) {
	runtime.LockOSThread()
	if unix.Gettid() != unix.Getpid() {
		f()
		return
	}

	defer runtime.UnlockOSThread()
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		f()
	}()
	<-done
}

// become changes the identity of the calling thread alone: raw system calls, because the C
// library's would change all threads. The kernel takes root's rights over files away with the user
// number, and gives them back with 0.
func become(uid, gid uint32) error {
	// Without root's rights there is no other identity to take.
	if os.Geteuid() != 0 {
		return nil
	}

	// The groups first: without root's user number they could not be set any more.
	if _, _, e := unix.RawSyscall(sysSetgroups, 1, uintptr(unsafe.Pointer(&gid)), 0); e != 0 {
		return fmt.Errorf("becoming user %d: setgroups: %w", uid, e)
	}
	// Neither call reports a failure: each answers with the number that was in force before.
	_, _ = unix.SetfsgidRetGid(int(gid))
	if now, _ := unix.SetfsgidRetGid(-1); uint32(now) != gid {
		return fmt.Errorf("becoming user %d: setfsgid: %w", uid, unix.EPERM)
	}
	_, _ = unix.SetfsuidRetUid(int(uid))
	if now, _ := unix.SetfsuidRetUid(-1); uint32(now) != uid {
		return fmt.Errorf("becoming user %d: setfsuid: %w", uid, unix.EPERM)
	}
	return nil
}
