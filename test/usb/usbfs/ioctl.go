package usbfs

import (
	"encoding/binary"
	"time"

	"golang.org/x/sys/unix"

	"pam_pkcs11/test/usb/device"
)

// Commands of include/uapi/linux/usbdevice_fs.h on machines of 64 bits.
const (
	cmdControl          = 0xc0185500
	cmdBulk             = 0xc0185502
	cmdResetEndpoint    = 0x80045503
	cmdSetInterface     = 0x80085504
	cmdSetConfiguration = 0x80045505
	cmdGetDriver        = 0x41045508
	cmdSubmit           = 0x8038550a
	cmdDiscard          = 0x550b
	cmdReap             = 0x4008550c
	cmdReapNoDelay      = 0x4008550d
	cmdClaim            = 0x8004550f
	cmdRelease          = 0x80045510
	cmdConnectInfo      = 0x40085511
	cmdIoctl            = 0xc0105512
	cmdReset            = 0x5514
	cmdClearHalt        = 0x80045515
	cmdDisconnect       = 0x5516
	cmdConnect          = 0x5517
	cmdCapabilities     = 0x8004551a
	cmdDisconnectClaim  = 0x8108551b
	cmdGetSpeed         = 0x551f

	// Zero packet, no packet size limit, reap after disconnect.
	capabilities = 0x01 | 0x04 | 0x10

	disconnectSize = 264 // struct usbdevfs_disconnect_claim
	mostSync       = 1 << 20
)

// ioctl answers an ioctl on a device's node.
func (b *Bus) ioctl(r *request) error {
	var in ioctlIn
	data, err := r.decode(&in)
	if err != nil {
		return err
	}
	h, err := b.handle(in.Handle)
	if err != nil {
		return err
	}
	c := caller(r.PID)
	switch in.Command {
	case cmdReap, cmdReapNoDelay:
		h.reap(r.Unique, c, in.Arg, in.Command == cmdReap)
		return nil
	}
	if h.port.isGone() {
		b.reply(r.Unique, unix.ENODEV)
		return nil
	}
	call := &call{handle: h, caller: c, unique: r.Unique, arg: in.Arg, data: data}
	switch in.Command {
	case cmdControl, cmdBulk, cmdClearHalt, cmdSetInterface, cmdSetConfiguration, cmdReset:
		// These talk to the device and may take their time.
		b.serving.Add(1)
		go func() {
			defer b.serving.Done()
			call.talk(in.Command)
		}()
	default:
		call.book(in.Command)
	}
	return nil
}

// call is one ioctl.
type call struct {
	*handle
	caller caller
	unique uint64
	arg    uint64
	data   []byte // what the kernel copied in
}

// result answers with a number, a negative one being an error.
func (c *call) result(n int, errno unix.Errno, out ...any) {
	if errno != 0 {
		c.bus.reply(c.unique, errno)
		return
	}
	c.bus.reply(c.unique, 0, append([]any{ioctlOut{Result: int32(n)}}, out...)...)
}

// number reads the int or unsigned int that the argument points to.
func (c *call) number() (uint32, unix.Errno) {
	b, err := c.caller.read(c.arg, 4)
	if err != nil {
		return 0, unix.EFAULT
	}
	return binary.NativeEndian.Uint32(b), 0
}

// book performs a command that only concerns who has what.
func (c *call) book(command uint32) {
	switch command {
	case cmdSubmit:
		c.result(0, c.submit(c.caller, c.arg))
	case cmdDiscard:
		c.result(0, c.discard(c.arg))
	case cmdClaim, cmdRelease, cmdResetEndpoint:
		n, errno := c.number()
		switch {
		case errno != 0:
		case command == cmdClaim:
			errno = c.port.claim(c.handle, byte(n))
		case command == cmdRelease:
			errno = c.port.release(c.handle, byte(n))
		}
		c.result(0, errno)
	case cmdGetDriver:
		c.getDriver()
	case cmdConnectInfo:
		c.give(encode(nil, uint32(c.port.number), uint32(0)))
	case cmdCapabilities:
		c.result(0, 0, uint32(capabilities))
	case cmdGetSpeed:
		c.result(int(c.port.device.Speed), 0)
	case cmdIoctl:
		c.driverIoctl()
	case cmdDisconnectClaim:
		c.disconnectClaim()
	default:
		c.result(0, unix.ENOTTY)
	}
}

func (c *call) getDriver() {
	if len(c.data) < 4 {
		c.result(0, unix.EINVAL)
		return
	}
	name := c.port.driver(byte(binary.NativeEndian.Uint32(c.data)))
	if name == "" {
		c.result(0, unix.ENODATA)
		return
	}
	text := make([]byte, 256)
	copy(text[:255], name)
	c.give(append(c.data[:4:4], text...))
}

// give answers with a structure in the caller's memory, for commands whose number does not say that they give one.
func (c *call) give(b []byte) {
	if c.caller.write(c.arg, b) != nil {
		c.result(0, unix.EFAULT)
		return
	}
	c.result(0, 0)
}

// driverIoctl is USBDEVFS_IOCTL: only taking an interface from the kernel's driver, and giving it back, is known.
func (c *call) driverIoctl() {
	if len(c.data) < 8 {
		c.result(0, unix.EINVAL)
		return
	}
	number := byte(binary.NativeEndian.Uint32(c.data))
	switch binary.NativeEndian.Uint32(c.data[4:]) {
	case cmdDisconnect:
		if !c.port.disconnect(number) {
			c.result(0, unix.ENODATA)
			return
		}
		c.result(0, 0)
	case cmdConnect:
		c.result(0, 0)
	default:
		c.result(0, unix.ENOTTY)
	}
}

