package logintest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"pam_pkcs11/token"
)

// module implements token.Selective. It panics where two calls of it, or of its sessions, run at
// once, and where it is used after Close: a login does neither.
type module struct {
	readers *Readers
	options token.Options
	seen    int // changes, at the last Slots
	busy    atomic.Bool
	closed  bool
}

// enter begins a call; leave ends it.
func (m *module) enter(ctx context.Context, name string) (leave func(), err error) {
	if !m.busy.CompareAndSwap(false, true) {
		panic(name + " was called while another call runs")
	}
	leave = func() { m.busy.Store(false) }
	if m.closed {
		panic(name + " was called after C_Finalize")
	}

	if err := ctx.Err(); err != nil {
		return leave, err
	}
	return leave, m.readers.call(ctx, name, m.options)
}

// Slots implements token.Module.
func (m *module) Slots(ctx context.Context) ([]token.Slot, error) {
	return m.SlotsFor(ctx, token.Want{})
}

// SlotsFor implements token.Selective.
func (m *module) SlotsFor(ctx context.Context, w token.Want) ([]token.Slot, error) {
	leave, err := m.enter(ctx, "C_GetSlotList")
	defer leave()
	if err != nil {
		return nil, err
	}

	slots, slow := m.list(w)
	enough := w.Enough != nil && slices.ContainsFunc(slots, func(s token.Slot) bool {
		return s.Token != nil && slow[s.ID] == 0 && w.Enough(&s)
	})

	longest := time.Duration(0)
	for i := range slots {
		s := &slots[i]
		switch d := slow[s.ID]; {
		case d == 0 || s.Err != nil:
		// Such a card is not waited for where another one is enough.
		case enough:
			s.Token, s.Err = nil, token.ErrPending
		default:
			longest = max(longest, d)
		}
	}

	if longest > 0 {
		err = m.readers.call(ctx, SlowCard, m.options)
		time.Sleep(longest)
	}
	return slots, err
}

// list is the slots with what was wanted, and how long those that are slow take.
func (m *module) list(w token.Want) (slots []token.Slot, slow map[uint]time.Duration) {
	m.readers.mu.Lock()
	defer m.readers.mu.Unlock()

	m.seen = m.readers.changes
	slow = make(map[uint]time.Duration)
	for i, r := range m.readers.readers {
		s := token.Slot{
			ID:           uint(i + 100),
			Index:        i + 1,
			Description:  r.name,
			Manufacturer: "Example",
			TokenPresent: r.card != nil,
			Err:          r.err,
		}

		if r.card != nil && w.Skip != nil && w.Skip(&s) {
			s.Err = token.ErrSkipped
		}
		if r.card != nil && s.Err == nil {
			s.Token = r.card.info()
			slow[s.ID] = r.slow
		}
		slots = append(slots, s)
	}
	return slots, slow
}

// Wait implements token.Module.
func (m *module) Wait(ctx context.Context) error {
	leave, err := m.enter(ctx, "C_WaitForSlotEvent")
	defer leave()
	if err != nil {
		return err
	}
	if m.readers.CannotWait {
		return token.ErrNoWait
	}

	// Both under one lock: an insertion between the look and the wait is not missed.
	m.readers.mu.Lock()
	changed, known := m.readers.changed, m.readers.changes == m.seen
	m.readers.mu.Unlock()
	if !known {
		return nil
	}

	select {
	case <-changed:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Open implements token.Module.
func (m *module) Open(ctx context.Context, s token.Slot) (token.Session, error) {
	leave, err := m.enter(ctx, "C_OpenSession")
	defer leave()
	if err != nil {
		return nil, err
	}

	m.readers.mu.Lock()
	defer m.readers.mu.Unlock()

	i := int(s.ID) - 100
	if i < 0 || i >= len(m.readers.readers) {
		return nil, fmt.Errorf("there is no slot %d", s.ID)
	}
	c := m.readers.readers[i].card
	if c == nil {
		return nil, &token.Error{Kind: token.ErrRemoved}
	}

	if s.Token == nil {
		return nil, errors.New("the slot that was listed has no token")
	}

	m.readers.open++
	return &session{
		module: m,
		reader: m.readers.readers[i],
		card:   c,
		info:   s.Token,
	}, nil
}

// Close implements token.Module.
func (m *module) Close() error {
	if m.closed {
		return nil
	}

	leave, err := m.enter(context.Background(), "C_Finalize")
	defer leave()
	m.closed = true
	return err
}
