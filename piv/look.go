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

// place is one reader, as Slots found it.
type place struct {
	slot   token.Slot
	reader *card.Reader // nil where no card was read, and after Open has taken it
	card   *card.Card
}

// closeReaders closes the connections that were not opened, side by side: each may take seconds.
func closeReaders(places []*place) {
	var ending sync.WaitGroup
	for _, p := range places {
		if r := p.reader; r != nil {
			p.reader = nil
			ending.Go(r.Channel.Close)
		}
	}
	ending.Wait()
}

// probe reads the card in one reader, on a goroutine of its own.
type probe struct {
	// Used by that goroutine until it sends the probe to await.
	place  *place
	state  pcsc.ReaderState
	busy   channel.Busy
	cancel context.CancelCauseFunc

	// Used by await.
	ended bool
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
	ended := make(chan *probe, len(readers)) // with room for all: no goroutine is left behind
	var probes []*probe

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

		// Readers that the configuration excludes are not even connected to: another program may
		// use them.
		if w.Skip != nil && w.Skip(&places[i].slot) {
			places[i].slot.Err = errSkipped
			continue
		}

		g := &probe{place: places[i], state: state}
		within, cancel := context.WithCancelCause(ctx)
		defer cancel(nil)
		g.cancel = cancel
		probes = append(probes, g)

		go func() {
			g.look(within, o, s)
			ended <- g
		}()
	}

	await(probes, ended, w.Enough)
	return places
}

// joinTime is the time that other cards have once one was read that is enough: the order of the
// readers decides among those that answer in it.
const joinTime = 200 * time.Millisecond

// await waits until all probes have ended. It ends those that have taken long enough and, a moment
// after a card was read that is enough, all that are left.
func await(probes []*probe, ended <-chan *probe, enough func(*token.Slot) bool) {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()

	var over <-chan time.Time // nil until a card is enough
	read := false

	for left := len(probes); left > 0; {
		select {
		case g := <-ended:
			left--
			g.ended = true
			wasRead := g.place.slot.Token != nil
			read = read || wasRead

			mayEnd := over == nil && enough != nil && wasRead
			if mayEnd && enough(&g.place.slot) {
				over = time.After(joinTime)
			}
		case now := <-tick.C:
			// Once a card is enough all end soon: each is then pending, and none has failed.
			if over == nil {
				cancelSlow(probes, now, read)
			}
		case <-over:
			cancelRest(probes)
		}
	}
}

// cancelRest ends the probes that nobody waits for any longer.
func cancelRest(probes []*probe) {
	for _, g := range probes {
		if !g.ended {
			g.cancel(errPending)
		}
	}
}

// The errors of readers whose card was not read.
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

// cancelSlow ends the probes that have waited for long enough.
func cancelSlow(probes []*probe, now time.Time, otherRead bool) {
	for _, g := range probes {
		if g.ended {
			continue
		}

		// A card that is silent and a program that keeps it are different errors: the user can do
		// something about the second.
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
func (g *probe) look(ctx context.Context, o *channel.Options, s *card.Settings) {
	p := g.place
	reader, err := g.read(ctx, o, s)
	if err == nil {
		p.reader = reader
		p.slot.Token = p.card.Info()
		return
	}

	// A connection without a card that was read is of no use to Open.
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

// read connects to the reader and reads its card. The Reader is returned with an error, too, where
// there is one to close.
func (g *probe) read(
	ctx context.Context, o *channel.Options, s *card.Settings,
) (*card.Reader, error) {
	if g.state.EventState&pcsc.StateMute != 0 {
		err := errors.New("the card does not answer to power")
		return nil, &token.Error{Kind: token.ErrFault, Err: err}
	}

	// The high half of the state is the service's count of cards that came and went in this reader.
	moves := uint16(g.state.EventState >> 16)
	ch, err := channel.Dial(ctx, o, g.state.Reader, moves, &g.busy)
	if err != nil {
		return nil, fmt.Errorf("connecting: %w", err)
	}

	r := &card.Reader{Settings: s, Channel: ch}
	return r, ch.Transaction(ctx, func(ctx context.Context, selected channel.Answer) error {
		atr := g.state.ATR
		var err error

		// pcscd lists no ATR of a card that it has switched off: by now it is on again.
		if len(atr) == 0 {
			if atr, err = ch.ATR(ctx); err != nil {
				return err
			}
		}

		g.place.card, err = r.Read(ctx, atr, selected)
		return err
	})
}
