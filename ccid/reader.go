package ccid

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"pam_pkcs11/ccid/device"
	"pam_pkcs11/ccid/internal/link"
	"pam_pkcs11/ccid/message"
	"pam_pkcs11/ccid/plan"
)

// Reader is one CCID interface that is open: one reader with one or more slots.
type Reader struct {
	info    device.Info
	plan    *plan.Plan
	options plan.Options
	number  byte // bInterfaceNumber
	t       device.Transport
	link    exchanger
	log     *slog.Logger

	// Set by Open, and only read after it.

	slots   []*Slot
	gemalto *gemaltoFeatures // nil: not known
	rates   []uint32         // answer to GET_DATA_RATES; nil: any rate is taken

	ctx  context.Context // ends with Close, and when the device disappears
	stop context.CancelFunc
	work sync.WaitGroup // goroutines that watch slots and read notifications
	gone atomic.Bool
}

// ErrNotSupported is the cause when Open refuses a reader that no further try will make work.
var ErrNotSupported = errors.New("not supported")

// exchanger sends one command to a slot and waits for the answer to it: over bulk endpoints
// (link.Bulk) or control transfers (link.ICCD). The answer's data is valid until the slot's next
// command. A slot has one command at a time.
type exchanger interface {
	Exchange(
		ctx context.Context, slot int, c message.Command, timeout time.Duration,
	) (message.Answer, error)
}

// Open makes a reader of an interface and checks that it answers. The reader owns t from then on,
// and closes it when Open fails. log may be nil.
func Open(
	ctx context.Context, t device.Transport, info device.Info, in *device.Interface,
	o plan.Options, log *slog.Logger,
) (*Reader, error) {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}

	r := &Reader{
		info:    info,
		plan:    plan.New(info, in, o),
		options: o,
		number:  in.Number,
		t:       t,
		log:     log,
	}
	r.ctx, r.stop = context.WithCancel(context.Background())

	// The link's wait timers keep a context made from this one until a slot's next call: its end
	// releases the caller's.
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if err := r.open(ctx); err != nil {
		r.stop()
		return nil, errors.Join(err, t.Close())
	}

	// Only now: the watchers use the reader like any other caller, and report what they find.
	for _, s := range r.slots {
		s.watch()
	}
	if r.plan.Presence == plan.PresenceInterrupt {
		r.work.Go(r.readNotifications)
	}

	return r, nil
}

// open prepares the reader for its callers: link, slots, first answer, commands of the quirks.
func (r *Reader) open(ctx context.Context) error {
	p := r.plan
	if p.MinRelease > r.info.Release {
		return fmt.Errorf(
			"%w: firmware %s is too old, %s is needed (option old-firmware)",
			ErrNotSupported, bcd(r.info.Release), bcd(p.MinRelease))
	}

	r.log.Debug("reader", "plan", p.String())
	if p.Link == device.ProtocolCCID {
		r.link = link.NewBulk(r.t, link.Config{
			Number:     r.number,
			Slots:      p.Slots,
			MaxMessage: p.MaxMessage,
			Reset:      r.lostPower,
			Log:        r.log,
		})
	} else {
		r.link = link.NewICCD(r.t, r.number, p.Link == device.ProtocolICCDB)
	}

	r.makeSlots()
	if err := link.Pause(ctx, p.OpenDelay); err != nil {
		return err
	}

	if err := r.waitReady(ctx); err != nil {
		return err
	}
	if p.AskRates > 0 {
		r.askRates(ctx)
	}
	return r.prepare(ctx)
}

// makeSlots makes the slots. Those that cannot work at the same time share one semaphore.
func (r *Reader) makeSlots() {
	var shared chan struct{}
	for i := range r.plan.Slots {
		if shared == nil || r.plan.Concurrent {
			shared = make(chan struct{}, 1)
		}
		r.slots = append(r.slots, newSlot(r, i, shared))
	}
}

