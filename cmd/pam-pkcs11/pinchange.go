package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"regexp"

	"pam_pkcs11/internal/cli"
	"pam_pkcs11/internal/message"
	"pam_pkcs11/internal/secret"
	"pam_pkcs11/login"
	"pam_pkcs11/token"
)

// change asks for the PIN and twice for a new one, and has the card change it. Nothing is tried twice.
func (p *pinTool) change(ctx context.Context, w *pinWork, s token.Session) error {
	info := s.Info()
	switch {
	case info.PIN.Tries.Level == token.Locked:
		return told(cli.NoPerm, message.Textf("the PIN of %q is locked (%s pin unblock sets a new one, with the PUK)", info.Label, program))
	case !info.PIN.Set:
		return told(cli.Failure, message.Textf("no PIN has been set on %q yet", info.Label))
	}

	if info.PIN.Default {
		w.warn(message.Textf("the PIN of %q is its maker's, which everybody knows", info.Label))
	}
	if info.PIN.AtReader {
		w.warn(message.Textf("type the PIN of %q (%s), then the new one twice, on the reader's keypad", info.Label, triesLeft(info.PIN.Tries)))
		return w.done(ctx, s, s.ChangePIN(ctx, nil, nil), ofPIN)
	}

	old, err := p.entry(w, info, message.Textf("PIN of %s (%s): ", info.Label, triesLeft(info.PIN.Tries)), nil)
	if err != nil {
		return err
	}
	defer old.Wipe()
	fresh, err := p.twice(w, info, old)
	if err != nil {
		return err
	}
	defer fresh.Wipe()
	return w.done(ctx, s, s.ChangePIN(ctx, old, fresh), ofPIN)
}

// unblock asks for the PUK and twice for a new PIN, and has the card set it.
func (p *pinTool) unblock(ctx context.Context, w *pinWork, s token.Session) error {
	info := s.Info()
	var state token.PUK
	if teller, ok := s.(token.PUKTeller); ok {
		var err error
		if state, err = teller.PUK(ctx); errors.Is(err, token.ErrNotSupported) {
			return told(cli.Failure, message.Textf("the PIN of %q cannot be unblocked here: %v", info.Label, err))
		} else if err != nil {
			return &cli.Error{Code: cli.Unavailable, Err: err}
		}
	}
	if state.Tries.Level == token.Locked {
		return told(cli.NoPerm, message.Textf("the PUK of %q is locked too: only the card's issuer can help", info.Label))
	}
	if state.Default {
		w.warn(message.Textf("the PUK of %q is its maker's, which everybody knows", info.Label))
	}

	puk, err := p.ask(message.Textf("PUK of %s (%s): ", info.Label, triesLeft(state.Tries)).In(w.out.catalogue))
	if err != nil {
		return err
	}
	defer puk.Wipe()
	fresh, err := p.twice(w, info, nil)
	if err != nil {
		return err
	}
	defer fresh.Wipe()
	return w.done(ctx, s, s.Unblock(ctx, puk, fresh), ofPUK)
}

// entry asks for one PIN, and refuses what the card cannot have.
func (p *pinTool) entry(w *pinWork, info *token.Info, question message.Text, pattern *regexp.Regexp) (*secret.PIN, error) {
	pin, err := p.ask(question.In(w.out.catalogue))
	if err != nil {
		return nil, err
	}

	var wrong message.Text
	low, high := login.PINLimits(info)
	switch n := pin.Len(); {
	case n < low || n > high:
		wrong = message.Textf("a PIN of %q has %d to %d characters; nothing was sent to the card", info.Label, low, high)
	case pattern != nil && !pattern.Match(pin.Bytes()):
		wrong = message.Textf("that does not match pin_pattern, %s; nothing was sent to the card", pattern)
	default:
		return pin, nil
	}
	pin.Wipe()
	return nil, told(cli.DataErr, wrong)
}

