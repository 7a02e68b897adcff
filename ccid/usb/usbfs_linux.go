package usb

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"runtime"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"

	"pam_pkcs11/ccid/device"
)

// usbfs is an open device node, /dev/bus/usb/BUS/DEVICE: the kernel's own interface to USB devices
// (Linux, include/uapi/linux/usbdevice_fs.h). It touches no other device, and reads no descriptors.
//
// Transfers are handed to the kernel as URBs (struct usbdevfs_urb). One goroutine, the reaper,
// waits for those that are done. It runs only while there are any, so that an idle device costs
// nothing.
type usbfs struct {
	fd int

	mu       sync.Mutex       // guards the fields below
	inFlight map[uintptr]*urb // by address, which is what REAPURB returns
	reaping  bool             // the reaper runs
	reaper   sync.WaitGroup
}

// urb is struct usbdevfs_urb. The kernel keeps its address, and writes to it, from SUBMITURB to
// REAPURB.
type urb struct {
	kind         byte
	endpoint     byte
	status       int32
	flags        uint32
	buffer       unsafe.Pointer
	bufferLength int32
	actualLength int32
	startFrame   int32
	packets      int32
	errors       int32
	signal       uint32
	context      uintptr

	// The fields below are not the kernel's.

	done chan struct{} // closed when the URB has come back, or never will
	lost error         // why it never will
	pins runtime.Pinner
}

// urbSize is the size of struct usbdevfs_urb: the fields before done.
const urbSize = unsafe.Offsetof(urb{}.done)

// Kinds of URBs.
const (
	urbInterrupt = 1
	urbControl   = 2
	urbBulk      = 3
)

// mostBytes is the longest part of a transfer that is handed to the kernel at once: a whole number
// of packets of every size, small enough for the kernel to find memory for it.
const mostBytes = 16 << 10

// The commands of usbfs.
var (
	cmdSetInterface     = ioc(iocRead, 4, 8)
	cmdSetConfiguration = ioc(iocRead, 5, 4)
	cmdSubmit           = ioc(iocRead, 10, urbSize)
	cmdDiscard          = ioc(iocNone, 11, 0)
	cmdReap             = ioc(iocWrite, 12, unsafe.Sizeof(uintptr(0)))
	cmdClaim            = ioc(iocRead, 15, 4)
	cmdRelease          = ioc(iocRead, 16, 4)
	cmdReset            = ioc(iocNone, 20, 0)
)

// Directions of a command.
const (
	iocNone = iota
	iocRead
	iocWrite
)

// ioc is the number of a command of usbfs (_IOC of asm/ioctl.h, which differs on few
// architectures).
func ioc(direction, number, size uintptr) uintptr {
	const kind = 'U'
	switch runtime.GOARCH {
	case "mips", "mipsle", "mips64", "mips64le", "ppc64", "ppc64le":
		own := map[uintptr]uintptr{iocNone: 1, iocRead: 2, iocWrite: 4}
		return own[direction]<<29 | size<<16 | kind<<8 | number
	}
	generic := map[uintptr]uintptr{iocNone: 0, iocRead: 2, iocWrite: 1}
	return generic[direction]<<30 | size<<16 | kind<<8 | number
}

// openUSBFS opens a node.
func openUSBFS(node string) (*usbfs, error) {
	for {
		fd, err := unix.Open(node, unix.O_RDWR|unix.O_CLOEXEC, 0)
		switch {
		case err == nil:
			return &usbfs{fd: fd, inFlight: make(map[uintptr]*urb)}, nil
		case err == unix.ENOENT:
			// Not yet, or no more: udev makes and removes the nodes.
			return nil, fmt.Errorf("%w: there is no %s", device.ErrGone, node)
		case err != unix.EINTR:
			return nil, usbError(err)
		}
	}
}

// ioctl performs a command. arg must not move while it lasts.
func (f *usbfs) ioctl(command uintptr, arg unsafe.Pointer) error {
	for {
		_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(f.fd), command, uintptr(arg))
		switch errno {
		case 0:
			return nil
		case unix.EINTR:
			continue
		}
		return errno
	}
}

// number performs a command whose argument is a number of 32 bits.
func (f *usbfs) number(command uintptr, n uint32) error {
	return f.ioctl(command, unsafe.Pointer(&n))
}

