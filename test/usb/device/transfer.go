package device

import (
	"context"
	"errors"

	"golang.org/x/sys/unix"
)

// Transfer is one transfer as the host's software asks for it (an URB).
type Transfer struct {
	Endpoint byte   // with its direction bit; 0 for a control transfer of either direction
	Setup    Setup  // of a control transfer
	Data     []byte // to the device
	Length   int    // from the device: bytes that fit

	// Done is called once, by any goroutine, when the transfer is over: with the error as Linux's host controllers give
	// it, or 0, and with what came from the device. n is the number of bytes moved in either direction.
	Done func(status unix.Errno, data []byte, n int)

	got []byte
}

// statusGone ends the transfers of a device that is pulled out; statusCancelled those that the host took back.
const (
	statusGone      = unix.ESHUTDOWN
	statusCancelled = unix.ENOENT
)

// pipe is one endpoint with the transfers that wait for it. One goroutine at a time works at a pipe, and only while
// there is something to do.
type pipe struct {
	device    *Device
	endpoint  byte
	maxPacket int

	// Under the device's lock.
	queue   []*Transfer
	running bool
	cancel  context.CancelFunc // of an OUT or control transfer that the function has in hands
	packets [][]byte           // from the function, not yet fetched by a transfer
	halted  bool
}

// Submit queues a transfer. It reports whether there is such an endpoint; if not, Done is not called.
func (d *Device) Submit(t *Transfer) bool {
	d.mu.Lock()
	p := d.pipes[t.Endpoint]
	if p == nil {
		d.mu.Unlock()
		return false
	}
	if d.gone {
		d.mu.Unlock()
		t.Done(statusGone, nil, 0)
		return true
	}
	p.queue = append(p.queue, t)
	if !p.running {
		p.running = true
		d.work.Add(1)
		go p.run()
	}
	d.mu.Unlock()
	return true
}

// Cancel takes a transfer back, which then ends with ENOENT and what it had got so far. It reports false when the
// transfer is over already.
func (d *Device) Cancel(t *Transfer) bool {
	d.mu.Lock()
	for _, p := range d.pipes {
		for i, queued := range p.queue {
			if queued != t {
				continue
			}
			p.queue = append(p.queue[:i:i], p.queue[i+1:]...)
			if i == 0 && p.cancel != nil {
				p.cancel()
			}
			d.mu.Unlock()
			t.Done(statusCancelled, t.got, len(t.got))
			return true
		}
	}
	d.mu.Unlock()
	return false
}

// takeAll empties all queues, under the lock.
func (d *Device) takeAll() []*Transfer {
	var all []*Transfer
	for _, p := range d.pipes {
		all = append(all, p.queue...)
		p.queue = nil
		if p.cancel != nil {
			p.cancel()
		}
	}
	return all
}

func finish(all []*Transfer, status unix.Errno) {
	for _, t := range all {
		t.Done(status, t.got, len(t.got))
	}
}

// run works at a pipe until nothing waits.
func (p *pipe) run() {
	d := p.device
	defer d.work.Done()
	d.mu.Lock()
	for len(p.queue) > 0 {
		switch {
		case p.halted:
			p.end(p.queue[0], unix.EPIPE, nil, 0)
		case p.endpoint == controlPipe || p.endpoint&toHost == 0:
			p.send()
		case len(p.packets) > 0:
			p.fill()
		default:
			p.fetch()
		}
	}
	p.running = false
	d.mu.Unlock()
}

// end takes a transfer out of the queue, if it is still there, and finishes it. The lock is given up meanwhile.
func (p *pipe) end(t *Transfer, status unix.Errno, data []byte, n int) {
	mine := len(p.queue) > 0 && p.queue[0] == t
	if mine {
		p.queue = p.queue[1:]
	}
	p.device.mu.Unlock()
	if mine {
		t.Done(status, data, n)
	}
	p.device.mu.Lock()
}

// send gives the first transfer to the function. The lock is given up meanwhile.
func (p *pipe) send() {
	t, d := p.queue[0], p.device
	ctx, cancel := context.WithCancel(d.ctx)
	p.cancel = cancel
	d.mu.Unlock()
	var answer []byte
	var err error
	n := len(t.Data)
	if p.endpoint == controlPipe {
		answer, err = d.control(ctx, t.Setup, t.Data)
		if t.Setup.ToHost() {
			answer = answer[:min(len(answer), t.Length)]
			n = len(answer)
		} else {
			answer = nil
		}
	} else {
		err = d.function.Out(ctx, p.endpoint, t.Data)
	}
	cancel()
	d.mu.Lock()
	p.cancel = nil
	if err != nil {
		p.halted = p.endpoint != controlPipe && errors.Is(err, ErrStall)
		p.end(t, statusOf(err), nil, 0)
		return
	}
	p.end(t, 0, answer, n)
}

// fetch asks the function for a message and cuts it into packets. The lock is given up meanwhile: transfers may be
// cancelled and new ones come; the message is for whichever waits then.
func (p *pipe) fetch() {
	d := p.device
	ctx := d.ctx
	d.mu.Unlock()
	message, err := d.function.In(ctx, p.endpoint)
	d.mu.Lock()
	switch {
	case ctx.Err() != nil:
	case err != nil:
		p.halted = errors.Is(err, ErrStall)
		if len(p.queue) > 0 {
			p.end(p.queue[0], statusOf(err), p.queue[0].got, len(p.queue[0].got))
		}
	default:
		p.packets = append(p.packets, p.cut(message)...)
	}
}

// cut makes packets of a message: USB 2.0, 5.8.3.
func (p *pipe) cut(message []byte) [][]byte {
	var all [][]byte
	for len(message) > p.maxPacket {
		all = append(all, message[:p.maxPacket])
		message = message[p.maxPacket:]
	}
	all = append(all, message)
	if len(message) == p.maxPacket && !p.device.NoZeroPacket {
		all = append(all, nil)
	}
	return all
}

// fill moves packets into the first transfer until it is full or a short packet ends it.
func (p *pipe) fill() {
	t := p.queue[0]
	for len(p.packets) > 0 {
		packet := p.packets[0]
		p.packets = p.packets[1:]
		room := t.Length - len(t.got)
		t.got = append(t.got, packet[:min(len(packet), room)]...)
		switch {
		case len(packet) > room:
			p.end(t, unix.EOVERFLOW, t.got, len(t.got))
			return
		case len(packet) < p.maxPacket || len(packet) == room:
			p.end(t, 0, t.got, len(t.got))
			return
		}
	}
}

// statusOf is what a host controller reports for a function's error.
func statusOf(err error) unix.Errno {
	switch {
	case errors.Is(err, ErrStall):
		return unix.EPIPE
	case errors.Is(err, ErrBabble):
		return unix.EOVERFLOW
	}
	return unix.EPROTO
}