// waitReady asks for the state of the first slot until there is an answer. That the command failed
// is an answer, too.
func (r *Reader) waitReady(ctx context.Context) error {
	var err error
	for range link.OpenTries {
		var failed *message.Error
		timeout := max(r.plan.Timeout, link.StatusTimeout)
		_, err = r.link.Exchange(ctx, 0, message.GetSlotStatus{}, timeout)
		if err == nil || errors.As(err, &failed) {
			return nil
		}

		if device.IsGone(err) || ctx.Err() != nil {
			return err
		}

		if err := link.Pause(ctx, 100*time.Millisecond); err != nil {
			return err
		}
	}
	return err
}

// maxRates bounds the answer to GET_DATA_RATES.
const maxRates = 256

// askRates asks for the data rates. A reader that does not answer has no rates to choose from: any
// is taken.
func (r *Reader) askRates(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, link.StatusTimeout)
	defer cancel()

	raw := make([]byte, 4*maxRates)
	setup := device.Setup{
		RequestType: 0xA1, // IN, class, interface
		Request:     device.RequestDataRates,
		Index:       uint16(r.number),
	}
	n, err := r.t.Control(ctx, setup, raw)
	if err != nil || n%4 != 0 || n > len(raw) {
		r.log.Debug("the reader does not tell its data rates", "bytes", n, "err", err)
		return
	}

	// The descriptor has the number of rates; bytes behind them are none.
	for raw = raw[:min(n, 4*r.plan.AskRates)]; len(raw) >= 4; raw = raw[4:] {
		rate := binary.LittleEndian.Uint32(raw)
		if r.plan.RateLimit == 0 || rate <= uint32(r.plan.RateLimit) {
			r.rates = append(r.rates, rate)
		}
	}
}

// prepare sends the commands that the quirks want before the reader is used.
func (r *Reader) prepare(ctx context.Context) error {
	if r.plan.APDUMode {
		toAPDUMode := message.Escape{Data: []byte{0x1F, 0x02}}
		if _, err := r.link.Exchange(ctx, 0, toAPDUMode, r.plan.Timeout); err != nil {
			return fmt.Errorf("switching to APDU mode: %w", err)
		}
	}
	if r.plan.GemaltoFeatures {
		r.askGemalto(ctx)
	}
	return nil
}

// Slots returns the reader's slots, 1 to 16.
func (r *Reader) Slots() []*Slot { return r.slots }

// Plan returns what the driver does with the reader.
func (r *Reader) Plan() *plan.Plan { return r.plan }

// Info returns what the reader is.
func (r *Reader) Info() device.Info { return r.info }

// Probe has the state of every watched slot read again.
func (r *Reader) Probe() {
	for _, s := range r.slots {
		s.notify(message.SlotChange{})
	}
}

// Gone tells the reader that its device has disappeared: calls in progress end soon, later ones at
// once.
func (r *Reader) Gone() {
	r.gone.Store(true)
	r.stop()
}

// Close switches the cards off, unless the device has gone, and closes the interface.
func (r *Reader) Close() error {
	// Before stop, which would end these exchanges like all others. A card that stays powered keeps
	// what a PIN has opened.
	if r.ctx.Err() == nil {
		ctx, cancel := context.WithTimeout(context.Background(), link.StatusTimeout)
		for _, s := range r.slots {
			if err := s.PowerDown(ctx); err != nil {
				r.log.Debug("switching the card off", "slot", s.index, "err", err)
			}
		}
		cancel()
	}

	r.stop()
	err := r.t.Close()
	r.work.Wait()

	// Reported once, at the end: a reader that does it may do it with each message.
	if b, ok := r.link.(*link.Bulk); ok && b.SurplusMessages() > 0 {
		r.log.Info("the reader has sent bytes behind its messages", "messages", b.SurplusMessages())
	}

	return err
}

// lostPower handles a reset of the device: the cards have lost their power, and with it everything
// that was agreed.
func (r *Reader) lostPower() {
	for _, s := range r.slots {
		s.lost.Store(true)
		s.notify(message.SlotChange{Present: true, Changed: true})
	}
}

// bcd formats bcdDevice as it is written on readers: "1.00".
func bcd(n uint16) string { return fmt.Sprintf("%X.%02X", n>>8, n&0xFF) }
