package piv

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"pam_pkcs11/pcsc"
	"pam_pkcs11/piv/internal/card"
	"pam_pkcs11/piv/internal/channel"
	"pam_pkcs11/token"
)

// place is one reader as Slots has found it.
type place struct {
	slot   token.Slot
	reader *card.Reader // nil without a card that was read, and once Open has taken it
	card   *card.Card
}

// letGo ends the connections that were not opened.
func letGo(places []*place) {
	var ending sync.WaitGroup
	for _, p := range places {
		if r := p.reader; r != nil {
			p.reader = nil
			ending.Go(r.Channel.Close)
		}
	}
	ending.Wait()
}

// glance is the look at one reader under way.
type glance struct {
	place  *place
	state  pcsc.ReaderState
	busy   channel.Busy
	cancel context.CancelCauseFunc
	ended  bool
}

// look reads the cards in the readers side by side, as far as they are wanted.
func look(
	ctx context.Context,
	o *channel.Options,
	s *card.Settings,
	readers []pcsc.ReaderState,
	w token.Want,
) []*place {
	places := make([]*place, len(readers))
	ended := make(chan *glance, len(readers))
	var glances []*glance
	for i, state := range readers {
		places[i] = &place{slot: token.Slot{
			ID:           uint(i),
			Index:        i + 1,
			TokenPresent: state.EventState&pcsc.StatePresent != 0,
			Description:  token.Printable(state.Reader),
		}}
		if !places[i].slot.TokenPresent {
			continue
		}
		if w.Skip != nil && w.Skip(&places[i].slot) {
			places[i].slot.Err = errSkipped
			continue
		}

		g := &glance{place: places[i], state: state}
		within, cancel := context.WithCancelCause(ctx)
		defer cancel(nil)
		g.cancel = cancel
		glances = append(glances, g)
		go func() {
			g.look(within, o, s)
			ended <- g
		}()
	}
	await(glances, ended, w.Enough)
	return places
}

// moment is how long cards are still waited for once one was read that will do.
const moment = 200 * time.Millisecond

// await waits until all glances have ended. It ends those that have taken long enough, and, a
// moment after a card was read that is enough, all that are left.
func await(glances []*glance, ended <-chan *glance, enough func(*token.Slot) bool) {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	var over <-chan time.Time // nil until a card is enough
	read := false
	for left := len(glances); left > 0; {
		select {
		case g := <-ended:
			left--
			g.ended = true
			read = read || g.place.slot.Token != nil
			if over == nil && enough != nil && g.place.slot.Token != nil && enough(&g.place.slot) {
				over = time.After(moment)
			}
		case now := <-tick.C:
			if over == nil { // else nobody waits much longer, for none of them
				giveUpOn(glances, now, read)
			}
		case <-over:
			leave(glances)
		}
	}
}

// leave ends the glances that nobody waits for any more.
func leave(glances []*glance) {
	for _, g := range glances {
		if !g.ended {
			g.cancel(errPending)
		}
	}
}

var (
	errSilent = &token.Error{
		Kind: token.ErrFault,
		Err:  errors.New("the card or its reader does not answer"),
	}
	errTaken = &token.Error{
		Kind: token.ErrInUse,
		Err:  errors.New("another program keeps the card for itself"),
	}
	errPending = &token.Error{Kind: token.ErrPending}
	errSkipped = &token.Error{Kind: token.ErrSkipped}
)

// giveUpOn ends the glances that have waited for long enough.
func giveUpOn(glances []*glance, now time.Time, otherRead bool) {
	for _, g := range glances {
		if g.ended {
			continue
		}
		over, talking := g.busy.Over(now, otherRead)
		switch {
		case over && talking:
			g.cancel(errSilent)
		case over:
			g.cancel(errTaken)
		}
	}
}

// look reads the card in one reader.
func (g *glance) look(ctx context.Context, o *channel.Options, s *card.Settings) {
	p := g.place
	reader, err := g.read(ctx, o, s)
	if err == nil {
		p.reader = reader
		p.slot.Token = p.card.Info()
		return
	}
	if reader != nil {
		reader.Channel.Close()
	}
	switch {
	case ctx.Err() != nil:
		p.slot.Err = context.Cause(ctx)
	case errors.Is(err, token.ErrRemoved):
		p.slot.TokenPresent = false // it has just been taken out
	case errors.Is(err, card.ErrNotPIV):
		p.slot.Err = &token.Error{Kind: token.ErrForeign, Err: err}
	default:
		p.slot.Err = err
	}
}

func (g *glance) read(
	ctx context.Context, o *channel.Options, s *card.Settings,
) (*card.Reader, error) {
	if g.state.EventState&pcsc.StateMute != 0 {
		err := errors.New("the card does not answer to power")
		return nil, &token.Error{Kind: token.ErrFault, Err: err}
	}

	moves := uint16(g.state.EventState >> 16)
	ch, err := channel.Dial(ctx, o, g.state.Reader, moves, &g.busy)
	if err != nil {
		return nil, fmt.Errorf("connecting: %w", err)
	}
	r := &card.Reader{Settings: s, Channel: ch}
	return r, ch.Transaction(ctx, func(ctx context.Context, selected channel.Answer) error {
		atr := g.state.ATR
		var err error
		if len(atr) == 0 { // it was switched off when the readers were listed
			if atr, err = ch.ATR(ctx); err != nil {
				return err
			}
		}
		g.place.card, err = r.Read(ctx, atr, selected)
		return err
	})
}
