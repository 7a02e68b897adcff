package usb

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"log/slog"
	"os"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Multicast groups of NETLINK_KOBJECT_UEVENT.
const (
	groupKernel = 1
	groupUdev   = 2 // udevd's messages, sent when owners and modes are set
)

// udevControl exists while udevd runs.
const udevControl = "/run/udev/control"

// uevents are the kernel's events of devices, or udevd's where it runs.
type uevents struct {
	file *os.File
	udev bool // the events are udevd's
}

// maxEvent is the largest message: udevd bounds its own to 8 KiB.
const maxEvent = 16 << 10

// listenUevents opens the socket.
func listenUevents(log *slog.Logger) (news, error) {
	// udevd's events come later than the kernel's, but then the device can be opened.
	_, err := os.Stat(udevControl)
	u := &uevents{udev: err == nil}
	group := uint32(groupKernel)
	if u.udev {
		group = groupUdev
	}

	const kind = unix.SOCK_RAW | unix.SOCK_CLOEXEC | unix.SOCK_NONBLOCK
	fd, err := unix.Socket(unix.AF_NETLINK, kind, unix.NETLINK_KOBJECT_UEVENT)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}

	// The sender's credentials come with each message: see trusted.
	err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PASSCRED, 1)
	if err == nil {
		err = unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: group})
	}
	if err != nil {
		unix.Close(fd)
		return nil, os.NewSyscallError("bind", err)
	}

	log.Debug("listening for USB devices", "udevd", u.udev)
	u.file = os.NewFile(uintptr(fd), "uevents")
	return u, nil
}

// close closes the socket.
func (u *uevents) close() { u.file.Close() }

// wait returns when a USB device has come or gone, or when events may have been lost.
func (u *uevents) wait(ctx context.Context) error {
	// A deadline in the past ends the read when ctx does.
	stop := context.AfterFunc(ctx, func() { u.file.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()

	raw, err := u.file.SyscallConn()
	if err != nil {
		return err
	}

	buffer := make([]byte, maxEvent)
	control := make([]byte, unix.CmsgSpace(unix.SizeofUcred))
	for {
		// Recvmsg instead of file.Read: the sender's address and credentials are needed.
		var n, nc int
		var from unix.Sockaddr
		var problem error
		err := raw.Read(func(fd uintptr) bool {
			n, nc, _, from, problem = unix.Recvmsg(int(fd), buffer, control, 0)
			return !errors.Is(problem, unix.EAGAIN)
		})

		switch {
		case err != nil:
			return err
		case errors.Is(problem, unix.ENOBUFS):
			// The queue was full and events were lost: one of them may have been about a reader.
			return nil
		case errors.Is(problem, unix.EINTR):
		case problem != nil:
			return os.NewSyscallError("recvmsg", problem)
		case u.trusted(from, control[:nc]) && isUSBDevice(buffer[:n], u.udev):
			return nil
		}
	}
}

// trusted reports whether an event is from the kernel, or from root where udevd sends them: any
// process can send to a group.
func (u *uevents) trusted(from unix.Sockaddr, control []byte) bool {
	sender, ok := from.(*unix.SockaddrNetlink)
	if !ok {
		return false
	}
	// The kernel's port is 0, which no process can have.
	if !u.udev {
		return sender.Pid == 0
	}

	messages, err := unix.ParseSocketControlMessage(control)
	if err != nil {
		return false
	}

	for i := range messages {
		if cred, err := unix.ParseUnixCredentials(&messages[i]); err == nil {
			return cred.Uid == 0
		}
	}
	return false
}

// udevMagic begins the binary header of udevd's messages, after "libudev" and NUL. It is in network
// order; the other numbers are in the host's.
const (
	udevPrefix = "libudev\x00"
	udevMagic  = 0xFEEDCAFE
	udevHeader = 40
)

// isUSBDevice reports whether an event is about a USB device that came or went. Its properties are
// "NAME=VALUE", each ended by NUL; the kernel puts "ACTION@PATH" before them, udevd a header with
// their place.
func isUSBDevice(message []byte, udev bool) bool {
	if udev {
		if len(message) < udevHeader || !bytes.HasPrefix(message, []byte(udevPrefix)) {
			return false
		}
		if binary.BigEndian.Uint32(message[8:]) != udevMagic {
			return false
		}

		// Added as uint64, where the sum of two 32-bit numbers cannot overflow.
		at := binary.NativeEndian.Uint32(message[16:])
		length := binary.NativeEndian.Uint32(message[20:])
		if uint64(at)+uint64(length) > uint64(len(message)) {
			return false
		}
		message = message[at : at+length]
	}

	usb, device := false, false
	for field := range bytes.SplitSeq(message, []byte{0}) {
		usb = usb || string(field) == "SUBSYSTEM=usb"
		device = device || string(field) == "DEVTYPE=usb_device"
	}
	return usb && device
}

// watchSleep sends to resumed when the machine has slept. A timer of the wall clock that never
// expires is cancelled when the clock is set, which waking up does; the two monotonic clocks then
// differ by the time slept. In between the process is not woken.
func watchSleep(ctx context.Context, log *slog.Logger, resumed chan<- struct{}) {
	fd, err := unix.TimerfdCreate(unix.CLOCK_REALTIME, unix.TFD_CLOEXEC|unix.TFD_NONBLOCK)
	if err != nil {
		log.Debug("no news of the machine's sleep", "err", err)
		return
	}

	timer := os.NewFile(uintptr(fd), "sleep")
	defer timer.Close()
	defer context.AfterFunc(ctx, func() { timer.SetReadDeadline(time.Unix(1, 0)) })()

	// The last second of time_t, so that the timer never expires.
	const flags = unix.TFD_TIMER_ABSTIME | unix.TFD_TIMER_CANCEL_ON_SET
	const last = 1<<(8*unsafe.Sizeof(unix.Timespec{}.Sec)-1) - 1
	never := unix.ItimerSpec{Value: unix.Timespec{Sec: last}}

	for slept := sleepTime(); ; {
		if err := unix.TimerfdSettime(fd, flags, &never, nil); err != nil {
			log.Debug("no news of the machine's sleep", "err", err)
			return
		}

		// ECANCELED is the event: the clock was set, by waking up or by a program.
		var b [8]byte
		if _, err := timer.Read(b[:]); err != nil && !errors.Is(err, unix.ECANCELED) {
			return
		}

		// The two clocks are not read at the same instant: less than a millisecond is no sleep.
		if now := sleepTime(); now > slept+time.Millisecond {
			slept = now
			select {
			case resumed <- struct{}{}:
			default:
			}
		}
	}
}

// sleepTime is how long the machine has slept since it was started.
func sleepTime() time.Duration {
	var boot, awake unix.Timespec
	if unix.ClockGettime(unix.CLOCK_BOOTTIME, &boot) != nil {
		return 0
	}
	if unix.ClockGettime(unix.CLOCK_MONOTONIC, &awake) != nil {
		return 0
	}
	return time.Duration(boot.Nano() - awake.Nano())
}
