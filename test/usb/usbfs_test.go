package usb

import (
	"bytes"
	"fmt"
	"os"
	"runtime"
	"slices"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// These tests speak to a device's node by ioctl, without libusb. They hold on the kernel's usbfs and on the one in user
// space: what differs between them would be a lie about every driver tested there.

// Commands of usbfs on machines of 64 bits.
const (
	usbfsControl   = 0xc0185500
	usbfsBulk      = 0xc0185502
	usbfsGetDriver = 0x41045508
	usbfsSubmit    = 0x8038550a
	usbfsDiscard   = 0x550b
	usbfsReap      = 0x4008550c
	usbfsReapNow   = 0x4008550d
	usbfsClaim     = 0x8004550f
	usbfsRelease   = 0x80045510
	usbfsReset     = 0x5514
	usbfsClearHalt = 0x80045515
	usbfsSpeed     = 0x551f
)

// node is an open device node.
type node struct {
	t *testing.T
	f *os.File
	runtime.Pinner
}

// loopNode plugs a loop in and opens it.
func loopNode(t *testing.T) (*node, port, *loop) {
	t.Helper()
	l, d, err := newLoop()
	if err != nil {
		t.Fatal(err)
	}
	p, err := theBus.Plug(d)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Unplug(); err != nil {
			t.Error(err)
		}
	})
	return openNode(t, p), p, l
}

// openNode opens a node without the poller of the Go runtime: this process serves the node as well, and would wait for
// itself where the runtime asks the kernel for news of it.
func openNode(t *testing.T, p port) *node {
	t.Helper()
	f := openBlocking(t, p)
	n := &node{t: t, f: f}
	t.Cleanup(func() { f.Close(); n.Unpin() })
	return n
}

