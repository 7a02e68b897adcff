package piv

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"

	"pam_pkcs11/pcsc"
	"pam_pkcs11/token"
)

// Module is the readers of a PC/SC service as a source of PIV cards. It implements token.Module.
type Module struct {
	service pcsc.Service
	options Options
	keys    []KeyRef
	log     *slog.Logger

	traceMu sync.Mutex // several readers are looked at at the same time

	watch  *pcsc.Context      // for the list of readers, and to wait; nil: not established
	states []pcsc.ReaderState // as Slots has seen them, PnPReader last
	places []*place           // of the last Slots, by Slot.ID
	opened []*session
	closed bool
}

// place is one reader as Slots has found it.
type place struct {
	slot token.Slot
	atr  []byte
	conn *connection // until Open takes it
	card *card
}

// New makes a module over a service. Nothing is asked of it yet. The error is of the options.
func New(s pcsc.Service, o Options) (*Module, error) {
	m := &Module{service: s, options: o, keys: o.Keys, log: o.Logger}
	if len(m.keys) == 0 {
		m.keys = defaultKeys
	}
	for i, ref := range m.keys {
		if err := ref.check(); err != nil {
			return nil, err
		}
		if slices.Contains(m.keys[:i], ref) {
			return nil, fmt.Errorf("key %s is there twice", ref)
		}
	}
	if m.log == nil {
		m.log = slog.New(slog.DiscardHandler)
	}
	return m, nil
}

// trace tells of a call before it begins, and with "" of its end.
func (m *Module) trace(call string) {
	m.traceMu.Lock()
	defer m.traceMu.Unlock()
	if m.options.Trace != nil && call != "" {
		m.options.Trace(call)
	}
	if m.options.Running != nil {
		m.options.Running(call)
	}
}

// Slots lists the readers in the order of the service, and reads the card in each. Readers are looked
// at side by side: one that hangs, or that another program keeps for itself, has Slot.Err.
func (m *Module) Slots(ctx context.Context) ([]token.Slot, error) {
	if m.closed {
		return nil, errClosed
	}
	m.letGo()
	readers, err := m.readers(ctx)
	if err != nil {
		return nil, err
	}

	m.places = m.look(ctx, readers)
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	slots := make([]token.Slot, len(m.places))
	for i, p := range m.places {
		slots[i] = p.slot
	}
	return slots, nil
}

// letGo ends the connections of the last Slots that were not opened.
func (m *Module) letGo() {
	var ending sync.WaitGroup
	for _, p := range m.places {
		if c := p.conn; c != nil {
			p.conn = nil
			ending.Go(c.close)
		}
	}
	ending.Wait()
	m.places = nil
}

// readers asks for the state of all readers. The daemon may have been started anew since the last
// time.
func (m *Module) readers(ctx context.Context) ([]pcsc.ReaderState, error) {
	states, err := m.listReaders(ctx)
	if err != nil && ctx.Err() == nil && m.unwatch() {
		states, err = m.listReaders(ctx)
	}
	if err != nil {
		m.unwatch()
		return nil, err
	}
	m.states = append(slices.Clone(states), m.pnpState())
	return states, nil
}

// unwatch gives the context of the list up, and reports whether there was one.
func (m *Module) unwatch() bool {
	pc := m.watch
	m.watch = nil
	if pc != nil {
		go func() { _ = pc.Release() }() // which waits for a call that was given up
	}
	return pc != nil
}

func (m *Module) listReaders(ctx context.Context) ([]pcsc.ReaderState, error) {
	pc, err := m.watcher(ctx)
	if err != nil {
		return nil, err
	}
	c := &connection{module: m}
	names, err := await(ctx, c, "SCardListReaders", pc.ListReaders)
	if errors.Is(err, pcsc.ErrNoReadersAvailable) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}

	return await(ctx, c, "SCardGetStatusChange", func() ([]pcsc.ReaderState, error) {
		states := make([]pcsc.ReaderState, len(names))
		for i, name := range names {
			states[i].Reader = name
		}
		err := pc.GetStatusChangeContext(ctx, states, 0)
		if errors.Is(err, pcsc.ErrTimeout) {
			err = nil
		}
		return states, err
	})
}

// watcher returns the context for the list of readers.
func (m *Module) watcher(ctx context.Context) (*pcsc.Context, error) {
	if m.watch != nil {
		return m.watch, nil
	}
	c := &connection{module: m}
	pc, err := await(ctx, c, "SCardEstablishContext", func() (*pcsc.Context, error) {
		return pcsc.NewContext(m.service)
	})
	if err != nil {
		if ctx.Err() == nil {
			err = &token.Error{Kind: token.ErrNotStarted, Err: err}
		}
		return nil, err
	}
	m.watch = pc
	return pc, nil
}

// Open opens the card in a slot of the last Slots.
func (m *Module) Open(_ context.Context, s token.Slot) (token.Session, error) {
	if m.closed {
		return nil, errClosed
	}
	if s.ID >= uint(len(m.places)) || s.Token == nil || m.places[s.ID].slot.Token != s.Token {
		return nil, &token.Error{Kind: token.ErrRemoved, Err: errors.New("the card was not seen when the readers were looked at last")}
	}

	p := m.places[s.ID]
	if p.conn == nil {
		return nil, &token.Error{Kind: token.ErrInUse, Err: errors.New("the card is open already")}
	}
	session := &session{module: m, conn: p.conn, card: p.card, info: s.Token}
	p.conn.busy = nil
	p.conn = nil
	m.opened = append(m.opened, session)
	return session, nil
}

// Close ends all sessions.
func (m *Module) Close() error {
	if m.closed {
		return nil
	}
	m.closed = true
	for _, s := range m.opened {
		s.conn.close()
	}
	m.letGo()
	m.unwatch()
	return nil
}
