package pcsc

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"time"
)

// reader is one slot as PC/SC sees it.
//
// Two locks: driver is held around every call to the slot, and may be held for as long as a card takes; mu guards the
// rest and is never held while anything waits. driver is taken before mu.
type reader struct {
	m     *Manager
	name  string
	place int // on the board
	slot  Slot
	ctx   context.Context // ends when the reader is given up
	stop  context.CancelFunc
	done  chan struct{} // closed when the goroutine that watches the slot has ended

	driver driverLock

	mu       sync.Mutex
	gone     bool
	state    State
	atr      []byte
	powered  bool
	protocol Protocol // agreed with the card; undefined after every power action
	counter  uint32   // card movements
	sharing  int32    // -1 exclusive, else number of handles
	handles  []*handle
	owner    *handle // of the transaction lock
	depth    int     // how many times the owner has it
	queue    []*lockWait
	idle     *time.Timer // switches an unused card off

	barred      uint32 // the user whose transaction was ended last, see isBarred
	barredUntil time.Time
}

// handle is one connection (SCARDHANDLE). All fields but the constant ones are guarded by reader.mu.
type handle struct {
	id     Handle
	r      *reader
	client *client
	mode   ShareMode
	event  Error // ErrResetCard or ErrRemovedCard when that happened since the last (re)connect
	closed bool
}

func (r *reader) log() *slog.Logger { return r.m.log.With("reader", r.name) }

// publish puts r's state on the board; r.mu is held.
func (r *reader) publish() {
	if r.gone || r.place < 0 {
		return
	}
	r.m.board.update(r.place, r.published(), true)
}

// stopped reports whether the driver says that the card has stopped, see Stopper.
func (r *reader) stopped() bool {
	s, ok := r.slot.(Stopper)
	return ok && s.Stopped()
}

func (r *reader) published() published {
	return published{name: r.name, counter: r.counter, state: r.state, sharing: r.sharing, atr: r.atr, protocol: r.protocol}
}

// publishSharing is publish after a change of handles or protocol only; r.mu is held.
func (r *reader) publishSharing() {
	if !r.gone && r.place >= 0 {
		r.m.board.setSharing(r.place, r.sharing, r.protocol)
	}
}

// lockedByOther reports whether another handle than h has the transaction lock; r.mu is held.
func (r *reader) lockedByOther(h *handle) bool { return r.owner != nil && r.owner != h }

// alive is the common beginning of all calls on a handle: the handle lives and its reader too; r.mu is held.
func (h *handle) alive() Error {
	if h.closed {
		return ErrInvalidHandle
	}
	if h.r.gone {
		return ErrInvalidValue
	}
	return ErrSuccess
}

// mayExchange checks, in this order: handle, lock, reader, event (Transmit, GetAttrib, SetAttrib); r.mu is held.
func (h *handle) mayExchange() Error {
	switch e := h.alive(); {
	case e != ErrSuccess:
		return e
	case h.r.lockedByOther(h):
		return h.r.taken(h, "use the card")
	case h.r.state&Unknown != 0:
		return ErrReaderUnavailable
	}
	return h.event
}

// mayControl is mayExchange without the event: the reader can be talked to whatever became of the card.
func (h *handle) mayControl() Error {
	e := h.mayExchange()
	if e != ErrSuccess && e == h.event && !h.r.lockedByOther(h) {
		return ErrSuccess
	}
	return e
}

// locked performs check under r.mu.
func (h *handle) locked(check func() Error) Error {
	h.r.mu.Lock()
	defer h.r.mu.Unlock()
	return check()
}

// acquire takes the driver lock after check says so. While the driver is busy check is asked before and after, so that a
// refusal does not wait, and so that nothing slips into a transaction that began meanwhile. The wait ends with the client:
// ErrCancelled.
func (h *handle) acquire(check func() Error) Error {
	if !h.r.driver.TryLock() {
		if e := h.locked(check); e != ErrSuccess {
			return e
		}
		if !h.r.driver.lockFor(h.client) {
			return ErrCancelled
		}
	}
	e := h.locked(check)
	if e != ErrSuccess {
		h.r.driver.Unlock()
	}
	return e
}

// transmit exchanges one APDU; the answer is appended to reply[:0].
func (h *handle) transmit(protocol Protocol, command, reply []byte) ([]byte, Error) {
	r := h.r
	var active Protocol
	e := h.acquire(func() Error {
		if e := h.mayExchange(); e != ErrSuccess {
			return e
		}
		active = r.protocol
		switch {
		case protocol == ProtocolRaw:
			active = ProtocolRaw
		case active == ProtocolUndefined:
			return ErrProtoMismatch
		case protocol != active && protocol != ProtocolAnyOld:
			return ErrProtoMismatch
		}
		return ErrSuccess
	})
	if e != ErrSuccess {
		return nil, e
	}
	answer, err := r.slot.Transmit(r.ctx, uint32(active), command, reply)
	r.driver.Unlock()
	if err == nil {
		return answer, ErrSuccess
	}
	r.logError("transmit", err)
	switch driverCode(err) {
	case ErrorCodeNotPresent:
		r.cardLost()
		return nil, ErrNoSmartcard
	case ErrorCodeNoSuchDevice:
		r.m.rescan()
		return nil, ErrReaderUnavailable
	}
	return nil, ErrNotTransacted
}

