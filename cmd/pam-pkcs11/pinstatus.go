package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"pam_pkcs11/internal/cli"
	"pam_pkcs11/internal/message"
	"pam_pkcs11/login"
	"pam_pkcs11/token"
)

// pinStatus is the JSON of pin status.
type pinStatus struct {
	Cards []cardStatus `json:"cards"`
}

// cardStatus is one card.
type cardStatus struct {
	Slot         int       `json:"slot"` // from 1
	Reader       string    `json:"reader,omitempty"`
	Label        string    `json:"label"`
	Serial       string    `json:"serial"`
	Manufacturer string    `json:"manufacturer"`
	Model        string    `json:"model"`
	PIN          pinAnswer `json:"pin"`
	PUK          pukAnswer `json:"puk"`
}

// pinAnswer is what a card tells of its PIN.
type pinAnswer struct {
	Set         bool `json:"set"`
	Required    bool `json:"required"` // the card's keys want it
	ToBeChanged bool `json:"to_be_changed,omitempty"`
	AtReader    bool `json:"at_reader,omitempty"` // it is typed there
	Shortest    int  `json:"shortest,omitempty"`  // in characters
	Longest     int  `json:"longest,omitempty"`
	triesAnswer
}

// pukAnswer is what a card tells of its PUK.
type pukAnswer struct {
	Known bool   `json:"known"`
	Why   string `json:"why,omitempty"` // it is not known
	triesAnswer
}

// triesAnswer is what is known of the tries that are left.
type triesAnswer struct {
	State   string `json:"state,omitempty"` // untold, few, last or locked
	Left    *int   `json:"left,omitempty"`
	Most    int    `json:"most,omitempty"`    // that were ever left
	Default bool   `json:"default,omitempty"` // it is its maker's
}

// levelWords are the words of triesAnswer.
var levelWords = map[token.Level]string{token.Untold: "untold", token.Few: "few", token.Last: "last", token.Locked: "locked"}

func triesOf(t token.Tries, isDefault bool) triesAnswer {
	a := triesAnswer{State: levelWords[t.Level], Most: t.Most, Default: isDefault}
	if t.Counted {
		a.Left = &t.Left
	}
	return a
}

// statusOf is one card for programs.
func statusOf(slot *token.Slot, info *token.Info, puk token.PUK, noPUK message.Text) cardStatus {
	c := cardStatus{Slot: slot.Index, Label: info.Label, Serial: info.Serial, Manufacturer: info.Manufacturer, Model: info.Model}
	if slot.Describe() == nil {
		c.Reader = slot.Description
	}

	c.PIN = pinAnswer{Set: info.PIN.Set, Required: info.PIN.Required, ToBeChanged: info.PIN.ToBeChanged, AtReader: info.PIN.AtReader}
	if info.PIN.Set {
		c.PIN.Shortest, c.PIN.Longest = login.PINLimits(info)
		c.PIN.triesAnswer = triesOf(info.PIN.Tries, info.PIN.Default)
	}
	if c.PUK.Known, c.PUK.Why = noPUK.Empty(), noPUK.String(); c.PUK.Known {
		c.PUK.triesAnswer = triesOf(puk.Tries, puk.Default)
	}
	return c
}

// status shows the cards, and beside them what is in the other slots that is no card of theirs.
func (p *pinTool) status(ctx context.Context, w *pinWork) error {
	usable := false
	answer := pinStatus{Cards: []cardStatus{}}
	for i := range w.chosen {
		slot := &w.chosen[i]
		session, err := w.module.Open(ctx, *slot)
		if err != nil {
			w.warn(message.Textf("card %q: %v", slot.Token.Label, err))
			continue
		}

		info := session.Info()
		puk, told := pukOf(ctx, session)
		_ = session.Close()
		usable = usable || info.PIN.Set && info.PIN.Tries.Level != token.Locked
		if w.out.json {
			answer.Cards = append(answer.Cards, statusOf(slot, info, puk, told))
			continue
		}
		if err := showStatus(w.out, slot, info, puk, told); err != nil {
			return err
		}
	}
	if w.out.json {
		if err := w.out.encode(answer); err != nil {
			return err
		}
	}
	if !usable {
		return &cli.Error{Code: cli.Failure}
	}
	return nil
}

