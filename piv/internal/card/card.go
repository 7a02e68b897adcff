// Package card reads what a login has to know of a PIV card (NIST SP 800-73-4): its certificates,
// its names, and the state of its PIN. What the cache knows is not read.
package card

import (
	"fmt"

	"pam_pkcs11/piv/internal/data"
	"pam_pkcs11/token"
)

// Card is what is known of a card: read from it, or remembered and confirmed by nothing yet but the
// beginning of a certificate.
type Card struct {
	Kind      *data.Kind
	APT       *data.APT
	Discovery *data.Discovery // nil: the card has none

	Keys  map[byte]*Key // by key reference, as far as they were looked at
	First *Key          // the one by which the card is known again; nil: it shows no certificate
	Anew  bool          // the cache was wrong about this card: nothing is taken from it any more

	PIN      data.PINAnswer // what the card has said of its PIN last; Word 0: it was not asked
	PINRef   byte           // the key reference of the PIN, P2 of VERIFY
	Features data.Features  // of the reader
	Pad      data.Pad       // its keys

	known    bool   // the cache has it
	serial   string // "" is not read
	label    []byte // raw, as OpenSC gives it
	standard bool   // the PIN is the one that its maker has set
}

// Lengths of PINs, in characters. OpenSC announces four for the sake of old cards; a new one has
// six.
const (
	MinPIN    = 4
	MinNewPIN = 6
	MaxPIN    = 8
)

// Info is the card in the words of a login, with the names that OpenSC gives it.
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

// Tries is what the last answer about the PIN tells of the tries that are left, and that answer in
// words where it is the last try, or none.
func (k *Card) Tries() (tries token.Tries, said string) {
	if k.First != nil && k.First.Entry != nil {
		tries.Most = k.First.Entry.MostTries
	}
	switch {
	case k.PIN.Result == data.PINLocked:
		tries.Level, tries.Counted = token.Locked, true
	case k.PIN.Counted && k.PIN.Result == data.PINWrong:
		tries.Left, tries.Counted = k.PIN.Left, true
		tries.Most = max(tries.Most, tries.Left)
		tries.Level = LevelOf(tries.Left, tries.Most)
	}
	if tries.Level == token.Locked || tries.Level == token.Last {
		said = fmt.Sprintf("the card says %s", k.PIN)
	}
	return tries, said
}

// usualTries is how many tries most cards give.
const usualTries = 3

// LevelOf is how near a PIN with so many tries left is to be locked. most is how many there are, 0
// where that is not known.
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
