package piv

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"

	"pam_pkcs11/pcsc"
	"pam_pkcs11/piv/internal/card"
	"pam_pkcs11/piv/internal/channel"
	"pam_pkcs11/piv/internal/data"
	"pam_pkcs11/token"
)

// Module uses the readers of a PC/SC service as a source of PIV cards. It implements
// token.Selective.
type Module struct {
	channel  channel.Options
	settings card.Settings
	lock     LockMode
	watch    watch

	places []*place   // of the last Slots, by Slot.ID
	opened []*session // all that were
	closed bool
}

var errClosed = errors.New("the module is closed")

// New makes a module over a service, which is not asked for anything yet. The error is about the
// options.
func New(s pcsc.Service, o Options) (*Module, error) {
	keys := o.Keys
	if len(keys) == 0 {
		keys = defaultKeys
	}

	refs := make([]byte, len(keys))
	for i, ref := range keys {
		if err := ref.check(); err != nil {
			return nil, err
		}

		// Its certificate would be shown twice.
		if slices.Contains(keys[:i], ref) {
			return nil, fmt.Errorf("key %s is there twice", ref)
		}
		refs[i] = byte(ref)
	}

	log := o.Logger
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}

	m := &Module{
		channel: channel.Options{Service: s, Log: log, Trace: tracer(o.Options)},
		settings: card.Settings{
			Keys:   refs,
			Cache:  o.Cache,
			Label:  data.LabelMode(o.Label),
			Serial: o.Serial,
			Log:    log,
		},
		lock:  o.Lock,
		watch: watch{service: s},
	}
	return m, nil
}

// tracer returns a function for the name of each command before it begins, and "" at its end.
// Readers are looked at side by side: mu keeps their calls apart.
func tracer(o token.Options) func(command string) {
	var mu sync.Mutex
	return func(command string) {
		mu.Lock()
		defer mu.Unlock()
		if o.Trace != nil && command != "" {
			o.Trace(command)
		}
		if o.Running != nil {
			o.Running(command)
		}
	}
}

// Slots lists the readers in the order of the service, and reads the card in each. Readers are
// looked at side by side: one that hangs, or that another program keeps for itself, has Slot.Err.
func (m *Module) Slots(ctx context.Context) ([]token.Slot, error) {
	return m.SlotsFor(ctx, token.Want{})
}

// SlotsFor is Slots for the cards that are wanted: once one of them is enough, others have 200 ms
// to answer. A probe that nobody waits for any longer has ended when SlotsFor returns, as far as
// the service allows; its card got no PIN.
func (m *Module) SlotsFor(ctx context.Context, w token.Want) ([]token.Slot, error) {
	if m.closed {
		return nil, errClosed
	}

	closeReaders(m.places)
	m.places = nil

	// A second look, once: a card that was gone for a moment must not fail a login.
	for again := false; ; again = true {
		readers, err := m.watch.readers(ctx)
		if err != nil {
			return nil, err
		}
		m.places = look(ctx, &m.channel, &m.settings, readers, w)

		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if again || !lostOne(m.places, readers) {
			break
		}
		closeReaders(m.places)
	}

	// The next wait has to know which readers to watch more closely.
	slots := make([]token.Slot, len(m.places))
	m.watch.unread = make([]bool, len(m.places))
	for i, p := range m.places {
		slots[i] = p.slot
		m.watch.unread[i] = p.slot.Err != nil && !errors.Is(p.slot.Err, token.ErrSkipped)
	}
	return slots, nil
}

// lostOne reports whether a card was gone when it was looked at. It may have been put in again
// since, or have been there all the time: a reader that lost contact with it reports the same.
func lostOne(places []*place, readers []pcsc.ReaderState) bool {
	for i, p := range places {
		if readers[i].EventState&pcsc.StatePresent != 0 && !p.slot.TokenPresent {
			return true
		}
	}
	return false
}

// Wait returns when a card or a reader may have come or gone since the last Slots, or when the use
// of a reader whose card could not be read has changed.
func (m *Module) Wait(ctx context.Context) error {
	if m.closed {
		return errClosed
	}
	return m.watch.wait(ctx)
}

// Open opens the card in a slot of the last Slots, once.
func (m *Module) Open(_ context.Context, s token.Slot) (token.Session, error) {
	if m.closed {
		return nil, errClosed
	}

	// The Token shows that the slot is of the last Slots: IDs are given anew each time.
	if s.ID >= uint(len(m.places)) || s.Token == nil || m.places[s.ID].slot.Token != s.Token {
		err := errors.New("the card was not seen when the readers were looked at last")
		return nil, &token.Error{Kind: token.ErrRemoved, Err: err}
	}

	p := m.places[s.ID]
	if p.reader == nil {
		return nil, &token.Error{Kind: token.ErrInUse, Err: errors.New("the card is open already")}
	}

	one := &session{
		reader:  p.reader,
		channel: p.reader.Channel,
		card:    p.card,
		info:    s.Token,
		lock:    m.lock,
		options: &m.channel,
	}

	// Nobody waits for several readers any longer: the channel need not report what it waits for.
	one.channel.ClearBusy()
	p.reader = nil
	m.opened = append(m.opened, one)
	return one, nil
}

// Close ends all sessions.
func (m *Module) Close() error {
	if m.closed {
		return nil
	}
	m.closed = true
	for _, s := range m.opened {
		s.channel.Close()
	}
	closeReaders(m.places)
	m.watch.release()
	return nil
}
