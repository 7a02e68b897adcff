package usbfs

import (
	"encoding/binary"
	"sync"

	"golang.org/x/sys/unix"

	"pam_pkcs11/test/usb/device"
)

// handle is a node that a process holds open (struct usb_dev_state of the kernel).
type handle struct {
	bus  *Bus
	port *Port

	mu      sync.Mutex
	closed  bool
	pending map[uint64]*urb // by the address of the caller's structure
	done    []*urb          // over, not yet reaped
	reapers []reaper        // blocked in REAPURB
	polls   []uint64        // kernel handles to notify
}

func newHandle(b *Bus, p *Port) *handle {
	h := &handle{bus: b, port: p, pending: make(map[uint64]*urb)}
	p.mu.Lock()
	p.open[h] = true
	p.mu.Unlock()
	return h
}

// urb is a struct usbdevfs_urb of the caller's.
type urb struct {
	urbIn
	address  uint64
	buffer   uint64 // where what comes from the device goes
	number   byte   // of the interface it belongs to
	bound    bool   // it does belong to one
	transfer *device.Transfer

	status unix.Errno
	data   []byte
	actual int
}

// urbIn is the front of struct usbdevfs_urb on machines of 64 bits.
type urbIn struct {
	Type, Endpoint  byte
	_               [2]byte
	Status          int32
	Flags           uint32
	_               uint32
	Buffer          uint64
	Length          int32
	ActualLength    int32
	_, _, _, Signal uint32
	Context         uint64
}

const (
	urbSize     = 56
	statusAt    = 4  // offset of status
	actualAt    = 28 // offset of actual_length
	mostURB     = 16 << 20
	typeInt     = 1
	typeControl = 2
	typeBulk    = 3
)

// reaper is a caller that waits in REAPURB.
type reaper struct {
	unique  uint64
	caller  caller
	pointer uint64 // where it wants the URB's address
}

// completed takes note of an URB that is over.
func (h *handle) completed(u *urb, status unix.Errno, data []byte, n int) {
	h.mu.Lock()
	u.status, u.data, u.actual = status, data, n
	delete(h.pending, u.address)
	if h.closed {
		h.mu.Unlock()
		return
	}
	h.done = append(h.done, u)
	polls := h.polls
	h.polls = nil
	var next *urb
	var r reaper
	if len(h.reapers) > 0 {
		r, h.reapers = h.reapers[0], h.reapers[1:]
		next, h.done = h.done[0], h.done[1:]
	}
	h.mu.Unlock()
	if next != nil {
		h.bus.reply(r.unique, next.hand(r.caller, r.pointer), ioctlOut{})
	}
	for _, k := range polls {
		h.bus.notify(k)
	}
}

// hand writes the result into the caller's memory, as processcompl of the kernel does.
func (u *urb) hand(c caller, pointer uint64) unix.Errno {
	for _, w := range []struct {
		at   uint64
		data []byte
	}{
		{u.buffer, u.data},
		{u.address + statusAt, binary.NativeEndian.AppendUint32(nil, uint32(-int32(u.status)))},
		{u.address + actualAt, binary.NativeEndian.AppendUint32(nil, uint32(u.actual))},
		{pointer, binary.NativeEndian.AppendUint64(nil, u.address)},
	} {
		if c.write(w.at, w.data) != nil {
			return unix.EFAULT
		}
	}
	return 0
}

// reap answers REAPURB and, without wait, REAPURBNDELAY.
func (h *handle) reap(unique uint64, c caller, pointer uint64, wait bool) {
	h.mu.Lock()
	switch {
	case len(h.done) > 0:
		u := h.done[0]
		h.done = h.done[1:]
		h.mu.Unlock()
		h.bus.reply(unique, u.hand(c, pointer), ioctlOut{})
		return
	case h.port.isGone():
		h.mu.Unlock()
		h.bus.reply(unique, unix.ENODEV)
		return
	case wait:
		h.reapers = append(h.reapers, reaper{unique, c, pointer})
		h.mu.Unlock()
		return
	}
	h.mu.Unlock()
	h.bus.reply(unique, unix.EAGAIN)
}

// stopReaping takes a waiting REAPURB back. It reports whether there was one.
func (h *handle) stopReaping(unique uint64) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	for i, r := range h.reapers {
		if r.unique == unique {
			h.reapers = append(h.reapers[:i:i], h.reapers[i+1:]...)
			return true
		}
	}
	return false
}

