package login

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"pam_pkcs11/config"
	"pam_pkcs11/token"
)

// pollInterval is how often the slots are looked at when the library cannot wait for an event.
const pollInterval = 200 * time.Millisecond

// waitToken returns the slots whose token may be used, waiting for one where that is configured.
// The truth table is in pam_pkcs11(8): wait_for_card waits; so does card_only with the session's
// card named.
func (t *attempt) waitToken(ctx context.Context, m token.Module) ([]token.Slot, *Refusal) {
	if err := t.selectCards(); err != nil {
		return nil, refuse(ConfigurationInvalid, err)
	}

	all, slots, r := t.look(ctx, m)
	if r != nil || len(slots) > 0 {
		return slots, r
	}

	g := t.conf.Global
	if t.rehearsal || !g.WaitForCard && !(g.CardOnly && t.token != "") {
		return nil, t.noCard(all, "")
	}

	// Whose session it is, another host must not learn.
	if t.token != "" && !t.discreet {
		t.instruct(ctx, MsgInsertNamed, t.token)
	} else {
		t.instruct(ctx, MsgInsert)
	}
	return t.waitInsertion(ctx, m, all)
}

// selectCards says which slots may be used for this login.
func (t *attempt) selectCards() (err error) {
	t.selection, err = CardSelection(t.conf)
	for i := range t.selection {
		// The session's card, and no other, unlocks it.
		if t.token != "" {
			t.selection[i].TokenLabel = t.token
		}
	}
	return err
}

// CardSelection is what the blocks of a configuration select.
func CardSelection(conf *config.Config) (token.Selectors, error) {
	var selection token.Selectors
	for _, m := range conf.Modules {
		s := token.Selector{
			SlotNum:         m.SlotNum,
			SlotDescription: m.SlotDescription,
			TokenLabel:      m.TokenLabel,
		}
		if m.TokenURI != "" {
			u, err := token.ParseURI(m.TokenURI)
			if err != nil {
				return nil, fmt.Errorf("token_uri: %w", err)
			}
			s.URI = u
		}

		selection = append(selection, s)
	}
	return selection, nil
}

// look returns all slots, and those of them whose token may be used.
func (t *attempt) look(ctx context.Context, m token.Module) (all, chosen []token.Slot, r *Refusal) {
	slots, err := token.SlotsFor(ctx, m, t.wanted())
	if err != nil {
		if r := noReaders(err); r != nil {
			return nil, nil, r
		}
		return nil, nil, cardRefusal(ctx, LibraryNotInitialised, err)
	}

	t.pending = slices.ContainsFunc(slots, isPending)
	for _, slot := range slots {
		switch {
		case slot.Err == nil:
		// Nothing is wrong with such a slot, and it is passed over at each look: no news for the
		// log.
		case isPending(slot), errors.Is(slot.Err, token.ErrSkipped):
			t.log.Debug("slot not waited for", "slot", slot.ID, "reader", slot.Description, "reason", slot.Err)
		default:
			t.log.Info("slot left out", "slot", slot.ID, "reader", slot.Description, "error", slot.Err)
		}
	}

	t.observe(func(o Observer) { o.Looked(slots, t.selection.Judge) })
	return slots, t.selection.Select(slots), nil
}

// A reader that is slow, or that never answers, keeps nobody waiting whose card is in another one.
// The cards that have answered are assessed first. One that may log the user in is used, and no
// slow card is asked for a PIN after that. Where there is none, nothing was shown yet: then all
// cards are waited for, and everything is decided anew with all of them.

// wanted says which cards are to be read. It is decided anew each time that slots are looked at.
func (t *attempt) wanted() token.Want {
	w := token.Want{Skip: func(s *token.Slot) bool { return t.selection.Excludes(s) != "" }}
	// One card that fits is enough, unless each card counts.
	if !t.patient {
		w.Enough = func(s *token.Slot) bool {
			fit, _ := t.selection.Judge(s)
			return fit == token.Fits
		}
	}
	return w
}

func isPending(s token.Slot) bool { return errors.Is(s.Err, token.ErrPending) }

// waitForAll looks at the slots anew, and waits for each card.
func (t *attempt) waitForAll(ctx context.Context, m token.Module) ([]token.Slot, *Refusal) {
	t.patient = true
	t.setStep(stepCard)
	slots, r := t.waitToken(ctx, m)
	t.setStep(stepRead)
	return slots, r
}

// waitInsertion waits for a card up to wait_for_card_timeout, by the library's own event where it
// has one. The slots are looked at once more after each event; a library that cannot wait is
// polled. all are the slots as they were before.
func (t *attempt) waitInsertion(ctx context.Context, m token.Module, all []token.Slot) ([]token.Slot, *Refusal) {
	limit := t.conf.Global.WaitForCardTimeout
	// 5 s more than the wait itself, so that the host does not give up first.
	if err := t.conv.Wait(ctx, limit+5*time.Second); err != nil {
		return nil, refuse(NoCard, err)
	}
	defer func() { _ = t.conv.Wait(ctx, 0) }()

	until, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for {
		if err := t.awaitEvent(until, m); err != nil {
			// Not only the wait for a card is over, but the login's own time.
			if ctx.Err() != nil {
				return nil, refuse(DeadlinePassed, ctx.Err())
			}
			return nil, t.noCard(all, fmt.Sprintf("no card within %s", limit))
		}

		now, slots, r := t.look(ctx, m)
		if r != nil || len(slots) > 0 {
			return slots, r
		}
		// The refusal tells what the slots held last.
		all = now
	}
}

func (t *attempt) awaitEvent(ctx context.Context, m token.Module) error {
	err := m.Wait(ctx)
	if err == nil || !errors.Is(err, token.ErrNoWait) {
		// A wait that ctx has ended may report no error of its own.
		return errors.Join(err, ctx.Err())
	}

	// Without an event of the library the slots are looked at from time to time.
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(pollInterval):
		return nil
	}
}
