// Package card reads what a login has to know of a PIV card (NIST SP 800-73-4): its certificates,
// its names, and the state of its PIN. It does not read what the cache knows.
package card

import (
	"fmt"

	"pam_pkcs11/piv/internal/data"
	"pam_pkcs11/token"
)

// Card is what is known of a card: read from it, or remembered, and then confirmed only by the
// beginning of a certificate.
type Card struct {
	Kind      *data.Kind
	APT       *data.APT
	Discovery *data.Discovery // nil: the card has none

	Keys  map[byte]*Key // by key reference, as far as they were looked at
	First *Key          // the key by which the card is known again; nil: it shows no certificate
	Anew  bool          // the cache was wrong about this card: nothing is taken from it any more

	PIN      data.PINAnswer // the last answer about the PIN; Word 0: the card was not asked
	PINRef   byte           // the key reference of the PIN, P2 of VERIFY
	Features data.Features  // of the reader
	Pad      data.Pad       // its keys

	known    bool   // the cache has it
	serial   string // "" where it was not read
	label    []byte // as OpenSC has it, perhaps not UTF-8
	standard bool   // the PIN is the one that its maker has set
}

// Lengths of PINs, in characters. OpenSC announces four as the least because of old cards; a new
// PIN has six.
const (
	MinPIN    = 4
	MinNewPIN = 6
	MaxPIN    = 8
)

// Info returns the card in the terms of package token, with the names that OpenSC gives it.
func (k *Card) Info() *token.Info {
	tries, said := k.Tries()

	return &token.Info{
		Label:        token.Printable(string(k.label)),
		Manufacturer: data.Manufacturer,
		Model:        data.Model,
		Serial:       token.Printable(k.serial),
		Initialized:  true,
		PIN: token.PIN{
			Required: true,
			Set:      true,
			AtReader: k.Features.VerifyPIN != 0,
			Default:  k.standard,
			MinLen:   MinPIN,
			MaxLen:   MaxPIN,
			Tries:    tries,
			Said:     said,
		},
	}
}

// Tries returns what the last answer about the PIN says of the tries that are left, and that answer
// in words where it is the last try, or there is none.
func (k *Card) Tries() (tries token.Tries, said string) {
	if k.First != nil && k.First.Entry != nil {
		tries.Most = k.First.Entry.MostTries
	}

	switch {
	case k.PIN.Result == data.PINLocked:
		tries.Level = token.Locked
		tries.Counted = true
	case k.PIN.Counted && k.PIN.Result == data.PINWrong:
		// "Wrong" is the answer to VERIFY without a PIN as well.
		tries.Left = k.PIN.Left
		tries.Counted = true
		tries.Most = max(tries.Most, tries.Left)
		tries.Level = LevelOf(tries.Left, tries.Most)
	}

	// The user sees it in the prompt, before the last try is gone.
	if tries.Level == token.Locked || tries.Level == token.Last {
		said = fmt.Sprintf("the card says %s", k.PIN)
	}
	return tries, said
}

// usualTries is how many tries most cards give.
const usualTries = 3

// LevelOf returns how near a PIN with so many tries left is to be locked. most is how many there
// are in all, 0 where that is not known.
func LevelOf(left, most int) token.Level {
	if most == 0 {
		most = usualTries
	}
	switch {
	case left == 0:
		return token.Locked
	case left == 1:
		return token.Last
	case left < most:
		return token.Few
	}
	return token.Untold
}
