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

// Slot is one place for a card. Its methods implement pcsc.Slot, where they are documented in full.
// They may be called from any goroutine: a call waits until the reader is free.
type Slot struct {
	reader *Reader
	index  int
	sem    chan struct{} // holds one element while a call uses the reader

	lost      atomic.Bool // the card has lost its power by other means than PowerDown
	stopped   atomic.Bool // after the last exchange only power helps the card, see Stopped
	keptPower atomic.Bool // by the last status the card kept our power: it has not moved

	// sem guards the fields below.

	powered      bool
	atr          []byte
	card         *iso7816.ATR // nil when the ATR cannot be read
	protocol     uint32       // as PC/SC numbers it; 0: none set yet
	timeout      time.Duration
	t1           *iso7816.T1
	t0           *iso7816.T0
	outOfStep    bool // T=1: an exchange was given up, the sequence numbers may differ
	cardAnswered bool // T=1: a block of the card has come
	nad          byte
	xfr          message.XfrBlock // the one on its way, so that none is allocated
	scratch      []byte

	// The fields below report cards that come and go; see presence.go.

	events chan bool     // nil: the reader has no notifications
	signal chan struct{} // wakes the watcher, which reads change

	mu     sync.Mutex         // guards change
	change message.SlotChange // what came since the last status

	// Owned by the watcher's goroutine.

	reported  bool      // the last event
	arrivedAt time.Time // when a card was last reported
}

// Protocols as PC/SC numbers them.
const (
	pcscT0  = 1
	pcscT1  = 2
	pcscRaw = 4
)

// errGone is the error of every call to a reader that has gone.
var errGone = &ifd.Fault{Code: ifd.NoSuchDevice, Text: "using the reader", Cause: device.ErrGone}

func newSlot(r *Reader, index int, sem chan struct{}) *Slot {
	s := &Slot{
		reader:  r,
		index:   index,
		sem:     sem,
		timeout: r.plan.Timeout,
		// Signals need not be counted: the watcher reads the slot's state after any number of them.
		signal: make(chan struct{}, 1),
	}
	if r.plan.Presence != plan.PresencePoll {
		s.events = make(chan bool, 16)
	}
	return s
}

// begin waits until the reader is free. The context that it returns ends with ctx and with the
// reader. The caller calls the function when it is done.
func (s *Slot) begin(ctx context.Context) (context.Context, func(), error) {
	if s.reader.gone.Load() {
		return nil, nil, errGone
	}

	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(s.reader.ctx, cancel)

	select {
	case s.sem <- struct{}{}:
	case <-ctx.Done():
		stop()
		cancel()
		timedOut := ifd.TransportError("waiting for the reader", context.DeadlineExceeded)
		return nil, nil, s.ended(timedOut)
	}

	end := func() {
		<-s.sem
		stop()
		cancel()
	}
	return ctx, end, nil
}

// ended replaces an error by errGone when the reader has gone.
func (s *Slot) ended(err error) error {
	if err != nil && s.reader.gone.Load() {
		return errGone
	}
	return err
}

// command exchanges one message.
func (s *Slot) command(
	ctx context.Context, c message.Command, timeout time.Duration,
) (message.Answer, error) {
	a, err := s.reader.link.Exchange(ctx, s.index, c, timeout)
	return a, s.ended(err)
}

// block exchanges one block with the card.
func (s *Slot) block(
	ctx context.Context, x message.XfrBlock, timeout time.Duration,
) (message.Answer, error) {
	s.xfr = x
	a, err := s.reader.link.Exchange(ctx, s.index, &s.xfr, timeout)
	// The data is the caller's and may hold a PIN: no reference stays.
	s.xfr = message.XfrBlock{}
	return a, s.ended(err)
}

// retry is command for a reader that may be busy with something else, for half a second.
func (s *Slot) retry(
	ctx context.Context, c message.Command, timeout time.Duration,
) (message.Answer, error) {
	for tries := 0; ; tries++ {
		a, err := s.command(ctx, c, timeout)
		failed, ok := err.(*message.Error)
		busy := ok && (failed.Code == message.CodeSlotBusy || failed.Code == message.CodeBusyAuto)
		if !busy || tries == 5 {
			return a, err
		}

		if err := link.Pause(ctx, 100*time.Millisecond); err != nil {
			return a, s.ended(err)
		}
	}
}

// forget drops everything that was agreed with a card.
func (s *Slot) forget() {
	s.powered = false
	s.atr = nil
	s.card = nil
	s.protocol = 0
	s.t1 = nil
	s.outOfStep = false
	s.timeout = s.reader.plan.Timeout

	s.stopped.Store(false)
}

// Stopped reports whether the card in the slot has stopped: the last exchange with it failed in a
// way after which cards answer only when they have been powered anew. It does not wait for the
// reader.
func (s *Slot) Stopped() bool { return s.stopped.Load() }

// assess records what the end of an exchange says about the card: that it works, that it has
// stopped, or nothing.
func (s *Slot) assess(err error) {
	if err == nil {
		// Stored only when it changes: this runs after every APDU.
		if s.stopped.Load() {
			s.stopped.Store(false)
		}
		return
	}

	var own *ifd.Fault
	failed := message.AsError(err)
	switch {
	case ifd.Absent(err), device.IsGone(err), s.reader.ctx.Err() != nil:
		return
	case !s.powered:
		// It had no power, or a step on the way powered it anew and failed.
	case s.t1 != nil && s.t1.Dead():
	case failed != nil && failed.StopsCard():
	case errors.As(err, &own) && own.Code == ifd.Timeout && !s.outOfStep:
		// In T=1 a card that was silent can be resynchronised, so that its end is not decided yet.
	default:
		return
	}

	s.stopped.Store(true)
	s.reader.log.Info("the card has stopped: it is powered anew for the next program",
		"slot", s.index, "err", err)
}

// PowerDown switches the card off. No card is no error.
func (s *Slot) PowerDown(ctx context.Context) error {
	ctx, end, err := s.begin(ctx)
	if err != nil {
		return err
	}
	defer end()

	s.forget()
	timeout := max(s.reader.plan.Timeout, link.StatusTimeout)
	_, err = s.retry(ctx, message.PowerOff{}, timeout)
	if ifd.Absent(err) {
		return nil
	}
	return err
}
