package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"regexp"

	"pam_pkcs11/internal/cli"
	"pam_pkcs11/internal/secret"
	"pam_pkcs11/login"
	"pam_pkcs11/token"
)

// change asks for the PIN and twice for a new one, and has the card change it. Nothing is tried twice.
func (p *pinTool) change(ctx context.Context, w *pinWork, s token.Session) error {
	info := s.Info()
	switch {
	case info.PIN.Tries.Level == token.Locked:
		return &cli.Error{Code: cli.NoPerm, Err: fmt.Errorf("the PIN of %q is locked (%s pin unblock sets a new one, with the PUK)", info.Label, program)}
	case !info.PIN.Set:
		return fmt.Errorf("no PIN has been set on %q yet", info.Label)
	}

	if info.PIN.Default {
		w.say("the PIN of %q is its maker's, which everybody knows", info.Label)
	}
	if info.PIN.AtReader {
		w.say("type the PIN of %q (%s), then the new one twice, on the reader's keypad", info.Label, triesLeft(info.PIN.Tries))
		return w.done(ctx, s, s.ChangePIN(ctx, nil, nil), ofPIN, "changed")
	}

	old, err := p.entry(info, fmt.Sprintf("PIN of %s (%s): ", info.Label, triesLeft(info.PIN.Tries)), nil)
	if err != nil {
		return err
	}
	defer old.Wipe()
	fresh, err := p.twice(w, info, old)
	if err != nil {
		return err
	}
	defer fresh.Wipe()
	return w.done(ctx, s, s.ChangePIN(ctx, old, fresh), ofPIN, "changed")
}

// unblock asks for the PUK and twice for a new PIN, and has the card set it.
func (p *pinTool) unblock(ctx context.Context, w *pinWork, s token.Session) error {
	info := s.Info()
	var state token.PUK
	if teller, ok := s.(token.PUKTeller); ok {
		var err error
		if state, err = teller.PUK(ctx); errors.Is(err, token.ErrNotSupported) {
			return fmt.Errorf("the PIN of %q cannot be unblocked here: %w", info.Label, err)
		} else if err != nil {
			return &cli.Error{Code: cli.Unavailable, Err: err}
		}
	}
	if state.Tries.Level == token.Locked {
		return &cli.Error{Code: cli.NoPerm, Err: fmt.Errorf("the PUK of %q is locked too: only the card's issuer can help", info.Label)}
	}
	if state.Default {
		w.say("the PUK of %q is its maker's, which everybody knows", info.Label)
	}

	puk, err := p.ask(fmt.Sprintf("PUK of %s (%s): ", info.Label, triesLeft(state.Tries)))
	if err != nil {
		return err
	}
	defer puk.Wipe()
	fresh, err := p.twice(w, info, nil)
	if err != nil {
		return err
	}
	defer fresh.Wipe()
	return w.done(ctx, s, s.Unblock(ctx, puk, fresh), ofPUK, "unblocked, and changed")
}

// entry asks for one PIN, and refuses what the card cannot have.
func (p *pinTool) entry(info *token.Info, question string, pattern *regexp.Regexp) (*secret.PIN, error) {
	pin, err := p.ask(question)
	if err != nil {
		return nil, err
	}

	low, high := login.PINLimits(info)
	switch n := pin.Len(); {
	case n < low || n > high:
		err = fmt.Errorf("a PIN of %q has %d to %d characters; nothing was sent to the card", info.Label, low, high)
	case pattern != nil && !pattern.Match(pin.Bytes()):
		err = fmt.Errorf("that does not match pin_pattern, %s; nothing was sent to the card", pattern)
	default:
		return pin, nil
	}
	pin.Wipe()
	return nil, &cli.Error{Code: cli.DataErr, Err: err}
}

// twice asks for the new PIN until it is known that it was typed as it was meant: twice.
func (p *pinTool) twice(w *pinWork, info *token.Info, old *secret.PIN) (*secret.PIN, error) {
	fresh, err := p.entry(info, fmt.Sprintf("New PIN of %s: ", info.Label), w.conf.Global.PINPattern)
	if err != nil {
		return nil, err
	}
	if old.Len() > 0 && bytes.Equal(old.Bytes(), fresh.Bytes()) {
		fresh.Wipe()
		return nil, &cli.Error{Code: cli.DataErr, Err: errors.New("the new PIN is the old one; nothing was sent to the card")}
	}

	again, err := p.ask(fmt.Sprintf("New PIN of %s again: ", info.Label))
	defer again.Wipe()
	if err == nil && !bytes.Equal(again.Bytes(), fresh.Bytes()) {
		err = &cli.Error{Code: cli.DataErr, Err: errors.New("the two new PINs are not the same; nothing was sent to the card")}
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

// done tells what has become of a change that needed the PIN or the PUK.
func (w *pinWork) done(ctx context.Context, s token.Session, err error, what, word string) error {
	if err == nil {
		_, err = fmt.Fprintf(w.cmd.OutOrStdout(), "The PIN of %s has been %s.\n", s.Info().Label, word)
		return err
	}

	code := cli.Failure
	var text string
	switch {
	case errors.Is(err, token.ErrPINWrong):
		code, text = cli.DataErr, "wrong "+what+": "+w.left(ctx, s, err, what)
	case errors.Is(err, token.ErrPINLocked):
		code, text = cli.NoPerm, "the "+what+" is locked after too many wrong tries"
	case errors.Is(err, token.ErrPINFormat):
		code, text = cli.DataErr, "the card does not take a PIN of this length or of these characters; nothing was changed"
	case errors.Is(err, token.ErrPINNotHere):
		text = "the card takes no PIN through this interface, such as one without contacts; nothing was changed"
	case errors.Is(err, token.ErrPINUnsupported):
		text = "the card has no such " + what + "; nothing was changed"
	case errors.Is(err, token.ErrNotSupported):
		text = "not possible with this card"
	case errors.Is(err, token.ErrCancelled):
		text = "the entry at the reader was cancelled; nothing was changed"
	case errors.Is(err, token.ErrRemoved), errors.Is(err, token.ErrOtherCard):
		code, text = cli.Unavailable, "the card was removed"
	case errors.Is(err, token.ErrInUse), errors.Is(err, token.ErrReset):
		code, text = cli.Unavailable, "another program uses the card; nothing was changed"
	default:
		text = "the card failed, and the PIN may have been changed"
	}
	return &cli.Error{Code: code, Err: fmt.Errorf("%s (%w)", text, err)}
}

// left says how many tries a wrong entry has left.
func (w *pinWork) left(ctx context.Context, s token.Session, wrong error, what string) string {
	var e *token.Error
	if errors.As(wrong, &e) && e.Tries.Counted {
		return triesLeft(e.Tries)
	}
	if what == ofPIN {
		if info, err := s.Refresh(ctx); err == nil {
			return triesLeft(info.PIN.Tries)
		}
	} else if puk, noPUK := pukOf(ctx, s); noPUK == "" {
		return triesLeft(puk.Tries)
	}
	return "nobody knows how many tries are left"
}
