package resmgr

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"time"

	"pam_pkcs11/pcsc"
	"pam_pkcs11/pcsc/internal/unlocked"
)

// reader is one slot as PC/SC sees it.
//
// It has two locks. driver is held around every call to the slot, for as long as a card takes. mu
// guards the fields below it, and is never held while anything waits. driver is taken before mu.
type reader struct {
	m     *Manager
	name  string
	place int // among the reader states
	slot  pcsc.Slot
	ctx   context.Context // ends when the reader is given up
	stop  context.CancelFunc
	done  chan struct{} // closed when the goroutine that watches the slot has ended

	driver driverLock

	mu       sync.Mutex // guards the fields below
	gone     bool
	state    pcsc.State
	atr      []byte
	powered  bool
	protocol pcsc.Protocol // agreed with the card; undefined after every power action
	counter  uint32        // card movements
	sharing  int32         // -1 exclusive, else number of handles
	handles  []*Connection
	owner    *Connection // who has the transaction lock
	depth    int         // how many times the owner has it
	queue    []*lockWait
	idle     *time.Timer // switches an unused card off

	unlocked unlocked.PINs[*Connection] // verified since the card was last reset

	barred      uint32 // the user whose transaction was ended by force last, see isBarred
	barredUntil time.Time
}

// Connection is a client's connection to a reader (SCARDHANDLE). All fields but the constant ones
// are guarded by reader.mu.
type Connection struct {
	id     pcsc.Handle
	r      *reader
	client *Client
	mode   pcsc.ShareMode
	event  pcsc.Error // ErrResetCard or ErrRemovedCard, since the last (re)connect
	closed bool
}

// ID is the number of the connection.
func (h *Connection) ID() pcsc.Handle { return h.id }

// Reader is the name of the reader.
func (h *Connection) Reader() string { return h.r.name }

func (r *reader) log() *slog.Logger { return r.m.log.With("reader", r.name) }

// publish writes r's state among the reader states; r.mu is held.
func (r *reader) publish() {
	if r.gone || r.place < 0 {
		return
	}
	r.m.states.update(r.place, r.published())
}

// stopped reports whether the card has stopped, see pcsc.Stopper.
func (r *reader) stopped() bool {
	s, ok := r.slot.(pcsc.Stopper)
	return ok && s.Stopped()
}

func (r *reader) published() pcsc.ReaderInfo {
	return pcsc.ReaderInfo{
		Name:         r.name,
		EventCounter: r.counter,
		State:        r.state,
		Sharing:      r.sharing,
		ATR:          r.atr,
		Protocol:     r.protocol,
	}
}

// publishSharing is publish after a change of handles or protocol only; r.mu is held.
func (r *reader) publishSharing() {
	if !r.gone && r.place >= 0 {
		r.m.states.setSharing(r.place, r.sharing, r.protocol)
	}
}

// lockedByOther reports whether a handle other than h has the transaction lock; r.mu is held.
func (r *reader) lockedByOther(h *Connection) bool { return r.owner != nil && r.owner != h }

// alive checks what all calls on a handle need: that it is open, and its
// reader there; r.mu is held.
func (h *Connection) alive() pcsc.Error {
	if h.closed {
		return pcsc.ErrInvalidHandle
	}
	if h.r.gone {
		return pcsc.ErrInvalidValue
	}
	return pcsc.ErrSuccess
}

// mayExchange checks, in this order: handle, lock, reader, event (Transmit, GetAttrib,
// SetAttrib); r.mu is held.
func (h *Connection) mayExchange() pcsc.Error {
	switch e := h.alive(); {
	case e != pcsc.ErrSuccess:
		return e
	case h.r.lockedByOther(h):
		return h.r.sharingViolation(h, "use the card")
	case h.r.state&pcsc.Unknown != 0:
		return pcsc.ErrReaderUnavailable
	}
	return h.event
}

// mayControl is mayExchange without the event: the reader can be talked to
// whatever became of the card.
func (h *Connection) mayControl() pcsc.Error {
	e := h.mayExchange()
	if e != pcsc.ErrSuccess && e == h.event && !h.r.lockedByOther(h) {
		return pcsc.ErrSuccess
	}
	return e
}

// locked performs check under r.mu.
func (h *Connection) locked(check func() pcsc.Error) pcsc.Error {
	h.r.mu.Lock()
	defer h.r.mu.Unlock()
	return check()
}