// poll tells what is to be had, as usbdev_poll of the kernel does, and remembers who asked.
func (h *handle) poll(kernelHandle uint64, remember bool) uint32 {
	h.mu.Lock()
	defer h.mu.Unlock()
	var events uint32
	if len(h.done) > 0 {
		events |= unix.POLLOUT | pollWriteNormal
	}
	if h.port.isGone() {
		events |= unix.POLLHUP | unix.POLLERR
	}
	if events == 0 && remember {
		h.polls = append(h.polls, kernelHandle)
	}
	return events
}

// submit answers SUBMITURB.
func (h *handle) submit(c caller, address uint64) unix.Errno {
	b, err := c.read(address, urbSize)
	if err != nil {
		return unix.EFAULT
	}
	u := &urb{address: address}
	if _, err := binary.Decode(b, binary.NativeEndian, &u.urbIn); err != nil {
		return unix.EFAULT
	}
	if u.Length < 0 || u.Length > mostURB {
		return unix.EINVAL
	}
	u.buffer = u.Buffer
	t := &device.Transfer{Endpoint: u.Endpoint, Length: int(u.Length)}
	if errno := h.prepare(c, u, t); errno != 0 {
		return errno
	}
	t.Done = func(status unix.Errno, data []byte, n int) { h.completed(u, status, data, n) }
	u.transfer = t
	h.mu.Lock()
	h.pending[address] = u
	h.mu.Unlock()
	if !h.port.device.Submit(t) {
		h.mu.Lock()
		delete(h.pending, address)
		h.mu.Unlock()
		return unix.ENOENT
	}
	return 0
}

// prepare checks an URB and fetches what it sends.
func (h *handle) prepare(c caller, u *urb, t *device.Transfer) unix.Errno {
	switch u.Type {
	case typeControl:
		if u.Length < device.SetupLength {
			return unix.EINVAL
		}
		all, err := c.read(u.buffer, int(u.Length))
		if err != nil {
			return unix.EFAULT
		}
		t.Endpoint = 0
		t.Setup = device.ParseSetup([device.SetupLength]byte(all))
		if int(t.Setup.Length) > len(all)-device.SetupLength {
			return unix.EINVAL
		}
		u.buffer += device.SetupLength
		t.Data, t.Length = all[device.SetupLength:], int(t.Setup.Length)
		if t.Setup.ToHost() {
			t.Data = nil
		}
		return h.mayAsk(t.Setup)
	case typeBulk, typeInt:
		number, ok := h.port.device.InterfaceOf(u.Endpoint)
		if !ok {
			return unix.ENOENT
		}
		u.number, u.bound = number, true
		if errno := h.port.claim(h, number); errno != 0 {
			return errno
		}
		if u.Endpoint&0x80 == 0 {
			var err error
			if t.Data, err = c.read(u.buffer, int(u.Length)); err != nil {
				return unix.EFAULT
			}
		}
		return 0
	}
	return unix.EINVAL
}

// discard answers DISCARDURB.
func (h *handle) discard(address uint64) unix.Errno {
	h.mu.Lock()
	u := h.pending[address]
	h.mu.Unlock()
	if u == nil || !h.port.device.Cancel(u.transfer) {
		return unix.EINVAL
	}
	return 0
}

// cancelAll takes back what is pending: everything, or what belongs to one interface.
func (h *handle) cancelAll(of func(*urb) bool) {
	h.mu.Lock()
	var all []*urb
	for _, u := range h.pending {
		if of(u) {
			all = append(all, u)
		}
	}
	h.mu.Unlock()
	for _, u := range all {
		h.port.device.Cancel(u.transfer)
	}
}

// close is the end of the last reference to an open node.
func (h *handle) close() {
	h.mu.Lock()
	h.closed = true
	h.mu.Unlock()
	h.cancelAll(func(*urb) bool { return true })
	h.port.forget(h)
}

// hangUp wakes everybody who waits at the node of a device that is gone.
func (h *handle) hangUp() {
	h.mu.Lock()
	reapers, polls := h.reapers, h.polls
	h.reapers, h.polls = nil, nil
	h.mu.Unlock()
	for _, r := range reapers {
		h.bus.reply(r.unique, unix.ENODEV)
	}
	for _, k := range polls {
		h.bus.notify(k)
	}
}