// pukOf returns the state of the PUK; told is why there is none to be shown, empty where there is.
func pukOf(ctx context.Context, s token.Session) (puk token.PUK, told message.Text) {
	teller, ok := s.(token.PUKTeller)
	if !ok {
		return puk, message.Textf("the card does not tell")
	}
	puk, err := teller.PUK(ctx)
	switch {
	case errors.Is(err, token.ErrNotSupported):
		return puk, message.Textf("none that could be used here: %v", err)
	case err != nil:
		return puk, message.Textf("unknown: %v", err)
	}
	return puk, message.Text{}
}

// statusColumn is where the values of a status begin.
const statusColumn = 10

// showStatus prints one card.
func showStatus(o *output, slot *token.Slot, info *token.Info, puk token.PUK, noPUK message.Text) error {
	var b strings.Builder
	line := func(label message.Text, values ...message.Text) {
		head := "  " + label.In(o.catalogue) + ":"
		for _, v := range values {
			fmt.Fprintf(&b, "%-*s%s\n", statusColumn, head, shown(v.In(o.catalogue)))
			head = ""
		}
	}
	text := func(s string) message.Text { return message.Text{Format: "%s", Args: []any{s}} }

	b.WriteString(shown(placeOf(slot).In(o.catalogue)) + "\n")
	line(message.Textf("card"), text(info.Label))
	line(message.Textf("serial"), text(info.Serial))
	line(message.Textf("made"), text(info.Manufacturer+", "+info.Model))
	line(message.Textf("PIN"), pinState(&info.PIN)...)

	if noPUK.Empty() {
		of := []message.Text{triesLeft(puk.Tries)}
		if puk.Default {
			of = append(of, message.Textf("it is its maker's, which everybody knows"))
		}
		line(message.Textf("PUK"), of...)
	} else {
		line(message.Textf("PUK"), noPUK)
	}
	_, err := io.WriteString(o.out, b.String())
	return err
}

// pinState is what a card tells of its PIN, in lines.
func pinState(pin *token.PIN) []message.Text {
	switch {
	case !pin.Set && !pin.Required:
		return []message.Text{message.Textf("the card has none, and needs none")}
	case !pin.Set:
		return []message.Text{message.Textf("none has been set yet")}
	}

	low, high := login.PINLimits(&token.Info{PIN: *pin})
	lines := []message.Text{triesLeft(pin.Tries), message.Textf("it has %d to %d characters", low, high)}
	if pin.Default {
		lines = append(lines, message.Textf("it is its maker's, which everybody knows: change it with: %s", program+" pin change"))
	}
	if pin.ToBeChanged {
		lines = append(lines, message.Textf("it must be changed"))
	}
	if pin.AtReader {
		lines = append(lines, message.Textf("it is typed on the reader's keypad"))
	}
	return lines
}

// triesLeft says how many tries are left, as far as the card tells.
func triesLeft(t token.Tries) message.Text {
	switch {
	case t.Level == token.Locked:
		return message.Textf("locked after too many wrong tries")
	case t.Counted && t.Most > t.Left && t.Left == 1:
		return message.Textf("one try left of %d", t.Most)
	case t.Counted && t.Most > t.Left:
		return message.Textf("%d tries left of %d", t.Left, t.Most)
	case t.Counted && t.Left == 1, t.Level == token.Last:
		return message.Textf("one try left")
	case t.Counted:
		return message.Textf("%d tries left", t.Left)
	case t.Level == token.Few:
		return message.Textf("few tries left: a wrong one was typed since the last right one")
	}
	return message.Textf("no wrong try is known of")
}