// twice asks for the new PIN until it is known that it was typed as it was meant: twice.
func (p *pinTool) twice(w *pinWork, info *token.Info, old *secret.PIN) (*secret.PIN, error) {
	fresh, err := p.entry(w, info, message.Textf("New PIN of %s: ", info.Label), w.conf.Global.PINPattern)
	if err != nil {
		return nil, err
	}
	if old.Len() > 0 && bytes.Equal(old.Bytes(), fresh.Bytes()) {
		fresh.Wipe()
		return nil, told(cli.DataErr, message.Textf("the new PIN is the old one; nothing was sent to the card"))
	}

	again, err := p.ask(message.Textf("New PIN of %s again: ", info.Label).In(w.out.catalogue))
	defer again.Wipe()
	if err == nil && !bytes.Equal(again.Bytes(), fresh.Bytes()) {
		err = told(cli.DataErr, message.Textf("the two new PINs are not the same; nothing was sent to the card"))
	}
	if err != nil {
		fresh.Wipe()
		return nil, err
	}
	return fresh, nil
}

// What is verified before a new PIN is set.
const (
	ofPIN = "PIN"
	ofPUK = "PUK"
)

// changedPIN is the JSON of pin change and pin unblock.
type changedPIN struct {
	Label string `json:"label"`
	Done  string `json:"done"` // changed or unblocked
}

// done tells what has become of a change that needed the PIN or the PUK.
func (w *pinWork) done(ctx context.Context, s token.Session, err error, what string) error {
	if err == nil {
		return w.changed(s.Info().Label, what)
	}

	code, text := w.failure(ctx, s, err, what)
	return &cli.Error{Code: code, Err: fmt.Errorf("%s (%w)", text.In(w.out.catalogue), err)}
}

// changed tells that the PIN is a new one.
func (w *pinWork) changed(label, what string) error {
	done, text := "changed", message.Textf("The PIN of %s has been changed.", label)
	if what == ofPUK {
		done, text = "unblocked", message.Textf("The PIN of %s has been unblocked, and changed.", label)
	}
	if w.out.json {
		return w.out.encode(changedPIN{Label: label, Done: done})
	}
	_, err := fmt.Fprintln(w.out.out, shown(text.In(w.out.catalogue)))
	return err
}

// failure is why the PIN is not changed, as far as that is known, with the exit code.
func (w *pinWork) failure(ctx context.Context, s token.Session, err error, what string) (code int, text message.Text) {
	switch {
	case errors.Is(err, token.ErrPINWrong):
		return cli.DataErr, message.Textf("wrong %s: %s", what, w.left(ctx, s, err, what))
	case errors.Is(err, token.ErrPINLocked):
		return cli.NoPerm, message.Textf("the %s is locked after too many wrong tries", what)
	case errors.Is(err, token.ErrPINFormat):
		return cli.DataErr, message.Textf("the card does not take a PIN of this length or of these characters; nothing was changed")
	case errors.Is(err, token.ErrPINNotHere):
		return cli.Failure, message.Textf("the card takes no PIN through this interface, such as one without contacts; nothing was changed")
	case errors.Is(err, token.ErrPINUnsupported):
		return cli.Failure, message.Textf("the card has no such %s; nothing was changed", what)
	case errors.Is(err, token.ErrNotSupported):
		return cli.Failure, message.Textf("not possible with this card")
	case errors.Is(err, token.ErrCancelled):
		return cli.Failure, message.Textf("the entry at the reader was cancelled; nothing was changed")
	case errors.Is(err, token.ErrRemoved), errors.Is(err, token.ErrOtherCard):
		return cli.Unavailable, message.Textf("the card was removed")
	case errors.Is(err, token.ErrInUse), errors.Is(err, token.ErrReset):
		return cli.Unavailable, message.Textf("another program uses the card; nothing was changed")
	}
	return cli.Failure, message.Textf("the card failed, and the PIN may have been changed")
}

// left says how many tries a wrong entry has left.
func (w *pinWork) left(ctx context.Context, s token.Session, wrong error, what string) message.Text {
	var e *token.Error
	if errors.As(wrong, &e) && e.Tries.Counted {
		return triesLeft(e.Tries)
	}
	if what == ofPIN {
		if info, err := s.Refresh(ctx); err == nil {
			return triesLeft(info.PIN.Tries)
		}
	} else if puk, noPUK := pukOf(ctx, s); noPUK.Empty() {
		return triesLeft(puk.Tries)
	}
	return message.Textf("nobody knows how many tries are left")
}
