package login

import (
	"context"
	"errors"

	"pam_pkcs11/token"
)

// A reader that is slow, or that never answers, keeps nobody waiting whose card is in another one.
// The cards that have answered are judged first. One that may log the user in is used, and no other
// card is asked for a PIN after that. Where there is none, nothing was shown yet: then all cards are
// waited for, and everything is decided anew with all of them.

// wanted says which cards are to be read. It is decided anew each time that slots are looked at.
func (t *attempt) wanted() token.Want {
	w := token.Want{Skip: func(s *token.Slot) bool { return t.selection.Excludes(s) != "" }}
	if !t.patient {
		w.Enough = func(s *token.Slot) bool {
			fit, _ := t.selection.Judge(s)
			return fit == token.Fits
		}
	}
	return w
}

func isPending(s token.Slot) bool { return errors.Is(s.Err, token.ErrPending) }

// tryReady goes on with the cards that have answered, while others have not. used reports that the
// login has ended with them; else nobody was asked for anything.
//
// It is waited for what the assessment says, as always where there are several cards: it may be that
// the one that is late is the user's only good one.
func (t *attempt) tryReady(
	ctx context.Context, ahead *prepared, m token.Module, remote *remoteAnswer, slots []token.Slot,
) (granted *success, r *Refusal, used bool) {
	cards, r := t.openCards(ctx, m, slots)
	if r != nil {
		return nil, nil, false // said of all cards, if it still holds then
	}
	defer closeCards(cards)
	if r := remote.refusal(ctx); r != nil {
		return nil, r, true
	}

	s := t.assess(ctx, ahead, cards)
	defer s.end()
	if r := t.settle(ctx, s, cards); r != nil {
		return nil, r, true
	}
	var queue []*card
	for _, c := range cards {
		if !c.hidden && t.assessed(s, c) == nil && t.mayAsk(c.token) == nil {
			queue = append(queue, c)
		}
	}
	if len(queue) == 0 {
		t.log.Info("no card that has answered can be used for this login, waiting for the others")
		return nil, nil, false
	}
	granted, r = t.useCards(ctx, s, queue, true)
	return granted, r, true
}

// waitForAll looks at the slots anew, and waits for each card.
func (t *attempt) waitForAll(ctx context.Context, m token.Module) ([]token.Slot, *Refusal) {
	t.patient = true
	t.at(stepCard)
	slots, r := t.waitToken(ctx, m)
	t.at(stepRead)
	return slots, r
}
