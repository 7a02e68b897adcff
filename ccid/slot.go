package ccid

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"pam_pkcs11/ccid/device"
	"pam_pkcs11/ccid/internal/ifd"
	"pam_pkcs11/ccid/internal/link"
	"pam_pkcs11/ccid/message"
	"pam_pkcs11/ccid/plan"
	"pam_pkcs11/internal/iso7816"
)

// Slot is one place for a card. Its methods are those that the resource manager wants of a slot (pcsc.Slot, which says
// what they do in full). They may be called from any goroutine: a call waits until the reader is free.
type Slot struct {
	reader *Reader
	index  int
	turn   chan struct{} // has one element while somebody speaks to the reader
	lost   atomic.Bool   // the card has lost its power without us
	dead   atomic.Bool   // the last exchange ended so that only power helps the card, see Stopped
	kept   atomic.Bool   // the last look found a card that still has the power we gave it: it has not moved

	// What follows belongs to who has the turn.

	powered  bool
	atr      []byte
	card     *iso7816.ATR
	protocol uint32 // 0: none set yet
	timeout  time.Duration
	t1       *iso7816.T1
	t0       *iso7816.T0
	astray   bool // T=1: an exchange was given up, and the two sides may have different numbers
	heard    bool // T=1: a block of the card has come
	nad      byte
	xfr      message.XfrBlock // the one on its way, so that none is allocated
	scratch  []byte

	// What follows is for those that wait for a card; see presence.go.

	events chan bool
	signal chan struct{}
	mu     sync.Mutex
	change message.SlotChange // what came since the last look
	told   bool               // the last event
	toldAt time.Time          // when that was a card
}

// Protocols as PC/SC numbers them.
const (
	pcscT0  = 1
	pcscT1  = 2
	pcscRaw = 4
)

// errGone is what is said about a reader that has gone.
var errGone = &ifd.Fault{Code: ifd.NoSuchDevice, Text: "using the reader", Cause: device.ErrGone}

func newSlot(r *Reader, index int, turn chan struct{}) *Slot {
	s := &Slot{reader: r, index: index, turn: turn, timeout: r.plan.Timeout, signal: make(chan struct{}, 1)}
	if r.plan.Presence != plan.PresencePoll {
		s.events = make(chan bool, 16)
	}
	return s
}

// begin waits for the turn. ctx and the reader's end end everything that is done with it. The caller calls end.
func (s *Slot) begin(ctx context.Context) (context.Context, func(), error) {
	if s.reader.gone.Load() {
		return nil, nil, errGone
	}
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(s.reader.ctx, cancel)
	select {
	case s.turn <- struct{}{}:
	case <-ctx.Done():
		stop()
		cancel()
		return nil, nil, s.ended(ifd.TransportError("waiting for the reader", context.DeadlineExceeded))
	}
	return ctx, func() { <-s.turn; stop(); cancel() }, nil
}

// ended gives an error its reason when the reader has gone.
func (s *Slot) ended(err error) error {
	if err != nil && s.reader.gone.Load() {
		return errGone
	}
	return err
}

// command exchanges one message.
func (s *Slot) command(ctx context.Context, c message.Command, timeout time.Duration) (message.Answer, error) {
	a, err := s.reader.link.Exchange(ctx, s.index, c, timeout)
	return a, s.ended(err)
}

// block exchanges one block with the card.
func (s *Slot) block(ctx context.Context, x message.XfrBlock, timeout time.Duration) (message.Answer, error) {
	s.xfr = x
	a, err := s.reader.link.Exchange(ctx, s.index, &s.xfr, timeout)
	s.xfr = message.XfrBlock{} // its data is the caller's
	return a, s.ended(err)
}

// retry is command for a reader that may be busy with something of its own.
func (s *Slot) retry(ctx context.Context, c message.Command, timeout time.Duration) (message.Answer, error) {
	for tries := 0; ; tries++ {
		a, err := s.command(ctx, c, timeout)
		failed, ok := err.(*message.Error)
		if !ok || failed.Code != message.CodeSlotBusy && failed.Code != message.CodeBusyAuto || tries == 5 {
			return a, err
		}
		if err := link.Pause(ctx, 100*time.Millisecond); err != nil {
			return a, s.ended(err)
		}
	}
}

// forget drops what was agreed with a card.
func (s *Slot) forget() {
	s.powered, s.atr, s.card, s.protocol, s.t1, s.astray = false, nil, nil, 0, nil, false
	s.timeout = s.reader.plan.Timeout
	s.dead.Store(false)
}

// Stopped reports whether the card in the slot has stopped: the last exchange with it failed in a way after which cards
// answer only when they have been powered anew. It waits for nothing.
func (s *Slot) Stopped() bool { return s.dead.Load() }

// judge notes what the end of an exchange says of the card: that it works, that it has stopped, or nothing.
func (s *Slot) judge(err error) {
	if err == nil {
		if s.dead.Load() {
			s.dead.Store(false)
		}
		return
	}

	var own *ifd.Fault
	failed := message.AsError(err)
	switch {
	case ifd.Absent(err), device.IsGone(err), s.reader.ctx.Err() != nil:
		return
	case !s.powered: // it was not to be had with power either
	case s.t1 != nil && s.t1.Dead():
	case failed != nil && failed.StopsCard():
	case errors.As(err, &own) && own.Code == ifd.Timeout && !s.astray: // T=1 has its own way back to the card
	default:
		return
	}
	s.dead.Store(true)
	s.reader.log.Info("the card has stopped: it is powered anew for the next program", "slot", s.index, "err", err)
}

// PowerDown switches the card off. That there is none is no error.
func (s *Slot) PowerDown(ctx context.Context) error {
	ctx, end, err := s.begin(ctx)
	if err != nil {
		return err
	}
	defer end()
	s.forget()
	_, err = s.retry(ctx, message.PowerOff{}, max(s.reader.plan.Timeout, link.StatusTimeout))
	if ifd.Absent(err) {
		return nil
	}
	return err
}