func (f *usbfs) claim(number byte) error   { return f.number(cmdClaim, uint32(number)) }
func (f *usbfs) release(number byte) error { return f.number(cmdRelease, uint32(number)) }
func (f *usbfs) configure(value byte) error {
	return f.number(cmdSetConfiguration, uint32(value))
}
func (f *usbfs) reset() error { return f.ioctl(cmdReset, nil) }

// setInterface selects a setting, which makes both sides forget halts and toggles.
func (f *usbfs) setInterface(number, alternate byte) error {
	arg := [2]uint32{uint32(number), uint32(alternate)}
	return f.ioctl(cmdSetInterface, unsafe.Pointer(&arg))
}

// transfer moves data to or from an endpoint, or ends when ctx does. It returns the number of bytes
// moved.
func (f *usbfs) transfer(ctx context.Context, kind, endpoint byte, data []byte) (int, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}

	u := &urb{
		kind:         kind,
		endpoint:     endpoint,
		buffer:       unsafe.Pointer(unsafe.SliceData(data)),
		bufferLength: int32(len(data)),
		done:         make(chan struct{}),
	}
	if err := f.submit(u); err != nil {
		return 0, usbError(err)
	}

	select {
	case <-u.done:
	case <-ctx.Done():
		// The URB comes back in any case, as cancelled, or as done when this was too late (EINVAL).
		// Until then the kernel may write to the caller's memory, so it has to be waited for.
		_ = f.ioctl(cmdDiscard, unsafe.Pointer(u))
		<-u.done
	}

	// A transfer that was done before it could be cancelled counts: its bytes have moved.
	switch {
	case u.lost != nil:
		return 0, usbError(u.lost)
	case u.status == 0:
		return int(u.actualLength), nil
	case ctx.Err() != nil:
		return 0, ctx.Err()
	}
	return int(u.actualLength), usbError(unix.Errno(-u.status))
}

// submit hands an URB to the kernel and starts the reaper, unless it runs.
func (f *usbfs) submit(u *urb) error {
	// The kernel has both addresses until REAPURB: nothing may free or move what is there.
	u.pins.Pin(u)
	if u.buffer != nil {
		u.pins.Pin(u.buffer)
	}

	// Held over SUBMITURB: the reaper must not see the URB before it is in the map.
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.ioctl(cmdSubmit, unsafe.Pointer(u)); err != nil {
		u.pins.Unpin()
		return err
	}

	f.inFlight[uintptr(unsafe.Pointer(u))] = u
	if !f.reaping {
		f.reaping = true
		f.reaper.Go(f.reap)
	}
	return nil
}

// reap receives URBs that are done until none is left.
func (f *usbfs) reap() {
	for {
		var address uintptr
		err := f.ioctl(cmdReap, unsafe.Pointer(&address))

		f.mu.Lock()
		if u := f.inFlight[address]; err == nil && u != nil {
			f.complete(address, u)
		}
		// ENODEV: the device has gone, and what has not come back never will.
		if err != nil {
			for address, u := range f.inFlight {
				u.lost = err
				f.complete(address, u)
			}
		}

		// Decided under mu, so that submit either finds the reaper running or starts another.
		f.reaping = len(f.inFlight) > 0
		again := f.reaping
		f.mu.Unlock()

		if !again {
			return
		}
	}
}

// complete ends the wait for an URB. The caller holds f.mu.
func (f *usbfs) complete(address uintptr, u *urb) {
	delete(f.inFlight, address)
	u.pins.Unpin()
	close(u.done)
}

// close closes the node, which releases what was claimed. No transfer may be in progress.
func (f *usbfs) close() error {
	f.reaper.Wait()
	return unix.Close(f.fd)
}

// usbError maps an error of usbfs, or the status of an URB, to the errors that this package and its
// callers decide on.
func usbError(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, unix.ENODEV), errors.Is(err, unix.ESHUTDOWN):
		return fmt.Errorf("%w (%w)", device.ErrGone, err)
	case errors.Is(err, unix.EPIPE):
		return device.ErrStall
	case errors.Is(err, unix.EOVERFLOW):
		return device.ErrOverflow
	case errors.Is(err, unix.EBUSY):
		return fmt.Errorf("%w (%w)", errBusy, err)
	case errors.Is(err, unix.EACCES), errors.Is(err, unix.EPERM):
		return fmt.Errorf("%w (%w)", fs.ErrPermission, err)
	}
	return fmt.Errorf("USB: %w", err)
}
