package usbfs

import (
	"errors"
	"fmt"
	"strconv"

	"golang.org/x/sys/unix"
)

// Nodes of the file system: the root, the directory of the one bus, and a file for each device, numbered after it.
const (
	busNode   = 2
	firstNode = 0x100
	busName   = "001"
)

func deviceNode(number int) uint64 { return firstNode + uint64(number) }

// serve answers the kernel until the file system is unmounted.
func (b *Bus) serve() {
	defer b.serving.Done()
	buffer := make([]byte, requestSize)
	for {
		n, err := unix.Read(b.fuse, buffer)
		switch {
		case errors.Is(err, unix.EINTR), errors.Is(err, unix.EAGAIN), errors.Is(err, unix.ENOENT):
			continue
		case errors.Is(err, unix.ENODEV):
			return
		case err != nil:
			b.complain("reading from the kernel", err)
			return
		}
		r, err := parseRequest(append([]byte(nil), buffer[:n]...))
		if err == nil {
			err = b.answer(r)
		}
		if err != nil {
			b.complain("a request of the kernel", err)
			if r != nil {
				b.reply(r.Unique, unix.EIO)
			}
		}
	}
}

// answer handles one request. What can wait goes on in goroutines of its own. An error is one of the protocol.
func (b *Bus) answer(r *request) error {
	switch r.Opcode {
	case opInit:
		var in initIn
		if _, err := r.decode(&in); err != nil {
			return err
		}
		b.reply(r.Unique, 0, initOut{
			Major: protocolMajor, Minor: protocolMinor, MaxReadahead: in.MaxReadahead,
			MaxBackground: 64, CongestionThreshold: 48, MaxWrite: 65536, TimeGran: 1,
		})
	case opLookup:
		b.lookup(r)
	case opGetattr, opSetattr:
		a, ok := b.attr(r.Node)
		if !ok {
			b.reply(r.Unique, unix.ENOENT)
			break
		}
		b.reply(r.Unique, 0, attrOut{Attr: a})
	case opOpendir:
		b.reply(r.Unique, 0, openOut{Flags: openDirect})
	case opReaddir:
		return b.readdir(r)
	case opOpen:
		b.open(r)
	case opRead:
		return b.read(r)
	case opIoctl:
		return b.ioctl(r)
	case opPoll:
		return b.poll(r)
	case opInterrupt:
		var in interruptIn
		if _, err := r.decode(&in); err != nil {
			return err
		}
		b.interrupt(in.Unique)
	case opRelease:
		return b.release(r)
	case opReleasedir:
		b.reply(r.Unique, 0)
	case opStatfs:
		b.reply(r.Unique, 0, make([]byte, 80))
	case opForget, opBatchForget: // no answer is wanted
	default:
		// FLUSH is among these: once refused it is never sent again, so that closing a node does not wait for this
		// server, which a process that serves itself could not stand at its end.
		b.reply(r.Unique, unix.ENOSYS)
	}
	return nil
}

func (b *Bus) lookup(r *request) {
	var node uint64
	switch {
	case r.Node == rootNode && r.name() == busName:
		node = busNode
	case r.Node == busNode:
		if number, err := strconv.Atoi(r.name()); err == nil && fmt.Sprintf("%03d", number) == r.name() {
			node = deviceNode(number)
		}
	}
	a, ok := b.attr(node)
	if !ok {
		b.reply(r.Unique, unix.ENOENT)
		return
	}
	b.reply(r.Unique, 0, entryOut{Node: node, Attr: a})
}

// attr describes a node. A device's node is a regular file: a device file would be opened by the kernel's own usbfs.
func (b *Bus) attr(node uint64) (attr, bool) {
	a := attr{Node: node, Mode: unix.S_IFDIR | 0o755, Nlink: 2, BlockSize: 4096}
	if node == rootNode || node == busNode {
		return a, true
	}
	port := b.portOf(node)
	if port == nil {
		return attr{}, false
	}
	a.Mode, a.Nlink = unix.S_IFREG|0o664, 1
	return a, true
}

func (b *Bus) portOf(node uint64) *Port {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, p := range b.ports {
		if deviceNode(p.number) == node {
			return p
		}
	}
	return nil
}

// readdir lists a directory in one answer: it is never longer than one asks for.
func (b *Bus) readdir(r *request) error {
	var in readIn
	if _, err := r.decode(&in); err != nil {
		return err
	}
	var list []byte
	add := func(node uint64, name string) {
		list = encode(list, direntHeader{Node: node, Offset: node, NameLen: uint32(len(name))}, []byte(name))
		for len(list)%8 != 0 {
			list = append(list, 0)
		}
	}
	switch {
	case in.Offset != 0:
	case r.Node == rootNode:
		add(busNode, busName)
	case r.Node == busNode:
		b.mu.Lock()
		for _, p := range b.ports {
			add(deviceNode(p.number), fmt.Sprintf("%03d", p.number))
		}
		b.mu.Unlock()
	}
	b.reply(r.Unique, 0, list)
	return nil
}

func (b *Bus) open(r *request) {
	port := b.portOf(r.Node)
	if port == nil {
		b.reply(r.Unique, unix.ENODEV)
		return
	}
	if port.denied.Load() {
		b.reply(r.Unique, unix.EACCES)
		return
	}
	b.mu.Lock()
	b.lastHandle++
	number := b.lastHandle
	b.handles[number] = newHandle(b, port)
	b.mu.Unlock()
	b.reply(r.Unique, 0, openOut{Handle: number, Flags: openDirect})
}

func (b *Bus) handle(number uint64) (*handle, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	h := b.handles[number]
	if h == nil {
		return nil, fmt.Errorf("handle %d is not open", number)
	}
	return h, nil
}

// read gives the device's and the configuration's descriptor, as the kernel's usbfs does.
func (b *Bus) read(r *request) error {
	var in readIn
	if _, err := r.decode(&in); err != nil {
		return err
	}
	h, err := b.handle(in.Handle)
	if err != nil {
		return err
	}
	if h.port.isGone() {
		b.reply(r.Unique, unix.ENODEV)
		return nil
	}
	all := h.port.descriptors()
	from := min(in.Offset, uint64(len(all)))
	b.reply(r.Unique, 0, all[from:min(from+uint64(in.Size), uint64(len(all)))])
	return nil
}

func (b *Bus) release(r *request) error {
	var in releaseIn
	if _, err := r.decode(&in); err != nil {
		return err
	}
	h, err := b.handle(in.Handle)
	if err != nil {
		return err
	}
	b.mu.Lock()
	delete(b.handles, in.Handle)
	b.mu.Unlock()
	b.reply(r.Unique, 0)
	h.close()
	return nil
}

func (b *Bus) poll(r *request) error {
	var in pollIn
	if _, err := r.decode(&in); err != nil {
		return err
	}
	h, err := b.handle(in.Handle)
	if err != nil {
		return err
	}
	b.reply(r.Unique, 0, pollOut{Events: h.poll(in.KernelHandle, in.Flags&pollWanted != 0)})
	return nil
}

// interrupt ends a REAPURB that waits: a signal has come for the caller.
func (b *Bus) interrupt(unique uint64) {
	b.mu.Lock()
	all := make([]*handle, 0, len(b.handles))
	for _, h := range b.handles {
		all = append(all, h)
	}
	b.mu.Unlock()
	for _, h := range all {
		if h.stopReaping(unique) {
			b.reply(unique, unix.EINTR)
			return
		}
	}
}