// acquire takes the driver lock if check allows it. While the driver is busy check is asked before
// and after the wait, so that a refusal does not wait, and no call gets into a transaction that
// began meanwhile. The wait ends with the client: ErrCancelled.
func (h *Connection) acquire(check func() pcsc.Error) pcsc.Error {
	if !h.r.driver.TryLock() {
		if e := h.locked(check); e != pcsc.ErrSuccess {
			return e
		}
		if !h.r.driver.lockFor(h.client.ctx, h.client.onWait) {
			return pcsc.ErrCancelled
		}
	}

	// A transaction that begins after this waits with its first command for the driver lock.
	e := h.locked(check)
	if e != pcsc.ErrSuccess {
		h.r.driver.Unlock()
	}
	return e
}

// Transmit exchanges one APDU; the answer is appended to reply[:0].
func (h *Connection) Transmit(protocol pcsc.Protocol, command, reply []byte) ([]byte, pcsc.Error) {
	r := h.r

	var active pcsc.Protocol
	e := h.acquire(func() pcsc.Error {
		if e := h.mayExchange(); e != pcsc.ErrSuccess {
			return e
		}

		active = r.protocol
		switch {
		case protocol == pcsc.ProtocolRaw:
			active = pcsc.ProtocolRaw
		case active == pcsc.ProtocolUndefined:
			return pcsc.ErrProtoMismatch
		case protocol != active && protocol != pcsc.ProtocolAnyOld:
			return pcsc.ErrProtoMismatch
		}
		return pcsc.ErrSuccess
	})
	if e != pcsc.ErrSuccess {
		return nil, e
	}

	// The note comes before the driver lock is released: a reset by somebody else must not fall
	// between the command and it.
	answer, err := r.slot.Transmit(r.ctx, uint32(active), command, reply)
	if unlocked.Concerns(command) {
		r.noteUnlocking(h, command, answer, err)
	}
	r.driver.Unlock()

	if err == nil {
		return answer, pcsc.ErrSuccess
	}

	r.logError("transmit", err)
	switch driverCode(err) {
	case pcsc.ErrorCodeNotPresent:
		r.cardLost()
		return nil, pcsc.ErrNoSmartcard
	case pcsc.ErrorCodeNoSuchDevice:
		// The driver may not know yet that its reader was unplugged.
		r.m.rescan()
		return nil, pcsc.ErrReaderUnavailable
	}
	return nil, pcsc.ErrNotTransacted
}

// noteUnlocking records that a command of h has opened the card, or locked it; r.driver is held. A
// command whose answer was lost (err) may have opened it. Where h was closed meanwhile no program
// is left to lock the card, and it is reset.
func (r *reader) noteUnlocking(h *Connection, command, answer []byte, err error) {
	r.mu.Lock()
	opened := false
	if err == nil {
		opened = r.unlocked.Note(h, command, answer)
	} else {
		opened = r.unlocked.NoteLost(h, command)
	}
	abandoned := opened && h.closed
	r.mu.Unlock()

	if abandoned {
		r.power(pcsc.ResetCard)
	}
}

// Control performs a reader command, whose answer has room for max bytes.
func (h *Connection) Control(code uint32, in []byte, max int) ([]byte, pcsc.Error) {
	if e := h.acquire(h.mayControl); e != pcsc.ErrSuccess {
		return nil, e
	}

	r := h.r
	out, err := r.slot.Control(r.ctx, code, in, max)
	// The answer of a PIN pad is the card's status word, and nothing else.
	if command := unlocked.PadCommand(in); command != nil && (err != nil || len(out) == 2) {
		r.noteUnlocking(h, command, out, err)
	}
	r.driver.Unlock()
	if err != nil {
		r.logError("control", err)
	}

	switch {
	case err == nil && len(out) > max:
		return nil, pcsc.ErrInsufficientBuffer
	case err == nil:
		return out, pcsc.ErrSuccess
	}

	switch driverCode(err) {
	case pcsc.ErrorCodeNoSuchDevice:
		r.m.rescan()
		return nil, pcsc.ErrReaderUnavailable
	case pcsc.ErrorCodeUnsupported, pcsc.ErrorCodeNotSupported, pcsc.ErrorCodeTag:
		return nil, pcsc.ErrUnsupportedFeature
	case pcsc.ErrorCodeInsufficientBuffer:
		return nil, pcsc.ErrInsufficientBuffer
	}
	return nil, pcsc.ErrNotTransacted
}

