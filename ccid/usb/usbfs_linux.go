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

// usbfs is a device's node, /dev/bus/usb/BUS/DEVICE, that is open: the kernel's own interface to USB devices
// (Linux, include/uapi/linux/usbdevice_fs.h). It knows of no other device, and reads no descriptors.
//
// Transfers are handed to the kernel as URBs (struct usbdevfs_urb). One goroutine, the reaper, waits for those that are
// done; it runs only while there are any, so that a device at which nothing is under way costs nothing.
type usbfs struct {
	fd int

	mu      sync.Mutex
	flying  map[uintptr]*urb // by address: what REAPURB gives back
	reaping bool
	reaper  sync.WaitGroup
}

// urb is struct usbdevfs_urb. The kernel keeps its address, and writes to it, from SUBMITURB to REAPURB.
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

	// What follows is not the kernel's.

	done chan struct{} // closed when the URB has come back, or will not any more
	lost error         // why it will not
	pins runtime.Pinner
}

// urbSize is the size of struct usbdevfs_urb: what stands before done.
const urbSize = unsafe.Offsetof(urb{}.done)

// Kinds of URBs.
const (
	urbInterrupt = 1
	urbControl   = 2
	urbBulk      = 3
)

// mostBytes is the longest part of a transfer that is handed to the kernel at once: it is a whole number of packets of
// every size, and what every kernel finds memory for.
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

// ioc is the number of a command of usbfs (_IOC of asm/ioctl.h, which few machines have in a way of their own).
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
			return &usbfs{fd: fd, flying: make(map[uintptr]*urb)}, nil
		case err == unix.ENOENT: // not yet, or no more
			return nil, fmt.Errorf("%w: there is no %s", device.ErrGone, node)
		case err != unix.EINTR:
			return nil, usbError(err)
		}
	}
}

// ioctl gives a command. arg stays where it is for as long as the call takes.
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

// number gives a command that takes a number of 32 bits.
func (f *usbfs) number(command uintptr, n uint32) error { return f.ioctl(command, unsafe.Pointer(&n)) }

func (f *usbfs) claim(number byte) error   { return f.number(cmdClaim, uint32(number)) }
func (f *usbfs) release(number byte) error { return f.number(cmdRelease, uint32(number)) }
func (f *usbfs) configure(value byte) error {
	return f.number(cmdSetConfiguration, uint32(value))
}
func (f *usbfs) reset() error { return f.ioctl(cmdReset, nil) }

// setInterface selects a setting, which also makes both sides forget halts and toggles.
func (f *usbfs) setInterface(number, alternate byte) error {
	arg := [2]uint32{uint32(number), uint32(alternate)}
	return f.ioctl(cmdSetInterface, unsafe.Pointer(&arg))
}

// transfer moves data to or from an endpoint, or ends when ctx does. It returns the bytes that were moved.
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
		// EINVAL: it is done already. In any case the reaper has it soon.
		_ = f.ioctl(cmdDiscard, unsafe.Pointer(u))
		<-u.done
	}

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

// submit hands an URB over and sees to it that somebody reaps it.
func (f *usbfs) submit(u *urb) error {
	u.pins.Pin(u)
	if u.buffer != nil {
		u.pins.Pin(u.buffer)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.ioctl(cmdSubmit, unsafe.Pointer(u)); err != nil {
		u.pins.Unpin()
		return err
	}

	f.flying[uintptr(unsafe.Pointer(u))] = u
	if !f.reaping {
		f.reaping = true
		f.reaper.Go(f.reap)
	}
	return nil
}

// reap waits for URBs that are done until none is left.
func (f *usbfs) reap() {
	for {
		var address uintptr
		err := f.ioctl(cmdReap, unsafe.Pointer(&address))
		f.mu.Lock()
		if u := f.flying[address]; err == nil && u != nil {
			f.land(address, u)
		}
		if err != nil { // ENODEV: the device is gone, and the kernel keeps what is left to itself
			for address, u := range f.flying {
				u.lost = err
				f.land(address, u)
			}
		}
		f.reaping = len(f.flying) > 0
		again := f.reaping
		f.mu.Unlock()
		if !again {
			return
		}
	}
}

// land tells who waits for an URB that it is done; f.mu is held.
func (f *usbfs) land(address uintptr, u *urb) {
	delete(f.flying, address)
	u.pins.Unpin()
	close(u.done)
}

// close closes the node, which gives back what was claimed. No transfer may be under way.
func (f *usbfs) close() error {
	f.reaper.Wait()
	return unix.Close(f.fd)
}

// usbError gives an error of usbfs, or the status of an URB, the meaning that this package acts on.
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