func (c *call) disconnectClaim() {
	b, err := c.caller.read(c.arg, disconnectSize)
	if err != nil {
		c.result(0, unix.EFAULT)
		return
	}
	number := byte(binary.NativeEndian.Uint32(b))
	c.port.disconnect(number)
	c.result(0, c.port.claim(c.handle, number))
}

// talk performs a command that goes to the device.
func (c *call) talk(command uint32) {
	switch command {
	case cmdControl:
		c.control()
	case cmdBulk:
		c.bulk()
	case cmdReset:
		if err := c.port.Reset(); err != nil {
			c.bus.complain("a reset", err)
		}
		c.result(0, 0)
	case cmdClearHalt:
		n, errno := c.number()
		if errno == 0 {
			errno = c.request(device.Setup{RequestType: 0x02, Request: 1, Index: uint16(n)})
		}
		c.result(0, errno)
	case cmdSetInterface:
		b, err := c.caller.read(c.arg, 8)
		if err != nil {
			c.result(0, unix.EFAULT)
			return
		}
		c.result(0, c.request(device.Setup{
			RequestType: 0x01, Request: 11, Value: uint16(binary.NativeEndian.Uint32(b[4:])), Index: uint16(binary.NativeEndian.Uint32(b)),
		}))
	case cmdSetConfiguration:
		n, errno := c.number()
		if errno == 0 && !c.port.holdsAll(c.handle) {
			errno = unix.EBUSY
		}
		if errno == 0 {
			errno = c.request(device.Setup{Request: 9, Value: uint16(n)})
		}
		c.result(0, errno)
	}
}

// request performs a standard request without data.
func (c *call) request(s device.Setup) unix.Errno {
	_, _, errno := c.exchange(&device.Transfer{Setup: s}, 5*time.Second)
	return errno
}

// exchange performs a transfer and waits for its end; 0 is no limit.
func (c *call) exchange(t *device.Transfer, limit time.Duration) ([]byte, int, unix.Errno) {
	type end struct {
		status unix.Errno
		data   []byte
		n      int
	}
	ended := make(chan end, 1)
	t.Done = func(status unix.Errno, data []byte, n int) { ended <- end{status, data, n} }
	if !c.port.device.Submit(t) {
		return nil, 0, unix.ENOENT
	}
	var late <-chan time.Time
	if limit > 0 {
		timer := time.NewTimer(limit)
		defer timer.Stop()
		late = timer.C
	}
	select {
	case e := <-ended:
		return e.data, e.n, e.status
	case <-late:
		if c.port.device.Cancel(t) {
			<-ended
			return nil, 0, unix.ETIMEDOUT
		}
		e := <-ended
		return e.data, e.n, e.status
	}
}

type controlArg struct {
	Setup   [device.SetupLength]byte
	Timeout uint32 // ms
	_       uint32
	Data    uint64
}

// control is USBDEVFS_CONTROL.
func (c *call) control() {
	var arg controlArg
	if _, err := binary.Decode(c.data, binary.NativeEndian, &arg); err != nil {
		c.result(0, unix.EINVAL)
		return
	}
	t := &device.Transfer{Setup: device.ParseSetup(arg.Setup)}
	t.Length = int(t.Setup.Length)
	if errno := c.mayAsk(t.Setup); errno != 0 {
		c.result(0, errno)
		return
	}
	if !t.Setup.ToHost() {
		var err error
		if t.Data, err = c.caller.read(arg.Data, t.Length); err != nil {
			c.result(0, unix.EFAULT)
			return
		}
	}
	c.deliver(t, arg.Timeout, arg.Data)
}

// mayAsk claims the interface that a class or standard request is for, as check_ctrlrecip of the kernel does.
func (h *handle) mayAsk(s device.Setup) unix.Errno {
	const vendor, toInterface, toEndpoint = 0x40, 1, 2
	if s.RequestType&0x60 == vendor {
		return 0
	}
	switch s.RequestType & 0x1f {
	case toInterface:
		return h.port.claim(h, byte(s.Index))
	case toEndpoint:
		number, ok := h.port.device.InterfaceOf(byte(s.Index))
		if !ok {
			return unix.ENOENT
		}
		return h.port.claim(h, number)
	}
	return 0
}

type bulkArg struct {
	Endpoint, Length, Timeout uint32 // bytes, ms
	_                         uint32
	Data                      uint64
}

// bulk is USBDEVFS_BULK, for interrupt endpoints too.
func (c *call) bulk() {
	var arg bulkArg
	if _, err := binary.Decode(c.data, binary.NativeEndian, &arg); err != nil || arg.Length > mostSync {
		c.result(0, unix.EINVAL)
		return
	}
	t := &device.Transfer{Endpoint: byte(arg.Endpoint), Length: int(arg.Length)}
	number, ok := c.port.device.InterfaceOf(t.Endpoint)
	if !ok {
		c.result(0, unix.ENOENT)
		return
	}
	if errno := c.port.claim(c.handle, number); errno != 0 {
		c.result(0, errno)
		return
	}
	if t.Endpoint&0x80 == 0 {
		var err error
		if t.Data, err = c.caller.read(arg.Data, t.Length); err != nil {
			c.result(0, unix.EFAULT)
			return
		}
	}
	c.deliver(t, arg.Timeout, arg.Data)
}

// deliver performs a transfer and hands what came to the caller.
func (c *call) deliver(t *device.Transfer, milliseconds uint32, to uint64) {
	data, n, errno := c.exchange(t, time.Duration(milliseconds)*time.Millisecond)
	if errno == 0 && c.caller.write(to, data) != nil {
		errno = unix.EFAULT
	}
	c.result(n, errno)
}