// GetAttrib reads an attribute; what the driver does not know and the manager
// does is answered here.
func (h *Connection) GetAttrib(id pcsc.Attrib) ([]byte, pcsc.Error) {
	// No driver knows the name that PC/SC gave its reader.
	if id == pcsc.AttrDeviceFriendlyName || id == pcsc.AttrDeviceSystemName {
		if e := h.locked(h.mayExchange); e != pcsc.ErrSuccess {
			return nil, e
		}
		return h.r.ownAttribute(id)
	}

	if e := h.acquire(h.mayExchange); e != pcsc.ErrSuccess {
		return nil, e
	}

	r := h.r
	out, err := r.slot.Attribute(r.ctx, uint32(id))
	r.driver.Unlock()

	if err == nil {
		if len(out) > pcsc.MaxBuffer {
			return nil, pcsc.ErrInsufficientBuffer
		}
		return out, pcsc.ErrSuccess
	}

	switch driverCode(err) {
	case pcsc.ErrorCodeTag, pcsc.ErrorCodeUnsupported, pcsc.ErrorCodeNotSupported:
		return r.ownAttribute(id)
	case pcsc.ErrorCodeInsufficientBuffer:
		return nil, pcsc.ErrInsufficientBuffer
	case pcsc.ErrorCodeNoSuchDevice:
		return nil, pcsc.ErrReaderUnavailable
	}

	r.logError("reading attribute", err)
	return nil, pcsc.ErrNotTransacted
}

// ownAttribute answers attributes of which the manager knows the value itself.
func (r *reader) ownAttribute(id pcsc.Attrib) ([]byte, pcsc.Error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch id {
	case pcsc.AttrDeviceFriendlyName, pcsc.AttrDeviceSystemName:
		return append([]byte(r.name), 0), pcsc.ErrSuccess
	case pcsc.AttrATRString:
		return slices.Clone(r.atr), pcsc.ErrSuccess
	case pcsc.AttrICCPresence:
		// 2: present, and swallowed if the reader can do that; 1 would be present but not
		// swallowed (PC/SC part 3).
		if r.state&pcsc.Present != 0 {
			return []byte{2}, pcsc.ErrSuccess
		}
		return []byte{0}, pcsc.ErrSuccess
	}
	return nil, pcsc.ErrUnsupportedFeature
}

// SetAttrib writes an attribute.
func (h *Connection) SetAttrib(id pcsc.Attrib, value []byte) pcsc.Error {
	if e := h.acquire(h.mayExchange); e != pcsc.ErrSuccess {
		return e
	}

	r := h.r
	err := r.slot.SetAttribute(r.ctx, uint32(id), value)
	r.driver.Unlock()
	if err == nil {
		return pcsc.ErrSuccess
	}

	switch driverCode(err) {
	case pcsc.ErrorCodeTag, pcsc.ErrorCodeUnsupported, pcsc.ErrorCodeNotSupported:
		return pcsc.ErrUnsupportedFeature
	case pcsc.ErrorCodeNoSuchDevice:
		return pcsc.ErrReaderUnavailable
	}

	r.logError("writing attribute", err)
	return pcsc.ErrNotTransacted
}

// Status is what the reader's state is. It checks lock, event, reader, in this order.
func (h *Connection) Status() (pcsc.CardStatus, pcsc.Error) {
	r := h.r
	r.mu.Lock()
	defer r.mu.Unlock()

	switch e := h.alive(); {
	case e != pcsc.ErrSuccess:
		return pcsc.CardStatus{}, e
	case r.lockedByOther(h):
		return pcsc.CardStatus{}, r.sharingViolation(h, "ask for the status")
	case h.event != pcsc.ErrSuccess:
		return pcsc.CardStatus{}, h.event
	case r.state&pcsc.Unknown != 0:
		return pcsc.CardStatus{}, pcsc.ErrReaderUnavailable
	}

	return pcsc.CardStatus{
		Reader:         r.name,
		State:          r.state,
		EventCounter:   uint16(r.counter),
		ActiveProtocol: r.protocol,
		ATR:            slices.Clone(r.atr),
	}, pcsc.ErrSuccess
}

// setEvent makes event pending on all handles, and ends those waits for a transaction that it
// forbids; r.mu is held.
func (r *reader) setEvent(event pcsc.Error) {
	for _, h := range r.handles {
		h.event = event
	}
	r.wakeAll(func(w *lockWait) (pcsc.Error, bool) { return event, w.begin })
}

// driverCode is the IFD handler number of a driver's error.
func driverCode(err error) int {
	var coded interface{ IFDCode() int }
	switch {
	case errors.As(err, &coded):
		return coded.IFDCode()
	case errors.Is(err, errors.ErrUnsupported):
		return pcsc.ErrorCodeUnsupported
	}
	return pcsc.ErrorCodeCommunication
}

// logError logs a driver's error; never with data of the exchange.
func (r *reader) logError(doing string, err error) {
	r.log().Debug(doing, "err", err, "ifd", driverCode(err))
}
