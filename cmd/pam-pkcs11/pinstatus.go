package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"pam_pkcs11/internal/cli"
	"pam_pkcs11/login"
	"pam_pkcs11/token"
)

// status shows the cards, and beside them what is in the other slots that is no card of theirs.
func (p *pinTool) status(ctx context.Context, w *pinWork) error {
	usable := false
	for i := range w.chosen {
		slot := &w.chosen[i]
		session, err := w.module.Open(ctx, *slot)
		if err != nil {
			w.say("card %q: %v", slot.Token.Label, err)
			continue
		}

		info := session.Info()
		puk, told := pukOf(ctx, session)
		_ = session.Close()
		if err := showStatus(w.cmd.OutOrStdout(), slot, info, puk, told); err != nil {
			return err
		}
		usable = usable || info.PIN.Set && info.PIN.Tries.Level != token.Locked
	}
	if !usable {
		return &cli.Error{Code: cli.Failure}
	}
	return nil
}

// pukOf returns the state of the PUK; told is why there is none to be shown, "" where there is.
func pukOf(ctx context.Context, s token.Session) (puk token.PUK, told string) {
	teller, ok := s.(token.PUKTeller)
	if !ok {
		return puk, "the card does not tell"
	}
	puk, err := teller.PUK(ctx)
	switch {
	case errors.Is(err, token.ErrNotSupported):
		return puk, "none that could be used here: " + err.Error()
	case err != nil:
		return puk, "unknown: " + err.Error()
	}
	return puk, ""
}

// showStatus prints one card.
func showStatus(w io.Writer, slot *token.Slot, info *token.Info, puk token.PUK, noPUK string) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n  card:   %s\n  serial: %s\n  made:   %s, %s\n",
		placeOf(slot), info.Label, info.Serial, info.Manufacturer, info.Model)

	fmt.Fprintf(&b, "  PIN:    %s\n", strings.Join(pinState(&info.PIN), "\n          "))
	if noPUK != "" {
		fmt.Fprintf(&b, "  PUK:    %s\n", noPUK)
	} else {
		fmt.Fprintf(&b, "  PUK:    %s\n", triesLeft(puk.Tries))
		if puk.Default {
			fmt.Fprintf(&b, "          it is its maker's, which everybody knows\n")
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// pinState is what a card tells of its PIN, in lines.
func pinState(pin *token.PIN) []string {
	switch {
	case !pin.Set && !pin.Required:
		return []string{"the card has none, and needs none"}
	case !pin.Set:
		return []string{"none has been set yet"}
	}

	lines := []string{triesLeft(pin.Tries)}
	low, high := login.PINLimits(&token.Info{PIN: *pin})
	lines = append(lines, fmt.Sprintf("it has %d to %d characters", low, high))
	if pin.Default {
		lines = append(lines, "it is its maker's, which everybody knows: change it with: "+program+" pin change")
	}
	if pin.ToBeChanged {
		lines = append(lines, "it must be changed")
	}
	if pin.AtReader {
		lines = append(lines, "it is typed on the reader's keypad")
	}
	return lines
}

// triesLeft says how many tries are left, as far as the card tells.
func triesLeft(t token.Tries) string {
	switch {
	case t.Level == token.Locked:
		return "locked after too many wrong tries"
	case t.Counted && t.Most > t.Left:
		return fmt.Sprintf("%s of %d", tries(t.Left), t.Most)
	case t.Counted:
		return tries(t.Left)
	case t.Level == token.Last:
		return tries(1)
	case t.Level == token.Few:
		return "few tries left: a wrong one was typed since the last right one"
	}
	return "no wrong try is known of"
}

func tries(n int) string {
	if n == 1 {
		return "one try left"
	}
	return fmt.Sprintf("%d tries left", n)
}
