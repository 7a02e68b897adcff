package ccidtest

import (
	"context"
	"encoding/binary"
	"fmt"
	"sync"
	"time"

	"pam_pkcs11/ccid/device"
	"pam_pkcs11/ccid/message"
)

// Device is a simulated USB device. Its methods may be called from any goroutine.
type Device struct {
	profile Profile

	mu        sync.Mutex // guards the fields below, and everything of readers and pipes
	readers   []*reader
	pipes     map[byte]*pipe  // IN endpoints by address
	half      map[byte][]byte // OUT endpoints: the beginning of a message
	faults    []Fault
	gone      chan struct{} // closed by Unplug
	unplugged bool
	counts    Counts
}

// Counts are numbers of what has happened to a Device.
type Counts struct {
	Messages   int // messages of the host on bulk endpoints
	Exchanges  int // of these, XfrBlock and Secure: those that go on to a card
	Aborts     int // ABORT control requests
	Resets     int // resets of the device
	Reclaims   int // interfaces claimed anew
	Violations int // messages that a reader of this kind must not get
}

// New makes a device. The cards come later, by Insert.
func New(p Profile) *Device {
	d := &Device{
		profile: p,
		pipes:   map[byte]*pipe{},
		half:    map[byte][]byte{},
		gone:    make(chan struct{}),
	}
	for i := range d.profile.Interfaces {
		in := &d.profile.Interfaces[i]
		d.readers = append(d.readers, newReader(d, in))
		if in.bulk() {
			d.pipes[in.bulkIn()] = newPipe()
		}
		if in.Interrupt {
			d.pipes[in.interrupt()] = newPipe()
		}
	}
	return d
}

// Info is what a host knows of the device beside its interfaces.
func (d *Device) Info() device.Info {
	info := d.profile.Info
	info.Configuration = d.profile.configurationValue()
	return info
}

// Descriptor is the device descriptor.
func (d *Device) Descriptor() []byte { return d.profile.Descriptor() }

// Configuration is the configuration descriptor with all that belongs to it.
func (d *Device) Configuration() []byte { return d.profile.Configuration() }

// Counts returns the numbers so far.
func (d *Device) Counts() Counts {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.counts
}

// Unplug removes the device: every call, also one in progress, ends with device.ErrGone.
func (d *Device) Unplug() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.unplug()
}

// unplug is Unplug. The caller holds d.mu.
func (d *Device) unplug() {
	if !d.unplugged {
		d.unplugged = true
		close(d.gone)
	}
}

// Insert puts a card into a slot of the interface with that number, and notifies the host if the
// reader can. A card that was there is taken out first.
func (d *Device) Insert(number byte, slot int, card Card) { d.move(number, slot, card) }

// Remove takes the card out.
func (d *Device) Remove(number byte, slot int) { d.move(number, slot, nil) }

// move puts a card into a slot; nil takes it out.
func (d *Device) move(number byte, slot int, card Card) {
	d.mu.Lock()
	defer d.mu.Unlock()
	r := d.reader(number)
	// A mistake of the test, for which no error is worth checking.
	if r == nil || slot < 0 || slot >= len(r.slots) {
		panic(fmt.Sprintf("ccidtest: no slot %d on interface %d", slot, number))
	}

	r.slots[slot].insert(card)
	r.notify(slot)
}

// Notify puts raw bytes on the interrupt endpoint of an interface.
func (d *Device) Notify(number byte, raw []byte) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if r := d.reader(number); r != nil && r.in.Interrupt {
		d.pipes[r.in.interrupt()].put(Transfer{Data: raw})
	}
}

// Inject makes things go wrong: the faults are tried in order at each exchange, see Fault.
func (d *Device) Inject(faults ...Fault) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.faults = append(d.faults, faults...)
}

// Habits changes the habits of a slot. They take effect at once, those of the protocols with the
// next reset.
func (d *Device) Habits(number byte, slot int, change func(*Habits)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	change(&d.reader(number).slots[slot].Habits)
}

// Escapes sets the function that answers escape commands of an interface; not ok is "command not
// supported".
func (d *Device) Escapes(
	number byte, answer func(slot int, command []byte) (data []byte, ok bool),
) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.reader(number).escape = answer
}

// reader finds the interface with a number. The caller holds d.mu.
func (d *Device) reader(number byte) *reader {
	for _, r := range d.readers {
		if r.in.Number == number {
			return r
		}
	}
	return nil
}

// Out takes one transfer on an OUT endpoint, as from a host controller: all of data, or an error. A
// message may come in several transfers.
func (d *Device) Out(ctx context.Context, endpoint byte, data []byte) (int, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}

	d.mu.Lock()
	defer d.mu.Unlock()
	if d.unplugged {
		return 0, device.ErrGone
	}

	for _, r := range d.readers {
		if r.in.bulk() && r.in.bulkOut() == endpoint {
			return len(data), d.take(r, data)
		}
	}
	return 0, device.ErrStall
}

