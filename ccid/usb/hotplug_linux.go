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
	groupUdev   = 2 // what udevd sends on, when it has done its work: owners and modes are set
)

// udevControl is there while udevd runs.
const udevControl = "/run/udev/control"

// uevents are the kernel's news of devices, or udevd's where it runs.
type uevents struct {
	file *os.File
	udev bool
}

// maxEvent is the largest message: udevd bounds its own to 8 KiB.
const maxEvent = 16 << 10

// listenUevents opens the socket.
func listenUevents(log *slog.Logger) (news, error) {
	_, err := os.Stat(udevControl)
	u := &uevents{udev: err == nil}
	group := uint32(groupKernel)
	if u.udev {
		group = groupUdev
	}
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_KOBJECT_UEVENT)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
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

func (u *uevents) close() { u.file.Close() }

// wait returns when a USB device has come or gone, or when messages may have been lost.
func (u *uevents) wait(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { u.file.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	raw, err := u.file.SyscallConn()
	if err != nil {
		return err
	}
	buffer, control := make([]byte, maxEvent), make([]byte, unix.CmsgSpace(unix.SizeofUcred))
	for {
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
		case errors.Is(problem, unix.ENOBUFS): // some were lost
			return nil
		case errors.Is(problem, unix.EINTR):
		case problem != nil:
			return os.NewSyscallError("recvmsg", problem)
		case u.trusted(from, control[:nc]) && isUSBDevice(buffer[:n], u.udev):
			return nil
		}
	}
}

// trusted reports whether a message is from whom it should be: any process can send to a group.
func (u *uevents) trusted(from unix.Sockaddr, control []byte) bool {
	sender, ok := from.(*unix.SockaddrNetlink)
	if !ok {
		return false
	}
	if !u.udev {
		return sender.Pid == 0 // the kernel
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

// udevMagic begins the binary header of udevd's messages, after "libudev" and NUL; numbers are in the host's order
// but for it.
const (
	udevPrefix = "libudev\x00"
	udevMagic  = 0xFEEDCAFE
	udevHeader = 40
)

// isUSBDevice reports whether a message is about a USB device that came or went. properties are "NAME=VALUE", each with a
// NUL; the kernel puts "ACTION@PATH" before them, udevd a header with their place.
func isUSBDevice(message []byte, udev bool) bool {
	if udev {
		if len(message) < udevHeader || !bytes.HasPrefix(message, []byte(udevPrefix)) || binary.BigEndian.Uint32(message[8:]) != udevMagic {
			return false
		}
		at, length := binary.NativeEndian.Uint32(message[16:]), binary.NativeEndian.Uint32(message[20:])
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

// watchSleep tells when the machine has slept. A timer of the wall clock that is never reached ends when the clock is
// set, which waking up does; the two monotonic clocks then differ by the time slept. So nothing wakes us meanwhile.
func watchSleep(ctx context.Context, log *slog.Logger, resumed chan<- struct{}) {
	fd, err := unix.TimerfdCreate(unix.CLOCK_REALTIME, unix.TFD_CLOEXEC|unix.TFD_NONBLOCK)
	if err != nil {
		log.Debug("no news of the machine's sleep", "err", err)
		return
	}
	timer := os.NewFile(uintptr(fd), "sleep")
	defer timer.Close()
	defer context.AfterFunc(ctx, func() { timer.SetReadDeadline(time.Unix(1, 0)) })()
	const flags = unix.TFD_TIMER_ABSTIME | unix.TFD_TIMER_CANCEL_ON_SET
	never := unix.ItimerSpec{Value: unix.Timespec{Sec: 1<<(8*unsafe.Sizeof(unix.Timespec{}.Sec)-1) - 1}} // the last second there is
	for slept := sleepTime(); ; {
		if err := unix.TimerfdSettime(fd, flags, &never, nil); err != nil {
			log.Debug("no news of the machine's sleep", "err", err)
			return
		}
		var b [8]byte
		if _, err := timer.Read(b[:]); err != nil && !errors.Is(err, unix.ECANCELED) {
			return
		}
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
	if unix.ClockGettime(unix.CLOCK_BOOTTIME, &boot) != nil || unix.ClockGettime(unix.CLOCK_MONOTONIC, &awake) != nil {
		return 0
	}
	return time.Duration(boot.Nano() - awake.Nano())
}
