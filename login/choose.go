package login

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"time"
)

// chooseCards puts the cards into the order in which they are asked for a PIN. Cards that show
// their certificates and have none for this user are not in it; cards that hide them come last. One
// card is asked for at once when its assessment needs the network; with several the assessment
// decides first.
func (t *attempt) chooseCards(ctx context.Context, s *assessment, cards []*card) ([]*card, *Refusal) {
	if len(cards) == 1 && cards[0].hidden && t.asksHidden() {
		return cards, nil
	}

	if len(cards) == 1 && t.asksNoChoice(cards[0]) {
		early, r := t.mayAskEarly(ctx, s, cards[0])
		if early || r != nil {
			return cards, r
		}
	} else if r := t.settle(ctx, s, cards); r != nil {
		return nil, r
	}

	queue, r := t.rankCards(s, cards)
	if r != nil {
		return nil, r
	}
	return t.letUserChoose(ctx, queue)
}

// asksNoChoice reports whether the user is not asked which certificate of a card to use, when it is
// the only card.
func (t *attempt) asksNoChoice(c *card) bool {
	if !t.find() || !t.conf.Global.AskCertificate {
		return true
	}

	// Where the card was not read to its end, another user's certificate may still be on it.
	return len(c.objects) == 1 && c.whole
}

// mayAskEarly waits for the assessment as long as a prompt does, and reports whether the PIN is
// asked for beside it. Where the owner comes first, nobody is asked for the PIN of a card that says
// nothing about him, or of a user who must not use one: there it is waited for whose it is.
func (t *attempt) mayAskEarly(ctx context.Context, s *assessment, c *card) (bool, *Refusal) {
	for {
		early, r := t.mayAskNow(ctx, s, c)
		if early || r != nil || !t.assessNext(ctx, s, []*card{c}) {
			return early, r
		}
	}
}

// mayAskNow is mayAskEarly for one round of the assessment.
func (t *attempt) mayAskNow(ctx context.Context, s *assessment, c *card) (bool, *Refusal) {
	// The time runs from here: that the owner is waited for does not add to it.
	grace := time.After(assessGrace)
	if t.ownerFirst() {
		if r := t.waitFor(ctx, s.owned); r != nil {
			return false, r
		}
		if !c.mayBeUsers() {
			return false, t.waitAssessment(ctx, s)
		}
	}

	select {
	case <-s.done:
		return false, nil
	case <-grace:
		return true, nil
	}
}

func (t *attempt) rankCards(s *assessment, cards []*card) ([]*card, *Refusal) {
	var queue, hidden []*card
	var worst *Refusal

	for _, c := range cards {
		if c.hidden && t.asksHidden() {
			hidden = append(hidden, c)
			continue
		}

		r := t.assessed(s, c)
		if r == nil {
			queue = append(queue, c)
		} else {
			worst = furthest(worst, r)
		}
	}

	// Nobody knows whose the hidden ones are: known ones are asked for their PIN first.
	queue = append(queue, hidden...)

	if len(queue) == 0 {
		return nil, worst
	}
	return queue, nil
}

// choice is one certificate that the user may pick.
type choice struct {
	card *card
	cand candidate
}

// letUserChoose asks which certificate to use when several would log different users in. The list
// shows certificates, never the users found. An application that cannot ask gets the first.
func (t *attempt) letUserChoose(ctx context.Context, queue []*card) ([]*card, *Refusal) {
	if !t.asksCertificate() {
		return queue, nil
	}

	// A list that no message can hold is not shown; certificates of one user need no choice.
	choices, users := t.choicesOf(queue)
	if len(users) < 2 || len(choices) > maxChoices {
		return queue, nil
	}

	n, err := t.askNumber(ctx, t.choiceText(choices), len(choices))
	var mute *askError
	switch {
	case errors.As(err, &mute):
		t.log.Info("the application cannot ask which certificate to use, taking the first", "error", err)
		return queue, nil
	case err != nil:
		return nil, refuse(PINNotRead, err)
	}

	picked := choices[n-1]
	picked.card.qualified, picked.card.picked = []candidate{picked.cand}, true
	return []*card{picked.card}, nil
}

// maxChoices keeps the list within one PAM message of 512 bytes.
const maxChoices = 6

func (t *attempt) choicesOf(queue []*card) ([]choice, map[string]bool) {
	var choices []choice
	users := map[string]bool{}
	for _, c := range queue {
		for _, q := range c.qualified {
			choices = append(choices, choice{c, q})
			users[t.accountKey(q.mapped)] = true
		}
	}
	return choices, users
}

func (t *attempt) choiceText(choices []choice) string {
	var b strings.Builder
	b.WriteString(t.say(MsgChooseHeader))
	for i, c := range choices {
		cert := c.cand.object.Cert
		name := shorten(cert.Subject.RFC4514(), 40)
		// The common name is what users know; the whole subject stands in where it has none.
		if names := cert.CommonNames(); len(names) > 0 && names[0].OK {
			name = shorten(names[0].Value, 40)
		}

		b.WriteString("\n" + strconv.Itoa(i+1) + ") " + name + " [" + shorten(c.card.token.Label, 20) + "]")
	}
	b.WriteString("\n" + t.say(MsgChoosePrompt))
	return b.String()
}