// take collects messages and performs those that are complete. The caller holds d.mu.
func (d *Device) take(r *reader, data []byte) error {
	endpoint := r.in.bulkOut()
	all := append(d.half[endpoint], data...)
	for len(all) >= headerLength {
		length := uint64(headerLength) + uint64(binary.LittleEndian.Uint32(all[1:]))
		if length > maxMessage {
			d.counts.Violations++
			all = nil
			break
		}

		if uint64(len(all)) < length {
			break
		}

		d.counts.Messages++
		kind := message.Type(all[0])
		if kind == message.TypeXfrBlock || kind == message.TypeSecure {
			d.counts.Exchanges++
		}

		whole := all[:length:length]
		all = all[length:]
		// A slow card must not hold d.mu: the host could not even pull it.
		if r.slow(whole) {
			go d.exchangeSlowly(r, whole)
			continue
		}

		err := d.exchange(r, whole)
		if err != nil {
			d.half[endpoint] = nil
			return err
		}
	}

	d.half[endpoint] = append([]byte(nil), all...)
	return nil
}

// maxMessage bounds what a host may send in one message.
const maxMessage = 1 << 17

// exchange performs a message and puts the answers on the IN endpoint, as the faults have changed
// them.
func (d *Device) exchange(r *reader, message []byte) error {
	x := &Exchange{Request: message, device: d, reader: r}
	for _, answer := range r.handle(message) {
		x.Answers = append(x.Answers, Transfer{Data: answer})
	}

	// At most one fault is done with an exchange; those behind it wait for a later one.
	for i := 0; i < len(d.faults); i++ {
		if d.faults[i](x) {
			d.faults = append(d.faults[:i:i], d.faults[i+1:]...)
			break
		}
	}

	for _, t := range x.Answers {
		d.put(r.in.bulkIn(), t)
	}

	if d.unplugged {
		return device.ErrGone
	}
	return x.Refuse
}

// extensionInterval is how often a reader asks for time while a card works.
const extensionInterval = 500 * time.Millisecond

// exchangeSlowly performs a message while the device continues with others. A Fault that refuses
// the message comes too late for that: the answer is left out.
func (d *Device) exchangeSlowly(r *reader, m []byte) {
	// Deferred calls run in reverse: done is closed when the answer is queued.
	done := make(chan struct{})
	defer close(done)
	go d.extend(r, m, done)

	d.mu.Lock()
	defer d.mu.Unlock()
	_ = d.exchange(r, m)
}

// extend asks the host for time until done is closed.
func (d *Device) extend(r *reader, m []byte, done <-chan struct{}) {
	kind := m[0]
	number := m[5]
	seq := m[6]

	tick := time.NewTicker(extensionInterval)
	defer tick.Stop()

	for {
		select {
		case <-done:
			return
		case <-d.gone:
			return
		case <-tick.C:
		}

		d.mu.Lock()
		// The command may have ended between the tick and the lock.
		if s := r.slots[number]; s.busy {
			const moreTime, multiplier = 0x80, 1
			d.put(r.in.bulkIn(), Transfer{
				Data: answer(answerKind(kind), number, seq, moreTime|s.icc(), multiplier, 0, nil),
			})
		}
		d.mu.Unlock()
	}
}

// put queues a transfer, later if t says so. The caller holds d.mu.
func (d *Device) put(endpoint byte, t Transfer) {
	p := d.pipes[endpoint]
	if t.After <= 0 {
		p.put(t)
		return
	}
	time.AfterFunc(t.After, func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		p.put(t)
	})
}

// In performs one transfer on an IN endpoint: it waits until the device has data, and fills p with
// it. What does not fit into p comes with the next transfer.
func (d *Device) In(ctx context.Context, endpoint byte, p []byte) (int, error) {
	d.mu.Lock()
	pipe := d.pipes[endpoint]
	d.mu.Unlock()
	if pipe == nil {
		return 0, device.ErrStall
	}

	for {
		d.mu.Lock()
		n, err, ok := pipe.take(p)
		unplugged := d.unplugged
		d.mu.Unlock()

		switch {
		case unplugged:
			return 0, device.ErrGone
		case ok:
			return n, err
		}

		// Unplug closes gone; what it means is decided above, under the lock.
		select {
		case <-pipe.ready:
		case <-d.gone:
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
}

// pipe is the queue of an IN endpoint. Device.mu guards it.
type pipe struct {
	queue  []Transfer
	halted bool
	ready  chan struct{} // holds one element when a waiting In should look again
}

func newPipe() *pipe { return &pipe{ready: make(chan struct{}, 1)} }

// put queues a transfer.
func (p *pipe) put(t Transfer) {
	p.queue = append(p.queue, t)
	p.wake()
}

// wake makes a waiting In look again.
func (p *pipe) wake() {
	select {
	case p.ready <- struct{}{}:
	default:
	}
}

// take removes the first transfer of the queue; not ok when there is none.
func (p *pipe) take(buf []byte) (n int, err error, ok bool) {
	if p.halted {
		return 0, device.ErrStall, true
	}

	if len(p.queue) == 0 {
		return 0, nil, false
	}

	t := &p.queue[0]
	if t.Err != nil {
		err = t.Err
		p.halted = err == device.ErrStall
		p.queue = p.queue[1:]
		return 0, err, true
	}

	// A transfer that is longer than the buffer is continued by the next one, as on a real bus.
	n = copy(buf, t.Data)
	if n < len(t.Data) {
		t.Data = t.Data[n:]
	} else {
		p.queue = p.queue[1:]
	}
	// One element of ready stands for the whole queue: wake whoever waits for the rest.
	if len(p.queue) > 0 {
		p.wake()
	}
	return n, nil, true
}

// clear drops a halt and everything queued.
func (p *pipe) clear() {
	p.queue = nil
	p.halted = false
}