// openBlocking opens a node out of reach of Go's poller. os.OpenFile would add it to an epoll set, where the kernel asks
// for its state at once: a call in which the runtime does not count this thread as blocked. The simulated bus, which is
// served by this very process, could then not answer while the garbage collector waits for the thread, and everything
// would stand still.
func openBlocking(t *testing.T, p port) *os.File {
	t.Helper()

	fd, err := unix.Open(p.Node(), unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	return os.NewFile(uintptr(fd), p.Node()) // a descriptor that blocks is left out of the poller
}

func (n *node) ioctl(command uintptr, arg unsafe.Pointer) (int, unix.Errno) {
	for {
		r, _, errno := unix.Syscall(unix.SYS_IOCTL, n.f.Fd(), command, uintptr(arg))
		if errno != unix.EINTR {
			return int(r), errno
		}
	}
}

func (n *node) number(command uintptr, number uint32) unix.Errno {
	_, errno := n.ioctl(command, unsafe.Pointer(&number))
	return errno
}

// bulk is a synchronous transfer; milliseconds 0 is no limit.
func (n *node) bulk(endpoint byte, b []byte, milliseconds uint32) (int, unix.Errno) {
	arg := struct {
		endpoint, length, timeout, _ uint32
		data                         *byte
	}{uint32(endpoint), uint32(len(b)), milliseconds, 0, unsafe.SliceData(b)}
	n.Pin(unsafe.SliceData(b))
	return n.ioctl(usbfsBulk, unsafe.Pointer(&arg))
}

func (n *node) control(requestType, request byte, value, index uint16, b []byte) (int, unix.Errno) {
	arg := struct {
		requestType, request byte
		value, index, length uint16
		timeout, _           uint32
		data                 *byte
	}{requestType, request, value, index, uint16(len(b)), 5000, 0, unsafe.SliceData(b)}
	n.Pin(unsafe.SliceData(b))
	return n.ioctl(usbfsControl, unsafe.Pointer(&arg))
}

// urb is struct usbdevfs_urb.
type urb struct {
	kind, endpoint byte
	_              [2]byte
	status         int32
	flags, _       uint32
	buffer         *byte
	length, actual int32
	_              [4]uint32
	context        uintptr
}

const kindInterrupt, kindControl, kindBulk = 1, 2, 3

func (n *node) urb(kind, endpoint byte, b []byte) *urb {
	u := &urb{kind: kind, endpoint: endpoint, buffer: unsafe.SliceData(b), length: int32(len(b))}
	n.Pin(u)
	n.Pin(u.buffer)
	return u
}

func (n *node) submit(u *urb) {
	n.t.Helper()
	if _, errno := n.ioctl(usbfsSubmit, unsafe.Pointer(u)); errno != 0 {
		n.t.Fatal("SUBMITURB:", errno)
	}
}

// reap waits for an URB.
func (n *node) reap() (*urb, unix.Errno) {
	u := new(*urb)
	n.Pin(u)
	_, errno := n.ioctl(usbfsReap, unsafe.Pointer(u))
	return *u, errno
}

func (n *node) reapNow() (*urb, unix.Errno) {
	u := new(*urb)
	n.Pin(u)
	_, errno := n.ioctl(usbfsReapNow, unsafe.Pointer(u))
	return *u, errno
}

// poll waits at most a while for what libusb waits for.
func (n *node) poll(limit time.Duration) int16 {
	fds := []unix.PollFd{{Fd: int32(n.f.Fd()), Events: unix.POLLOUT}}
	for {
		_, err := unix.Poll(fds, int(limit.Milliseconds()))
		if err != unix.EINTR {
			return fds[0].Revents
		}
	}
}

func wantErrno(t *testing.T, what string, got, want unix.Errno) {
	t.Helper()
	if got != want {
		t.Errorf("%s: %v (%d), want %v (%d)", what, got, int(got), want, int(want))
	}
}

const short, long = 200 * time.Millisecond, time.Minute

func TestUsbfsDescriptorsAndSpeed(t *testing.T) {
	n, _, _ := loopNode(t)
	b := make([]byte, 500)
	got, err := n.f.Read(b)
	if err != nil || got != 18+9+9+3*7+9 || b[0] != 18 || b[18] != 9 {
		t.Errorf("read %d bytes, %v: %x", got, err, b[:got])
	}
	if speed, errno := n.ioctl(usbfsSpeed, nil); speed != 2 || errno != 0 {
		t.Errorf("speed %d, %v", speed, errno)
	}
}

func TestUsbfsClaims(t *testing.T) {
	n, p, _ := loopNode(t)
	other := openNode(t, p)
	wantErrno(t, "releasing what is not claimed", n.number(usbfsRelease, 0), unix.EINVAL)
	wantErrno(t, "claiming no interface", n.number(usbfsClaim, 1), unix.ENOENT)
	wantErrno(t, "claiming", n.number(usbfsClaim, 0), 0)
	wantErrno(t, "claiming again", n.number(usbfsClaim, 0), 0)
	wantErrno(t, "claiming what another has", other.number(usbfsClaim, 0), unix.EBUSY)
	wantErrno(t, "claiming the other interface", other.number(usbfsClaim, 5), 0)
	_, errno := other.bulk(loopOut, []byte{1}, 1000)
	wantErrno(t, "using what another has", errno, unix.EBUSY)
	_, errno = n.bulk(0x04, []byte{1}, 1000)
	wantErrno(t, "using no endpoint", errno, unix.ENOENT)
	var driver [260]byte
	_, errno = n.ioctl(usbfsGetDriver, unsafe.Pointer(&driver))
	if name, _, _ := bytes.Cut(driver[4:], []byte{0}); errno != 0 || string(name) != "usbfs" {
		t.Errorf("the driver is %q, %v", name, errno)
	}
	wantErrno(t, "releasing", n.number(usbfsRelease, 0), 0)
	_, errno = n.ioctl(usbfsGetDriver, unsafe.Pointer(&driver))
	wantErrno(t, "the driver of what nobody has", errno, unix.ENODATA)
	if _, errno = other.bulk(loopOut, []byte{1}, 1000); errno != 0 {
		t.Error("using claims what is free:", errno)
	}
	wantErrno(t, "claiming what another uses", n.number(usbfsClaim, 0), unix.EBUSY)
	other.f.Close()
	wantErrno(t, "claiming what another has closed", n.number(usbfsClaim, 0), 0)
}

// TestUsbfsCloseFreesAtOnce: whoever has seen close return finds free what the node had claimed, each time.
func TestUsbfsCloseFreesAtOnce(t *testing.T) {
	n, p, _ := loopNode(t)
	for try := range 200 {
		other := &node{t: t, f: openBlocking(t, p)}

		wantErrno(t, "claiming", other.number(usbfsClaim, 0), 0)
		other.f.Close()

		wantErrno(t, fmt.Sprintf("try %d: claiming what another has closed", try), n.number(usbfsClaim, 0), 0)
		wantErrno(t, "releasing", n.number(usbfsRelease, 0), 0)
		if t.Failed() {
			return
		}
	}
}

func TestUsbfsTransfers(t *testing.T) {
	n, _, _ := loopNode(t)
	wantErrno(t, "claiming", n.number(usbfsClaim, 0), 0)
	pattern := make([]byte, 300)
	for i := range pattern {
		pattern[i] = byte(i * 7)
	}
	for _, length := range []int{1, 63, 64, 65, 128, 300} {
		if got, errno := n.bulk(loopOut, pattern[:length], 5000); got != length || errno != 0 {
			t.Fatalf("sending %d bytes: %d, %v", length, got, errno)
		}
		b := make([]byte, 512)
		if got, errno := n.bulk(loopIn, b, 5000); got != length || errno != 0 || !bytes.Equal(b[:got], pattern[:length]) {
			t.Errorf("receiving %d bytes: %d, %v", length, got, errno)
		}
	}
	// A transfer that is full leaves the rest, here the empty packet that ends the message, for the next one.
	n.bulk(loopOut, pattern[:128], 5000)
	for _, want := range []int{64, 64, 0} {
		if got, errno := n.bulk(loopIn, make([]byte, 64), 5000); got != want || errno != 0 {
			t.Errorf("a message in pieces: %d, %v, want %d", got, errno, want)
		}
	}
	_, errno := n.bulk(loopIn, make([]byte, 64), 50)
	wantErrno(t, "nothing to receive", errno, unix.ETIMEDOUT)
	_, errno = n.bulk(loopOut, []byte{sayHold}, 50)
	wantErrno(t, "a device that does not take anything", errno, unix.ETIMEDOUT)
	b := make([]byte, 4)
	if got, errno := n.control(0xC0, vendorEcho, 0x1234, 0x5678, b); got != 4 || errno != 0 || !bytes.Equal(b, []byte{0x34, 0x12, 0x78, 0x56}) {
		t.Errorf("control request: %d, %v, %x", got, errno, b)
	}
	_, errno = n.control(0xC0, vendorStall, 0, 0, b)
	wantErrno(t, "a refused control request", errno, unix.EPIPE)
	if got, errno := n.control(0x80, 6, 3<<8|1, 0x409, make([]byte, 64)); got != 10 || errno != 0 {
		t.Errorf("string descriptor: %d, %v", got, errno)
	}
}

func TestUsbfsStallAndBabble(t *testing.T) {
	n, _, _ := loopNode(t)
	b := make([]byte, 64)
	n.bulk(loopOut, []byte{sayStall}, 5000)
	for range 2 {
		_, errno := n.bulk(loopIn, b, 5000)
		wantErrno(t, "a halted endpoint", errno, unix.EPIPE)
	}
	wantErrno(t, "clearing the halt", n.number(usbfsClearHalt, loopIn), 0)
	n.bulk(loopOut, []byte{sayBabble}, 5000)
	_, errno := n.bulk(loopIn, b, 5000)
	wantErrno(t, "a babbling device", errno, unix.EOVERFLOW)
	n.bulk(loopOut, bytes.Repeat([]byte{1}, 60), 5000)
	_, errno = n.bulk(loopIn, b[:50], 5000)
	wantErrno(t, "a packet that is longer than the rest of the buffer", errno, unix.EOVERFLOW)
	n.bulk(loopOut, []byte{1, 2, 3}, 5000)
	if got, errno := n.bulk(loopIn, b, 5000); got != 3 || errno != 0 {
		t.Errorf("after all that: %d, %v", got, errno)
	}
}

func TestUsbfsURBs(t *testing.T) {
	n, _, _ := loopNode(t)
	in := make([]byte, 128)
	first, second := n.urb(kindBulk, loopIn, in), n.urb(kindBulk, loopIn, make([]byte, 128))
	quiet := n.urb(kindInterrupt, loopInterrupt, make([]byte, 8))
	for _, u := range []*urb{first, second, quiet} {
		n.submit(u)
	}
	_, errno := n.reapNow()
	wantErrno(t, "reaping at once", errno, unix.EAGAIN)
	if events := n.poll(short); events != 0 {
		t.Errorf("poll says %#x of nothing", events)
	}
	out := n.urb(kindBulk, loopOut, []byte{9, 8, 7})
	n.submit(out)
	if events := n.poll(long); events&unix.POLLOUT == 0 || events&(unix.POLLHUP|unix.POLLERR) != 0 {
		t.Errorf("poll says %#x of an URB that is over", events)
	}
	var reaped []*urb
	for range 2 {
		u, errno := n.reap()
		wantErrno(t, "reaping", errno, 0)
		reaped = append(reaped, u)
	}
	if !slices.Contains(reaped, first) || !slices.Contains(reaped, out) || first.actual != 3 || first.status != 0 || !bytes.Equal(in[:3], []byte{9, 8, 7}) || out.actual != 3 {
		t.Errorf("reaped %v; %+v, %x", reaped, first, in[:3])
	}
	for _, u := range []*urb{second, quiet} {
		_, errno = n.ioctl(usbfsDiscard, unsafe.Pointer(u))
		wantErrno(t, "discarding", errno, 0)
		got, errno := n.reap()
		wantErrno(t, "reaping what was discarded", errno, 0)
		if got != u || u.status != -int32(unix.ENOENT) || u.actual != 0 {
			t.Errorf("discarded %+v", u)
		}
	}
	_, errno = n.ioctl(usbfsDiscard, unsafe.Pointer(second))
	wantErrno(t, "discarding again", errno, unix.EINVAL)
	setup := append([]byte{0xC0, vendorEcho, 1, 2, 3, 4, 4, 0}, 0, 0, 0, 0)
	u := n.urb(kindControl, 0, setup)
	n.submit(u)
	if got, errno := n.reap(); got != u || errno != 0 || u.actual != 4 || !bytes.Equal(setup[8:], []byte{1, 2, 3, 4}) {
		t.Errorf("control URB: %v, %+v, %x", errno, u, setup)
	}
}

func TestUsbfsUnplug(t *testing.T) {
	n, p, _ := loopNode(t)
	u, quiet := n.urb(kindBulk, loopIn, make([]byte, 64)), n.urb(kindInterrupt, loopInterrupt, make([]byte, 8))
	n.submit(u)
	n.submit(quiet)
	waiting := make(chan unix.Errno)
	go func() {
		_, errno := n.bulk(loopOut, []byte{sayHold}, 0)
		waiting <- errno
	}()
	time.Sleep(50 * time.Millisecond) // long enough for the transfer to begin, as a rule: it ends the same way if not
	if err := p.Unplug(); err != nil {
		t.Fatal(err)
	}
	if errno := <-waiting; errno != unix.ESHUTDOWN && errno != unix.ENODEV {
		t.Errorf("a transfer that was cut off: %v", errno)
	}
	for range 2 {
		got, errno := n.reap()
		wantErrno(t, "reaping from a device that is gone", errno, 0)
		if got == nil || got.status != -int32(unix.ESHUTDOWN) && got.status != -int32(unix.ENOENT) {
			t.Errorf("an URB that was cut off: %+v", got)
		}
	}
	// The kernel says POLLHUP when the device is gone, and POLLERR when it has cleaned up after it.
	eventually(t, "poll to say that the device is gone", func() error {
		if events := n.poll(long); events&(unix.POLLHUP|unix.POLLERR) != unix.POLLHUP|unix.POLLERR {
			return fmt.Errorf("it says %#x", events)
		}
		return nil
	})
	_, errno := n.reap()
	wantErrno(t, "reaping when there is nothing more", errno, unix.ENODEV)
	_, errno = n.bulk(loopOut, []byte{1}, 1000)
	wantErrno(t, "sending to a device that is gone", errno, unix.ENODEV)
	wantErrno(t, "claiming it", n.number(usbfsClaim, 0), unix.ENODEV)
	if _, err := os.Stat(p.Node()); !os.IsNotExist(err) {
		t.Errorf("the node is still there: %v", err)
	}
}

func TestUsbfsReset(t *testing.T) {
	n, p, l := loopNode(t)
	wantErrno(t, "claiming", n.number(usbfsClaim, 0), 0)
	u := n.urb(kindBulk, loopIn, make([]byte, 64))
	n.submit(u)
	for len(l.resets) > 0 {
		<-l.resets
	}
	if err := p.Reset(); err != nil {
		t.Fatal(err)
	}
	select {
	case <-l.resets:
	case <-time.After(long):
		t.Error("the device did not notice")
	}
	got, errno := n.reap()
	wantErrno(t, "reaping after a reset", errno, 0)
	t.Logf("the URB ended with %d", u.status)
	if got != u || u.status != -int32(unix.ESHUTDOWN) && u.status != -int32(unix.ENOENT) {
		t.Errorf("%+v", u)
	}
	other := openNode(t, p)
	wantErrno(t, "claiming what a reset has freed", other.number(usbfsClaim, 0), 0)
	wantErrno(t, "claiming what another took then", n.number(usbfsClaim, 0), unix.EBUSY)
	other.f.Close()
	n.bulk(loopOut, []byte{1, 2}, 5000)
	if got, errno := n.bulk(loopIn, make([]byte, 64), 5000); got != 2 || errno != 0 {
		t.Errorf("after the reset: %d, %v", got, errno)
	}
}
