package piv

import (
	"context"
	"errors"
	"fmt"
	"time"

	"pam_pkcs11/pcsc"
	"pam_pkcs11/token"
)

// glance is the look at one reader under way.
type glance struct {
	index  int
	busy   busy
	cancel context.CancelCauseFunc
	ended  bool
}

// found is how it has ended.
type found struct {
	index int
	place *place
}

// look reads the cards in all readers side by side.
func (m *Module) look(ctx context.Context, readers []pcsc.ReaderState) []*place {
	places := make([]*place, len(readers))
	results := make(chan found, len(readers))
	var glances []*glance
	for i, r := range readers {
		places[i] = &place{slot: token.Slot{
			ID:           uint(i),
			Index:        i + 1,
			TokenPresent: r.EventState&pcsc.StatePresent != 0,
			Description:  token.Printable(r.Reader),
		}}
		if !places[i].slot.TokenPresent {
			continue
		}
		g := &glance{index: i}
		var within context.Context
		within, g.cancel = context.WithCancelCause(ctx)
		defer g.cancel(nil)
		glances = append(glances, g)
		p := *places[i]
		go func() {
			m.lookAt(within, &p, r, &g.busy)
			results <- found{g.index, &p}
		}()
	}

	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for left, read := len(glances), false; left > 0; {
		select {
		case f := <-results:
			left--
			places[f.index] = f.place
			read = read || f.place.slot.Token != nil
			for _, g := range glances {
				g.ended = g.ended || g.index == f.index
			}
		case now := <-tick.C:
			giveUpOn(glances, now, read)
		}
	}
	return places
}

// giveUpOn ends the looks that have waited for long enough.
func giveUpOn(glances []*glance, now time.Time, otherRead bool) {
	for _, g := range glances {
		if g.ended {
			continue
		}
		over, talking := g.busy.over(now, otherRead)
		switch {
		case over && talking:
			g.cancel(&token.Error{Kind: token.ErrFault, Err: errors.New("the card or its reader does not answer")})
		case over:
			g.cancel(&token.Error{Kind: token.ErrInUse, Err: errors.New("another program keeps the card")})
		}
	}
}

// lookAt reads the card in one reader.
func (m *Module) lookAt(ctx context.Context, p *place, r pcsc.ReaderState, b *busy) {
	p.atr = r.ATR
	err := m.readPlace(ctx, p, r, b)
	switch cause := context.Cause(ctx); {
	case err == nil:
		p.slot.Token = p.card.info()
		return
	case ctx.Err() != nil:
		err = cause
	case errors.Is(err, token.ErrRemoved):
		p.slot.TokenPresent = false // it has just been taken out
		err = nil
	}
	p.slot.Err = err
	if p.conn != nil {
		p.conn.close()
		p.conn = nil
	}
}

func (m *Module) readPlace(ctx context.Context, p *place, r pcsc.ReaderState, b *busy) error {
	if r.EventState&pcsc.StateMute != 0 {
		return &token.Error{Kind: token.ErrFault, Err: errors.New("the card does not answer to power")}
	}

	conn, err := m.dial(ctx, r.Reader, uint16(r.EventState>>16), b)
	if err != nil {
		return fmt.Errorf("connecting: %w", err)
	}
	p.conn = conn
	p.card, err = conn.read(ctx, p.atr)
	return err
}