func (h *handle) control(code uint32, in []byte, max int) ([]byte, Error) {
	if e := h.acquire(h.mayControl); e != ErrSuccess {
		return nil, e
	}
	r := h.r
	out, err := r.slot.Control(r.ctx, code, in, max)
	r.driver.Unlock()
	if err != nil {
		r.logError("control", err)
	}
	switch {
	case err == nil && len(out) > max:
		return nil, ErrInsufficientBuffer
	case err == nil:
		return out, ErrSuccess
	}
	switch driverCode(err) {
	case ErrorCodeNoSuchDevice:
		r.m.rescan()
		return nil, ErrReaderUnavailable
	case ErrorCodeUnsupported, ErrorCodeNotSupported, ErrorCodeTag:
		return nil, ErrUnsupportedFeature
	case ErrorCodeInsufficientBuffer:
		return nil, ErrInsufficientBuffer
	}
	return nil, ErrNotTransacted
}

// getAttrib reads an attribute; what the driver does not know and the manager does is answered here.
func (h *handle) getAttrib(id Attrib) ([]byte, Error) {
	if id == AttrDeviceFriendlyName || id == AttrDeviceSystemName { // no driver knows the name that PC/SC gave it
		if e := h.locked(h.mayExchange); e != ErrSuccess {
			return nil, e
		}
		return h.r.ownAttribute(id)
	}
	if e := h.acquire(h.mayExchange); e != ErrSuccess {
		return nil, e
	}
	r := h.r
	out, err := r.slot.Attribute(r.ctx, uint32(id))
	r.driver.Unlock()
	if err == nil {
		if len(out) > MaxBuffer {
			return nil, ErrInsufficientBuffer
		}
		return out, ErrSuccess
	}
	switch driverCode(err) {
	case ErrorCodeTag, ErrorCodeUnsupported, ErrorCodeNotSupported:
		return r.ownAttribute(id)
	case ErrorCodeInsufficientBuffer:
		return nil, ErrInsufficientBuffer
	case ErrorCodeNoSuchDevice:
		return nil, ErrReaderUnavailable
	}
	r.logError("reading attribute", err)
	return nil, ErrNotTransacted
}

func (r *reader) ownAttribute(id Attrib) ([]byte, Error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch id {
	case AttrDeviceFriendlyName, AttrDeviceSystemName:
		return append([]byte(r.name), 0), ErrSuccess
	case AttrAtrString:
		return slices.Clone(r.atr), ErrSuccess
	case AttrIccPresence:
		if r.state&Present != 0 {
			return []byte{2}, ErrSuccess
		}
		return []byte{0}, ErrSuccess
	}
	return nil, ErrUnsupportedFeature
}

func (h *handle) setAttrib(id Attrib, value []byte) Error {
	if e := h.acquire(h.mayExchange); e != ErrSuccess {
		return e
	}
	r := h.r
	err := r.slot.SetAttribute(r.ctx, uint32(id), value)
	r.driver.Unlock()
	if err == nil {
		return ErrSuccess
	}
	switch driverCode(err) {
	case ErrorCodeTag, ErrorCodeUnsupported, ErrorCodeNotSupported:
		return ErrUnsupportedFeature
	case ErrorCodeNoSuchDevice:
		return ErrReaderUnavailable
	}
	r.logError("writing attribute", err)
	return ErrNotTransacted
}

// status checks lock, event, reader, in this order.
func (h *handle) status() (CardStatus, Error) {
	r := h.r
	r.mu.Lock()
	defer r.mu.Unlock()
	switch e := h.alive(); {
	case e != ErrSuccess:
		return CardStatus{}, e
	case r.lockedByOther(h):
		return CardStatus{}, r.taken(h, "ask for the status")
	case h.event != ErrSuccess:
		return CardStatus{}, h.event
	case r.state&Unknown != 0:
		return CardStatus{}, ErrReaderUnavailable
	}
	return CardStatus{Reader: r.name, State: r.state, EventCounter: uint16(r.counter), ActiveProtocol: r.protocol,
		Atr: slices.Clone(r.atr)}, ErrSuccess
}

// tell sets the pending event on all handles and ends the waits of those that now have one; r.mu is held.
func (r *reader) tell(event Error) {
	for _, h := range r.handles {
		h.event = event
	}
	r.wakeAll(func(w *lockWait) (Error, bool) { return event, w.begin })
}

// driverCode is the IFD handler number of a driver's error.
func driverCode(err error) int {
	var coded interface{ IFDCode() int }
	switch {
	case errors.As(err, &coded):
		return coded.IFDCode()
	case errors.Is(err, errors.ErrUnsupported):
		return ErrorCodeUnsupported
	}
	return ErrorCodeCommunication
}

// logError logs a driver's error; never with data of the exchange.
func (r *reader) logError(doing string, err error) {
	r.log().Debug(doing, "err", err, "ifd", driverCode(err))
}
