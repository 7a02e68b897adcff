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
	number  byte
	t       device.Transport
	link    exchanger
	log     *slog.Logger
	slots   []*Slot
	gemalto *gemaltoFeatures // nil: unknown

	rates []uint32 // GET_DATA_RATES; nil: any
	ctx   context.Context
	stop  context.CancelFunc
	work  sync.WaitGroup
	gone  atomic.Bool
}

// ErrNotSupported is what opening a reader ends with that will not be driven, whatever is tried.
var ErrNotSupported = errors.New("not supported")

// exchanger sends one command to a slot and waits for the answer to it: over bulk endpoints (bulk) or control transfers
// (iccd). The answer's data is valid until the slot's next command. A slot has one command at a time.
type exchanger interface {
	Exchange(ctx context.Context, slot int, c message.Command, timeout time.Duration) (message.Answer, error)
}

// Open makes a reader of an interface and finds out that it answers. The reader owns t from then on, and closes it when
// this fails. log may be nil.
func Open(ctx context.Context, t device.Transport, info device.Info, in *device.Interface, o plan.Options, log *slog.Logger) (*Reader, error) {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	r := &Reader{info: info, plan: plan.New(info, in, o), options: o, number: in.Number, t: t, log: log}
	r.ctx, r.stop = context.WithCancel(context.Background())
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if err := r.open(ctx); err != nil {
		r.stop()
		return nil, errors.Join(err, t.Close())
	}
	for _, s := range r.slots {
		s.watch()
	}
	if r.plan.Presence == plan.PresenceInterrupt {
		r.work.Go(r.listen)
	}
	return r, nil
}

func (r *Reader) open(ctx context.Context) error {
	p := r.plan
	if p.MinRelease > r.info.Release {
		return fmt.Errorf("%w: firmware %s is too old, %s is needed (option old-firmware)", ErrNotSupported, bcd(r.info.Release), bcd(p.MinRelease))
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
	if err := r.hello(ctx); err != nil {
		return err
	}
	if p.AskRates > 0 {
		r.askRates(ctx)
	}
	return r.prepare(ctx)
}

// makeSlots makes the slots. Those that cannot work at the same time share one turn.
func (r *Reader) makeSlots() {
	var shared chan struct{}
	for i := range r.plan.Slots {
		if shared == nil || r.plan.Concurrent {
			shared = make(chan struct{}, 1)
		}
		r.slots = append(r.slots, newSlot(r, i, shared))
	}
}

// hello asks for the state of the first slot until there is an answer.
func (r *Reader) hello(ctx context.Context) error {
	var err error
	for range link.OpenTries {
		var failed *message.Error
		_, err = r.link.Exchange(ctx, 0, message.GetSlotStatus{}, max(r.plan.Timeout, link.StatusTimeout))
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

// askRates asks for the data rates. A reader that does not tell them has none to choose from: any is good.
func (r *Reader) askRates(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, link.StatusTimeout)
	defer cancel()
	raw := make([]byte, 4*maxRates)
	n, err := r.t.Control(ctx, device.Setup{RequestType: 0xA1, Request: device.RequestDataRates, Index: uint16(r.number)}, raw)
	if err != nil || n%4 != 0 || n > len(raw) {
		r.log.Debug("the reader does not tell its data rates", "bytes", n, "err", err)
		return
	}
	for raw = raw[:min(n, 4*r.plan.AskRates)]; len(raw) >= 4; raw = raw[4:] {
		rate := binary.LittleEndian.Uint32(raw)
		if r.plan.RateLimit == 0 || rate <= uint32(r.plan.RateLimit) {
			r.rates = append(r.rates, rate)
		}
	}
}

// prepare sends what the quirks want a reader to get before it is used.
func (r *Reader) prepare(ctx context.Context) error {
	if r.plan.APDUMode {
		if _, err := r.link.Exchange(ctx, 0, message.Escape{Data: []byte{0x1F, 0x02}}, r.plan.Timeout); err != nil {
			return fmt.Errorf("switching to APDU mode: %w", err)
		}
	}
	if r.plan.GemaltoFeatures {
		r.askGemalto(ctx)
	}
	return nil
}

// Slots are the reader's slots, 1 to 16.
func (r *Reader) Slots() []*Slot { return r.slots }

// Plan is what is done with the reader.
func (r *Reader) Plan() *plan.Plan { return r.plan }

// Info is what the reader is.
func (r *Reader) Info() device.Info { return r.info }

// Probe has the state of all slots asked for, where somebody waits for news of them.
func (r *Reader) Probe() {
	for _, s := range r.slots {
		s.hint(message.SlotChange{})
	}
}

// Gone says that the device has disappeared: calls that run end soon, later ones at once.
func (r *Reader) Gone() {
	r.gone.Store(true)
	r.stop()
}

// Close switches the cards off, unless the device has gone, and gives the interface back.
func (r *Reader) Close() error {
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

	if b, ok := r.link.(*link.Bulk); ok && b.SurplusMessages() > 0 {
		r.log.Info("the reader has sent bytes behind its messages", "messages", b.SurplusMessages())
	}
	return err
}

// lostPower is told that the device was reset.
func (r *Reader) lostPower() {
	for _, s := range r.slots {
		s.lost.Store(true)
		s.hint(message.SlotChange{Present: true, Changed: true})
	}
}

// bcd prints bcdDevice as readers' makers do: "1.00".
func bcd(n uint16) string { return fmt.Sprintf("%X.%02X", n>>8, n&0xFF) }
