// Package inventory looks at the readers of a machine: which cards are in them, which certificates
// these show, whose they are, and what is in the way of a login, without a PIN and without a try.
package inventory

import (
	"context"
	"errors"
	"log/slog"

	"pam_pkcs11/config"
	"pam_pkcs11/internal/causes"
	"pam_pkcs11/internal/diagnosis"
	"pam_pkcs11/login"
	"pam_pkcs11/token"
)

// Options say what is looked at, and how.
type Options struct {
	Conf  *config.Config
	Login *login.Authenticator // its Cards are opened, and it checks certificates

	// certificates are not checked: the configuration is not one that was written for this machine
	ShowOnly bool

	Root   string       // of the files of PKCS#11 libraries; "" is this machine's
	Logger *slog.Logger // what a login would log; nil is silent
}

// Inventory is all that was found. Its JSON is an interface.
type Inventory struct {
	Readers  []Reader           `json:"readers"`
	Findings diagnosis.Findings `json:"findings"`
}

// What is in a reader.
const (
	StateCard       = "card"
	StateEmpty      = "empty"
	StateBlank      = "blank"      // a card that was never initialised
	StateUnreadable = "unreadable" // a card that does not answer, or that others use
	StateExcluded   = "excluded"   // the configuration does not take the card
	StateOtherKind  = "other-kind" // no source of the configuration knows the card
)

// Look looks at every reader. What is wrong with readers and cards is a finding; the error is of
// the configuration. The goroutine of the caller must be locked to its thread, see package token.
func Look(ctx context.Context, o Options) (*Inventory, error) {
	l := &looking{
		Options:  o,
		found:    &Inventory{Readers: []Reader{}, Findings: diagnosis.Findings{}},
		checkers: map[int]*login.Checker{},
	}
	selectors, err := login.CardSelection(o.Conf)
	if err != nil {
		return nil, err
	}
	// The first block's rules are made before cards are looked at: an error in them is the file's.
	if !o.ShowOnly {
		if _, err := l.checker(0); err != nil {
			return nil, err
		}
	}

	l.module, err = o.Login.Cards.Open(o.Conf, token.Options{Logger: o.Logger})
	if err != nil {
		l.cause(sourceCause(err), o.Conf.Module.Source(), err)
		return l.found, nil
	}
	defer l.module.Close()

	slots, err := l.module.Slots(ctx)
	if err != nil {
		l.cause(sourceCause(err), o.Conf.Module.Source(), err)
		return l.found, nil
	}

	for i := range slots {
		l.slot(ctx, selectors, &slots[i])
	}
	l.noCard(selectors, slots)
	return l.found, nil
}

// looking is one look under way.
type looking struct {
	Options
	found    *Inventory
	module   token.Module
	checkers map[int]*login.Checker // by block
}

// checker is that of a block.
func (l *looking) checker(block int) (*login.Checker, error) {
	if known := l.checkers[block]; known != nil {
		return known, nil
	}
	checker, err := l.Login.NewChecker(l.Conf.Block(block))
	if err == nil {
		l.checkers[block] = checker
	}
	return checker, err
}

// sourceCause is why there are no slots at all.
func sourceCause(err error) int {
	switch {
	case errors.Is(err, token.ErrNoService):
		return causes.NoDaemon
	case errors.Is(err, token.ErrInUse):
		return causes.ReaderHeld
	case errors.Is(err, token.ErrNotStarted):
		return causes.LibraryFails
	}
	return causes.LibraryMissing
}

// slot looks at one reader and its card.
func (l *looking) slot(ctx context.Context, selectors token.Selectors, slot *token.Slot) {
	fit, why := selectors.Judge(slot)
	r := Reader{Slot: slot.Index, State: StateCard, Why: token.Printable(why)}
	if slot.Describe() == nil {
		r.Name = slot.Description
	}

	subject := r.subject()
	switch fit {
	case token.Empty:
		r.State = StateEmpty
		r.Why = ""
	case token.Blank:
		r.State = StateBlank
		l.cause(causes.TokenBlank, subject, nil)
	case token.Unreadable:
		r.State = StateUnreadable
		l.cause(slotCause(slot.Err), subject, slot.Err)
	case token.Another:
		l.another(ctx, &r, slot)
	}
	// A card that is excluded is shown too: it may be the one that is meant.
	if slot.Token != nil && fit != token.Blank {
		r.Card = l.card(ctx, slot, subject)
	}
	l.found.Readers = append(l.found.Readers, r)
}

// another is a card that the configuration does not take, or one of a kind that its source does not
// know.
func (l *looking) another(ctx context.Context, r *Reader, slot *token.Slot) {
	if slot.Token != nil {
		r.State = StateExcluded
		l.cause(causes.SlotExcluded, r.subject(), errors.New(r.Why))
		return
	}

	r.State = StateOtherKind
	l.cause(causes.NoDriver, r.subject(), slot.Err)
	// They are looked at once, however many cards there are of which the configuration knows none.
	if !l.found.Names(libraryID) {
		l.libraries(ctx)
	}
}

// slotCause is why a card cannot be read.
func slotCause(err error) int {
	if errors.Is(err, token.ErrInUse) || errors.Is(err, token.ErrReset) {
		return causes.ReaderHeld
	}
	return causes.CardMute
}

// noCard says why no card at all may be used, where no finding of a slot says it.
// One slot that is not empty has a finding of its own.
func (l *looking) noCard(selectors token.Selectors, slots []token.Slot) {
	for i := range slots {
		if fit, _ := selectors.Judge(&slots[i]); fit != token.Empty {
			return
		}
	}

	if len(slots) > 0 {
		l.cause(causes.NoCard, l.Conf.Module.Source(), nil)
		return
	}

	why := login.ExplainNoCard(l.Conf, selectors, slots)
	id := causes.NoReader
	if why.Service != nil {
		id = causes.NoDaemon
	}
	l.cause(id, l.Conf.Module.Source(), why)
}
