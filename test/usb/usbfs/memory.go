package usbfs

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// caller is the thread that made an ioctl. Its memory is read and written directly, as the kernel's usbfs does, since
// an URB's buffer is named by a pointer within the structure.
type caller int

// read returns n bytes of the caller's memory.
func (c caller) read(address uint64, n int) ([]byte, error) {
	b := make([]byte, n)
	if n == 0 {
		return b, nil
	}
	got, err := unix.ProcessVMReadv(int(c), []unix.Iovec{vector(b)}, []unix.RemoteIovec{{Base: uintptr(address), Len: n}}, 0)
	if err == nil && got != n {
		err = fmt.Errorf("only %d of %d bytes", got, n)
	}
	return b, err
}

// write puts b into the caller's memory.
func (c caller) write(address uint64, b []byte) error {
	if len(b) == 0 {
		return nil
	}
	got, err := unix.ProcessVMWritev(int(c), []unix.Iovec{vector(b)}, []unix.RemoteIovec{{Base: uintptr(address), Len: len(b)}}, 0)
	if err == nil && got != len(b) {
		err = fmt.Errorf("only %d of %d bytes", got, len(b))
	}
	return err
}

func vector(b []byte) unix.Iovec {
	v := unix.Iovec{Base: unsafe.SliceData(b)}
	v.SetLen(len(b))
	return v
}
