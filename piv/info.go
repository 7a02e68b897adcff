package piv

import (
	"fmt"

	"pam_pkcs11/piv/internal/data"
	"pam_pkcs11/token"
)

// info is the card in the words of a login, with the names that OpenSC gives it.
func (k *card) info() *token.Info {
	tries, said := k.tries()
	return &token.Info{
		Label:        token.Printable(string(k.label)),
		Manufacturer: data.Manufacturer,
		Model:        data.Model,
		Serial:       token.Printable(k.serial),
		Initialized:  true,
		PIN: token.PIN{
			Required: true,
			Set:      true,
			AtReader: k.features.VerifyPIN != 0,
			Default:  k.standard,
			MinLen:   minPIN,
			MaxLen:   maxPIN,
			Tries:    tries,
			Said:     said,
		},
	}
}

// tries is what the last answer about the PIN tells of the tries that are left.
func (k *card) tries() (tries token.Tries, said string) {
	if k.first != nil && k.first.entry != nil {
		tries.Most = k.first.entry.MostTries
	}
	switch {
	case k.pin.Result == data.PINLocked:
		tries.Level, tries.Counted = token.Locked, true
	case k.pin.Counted && k.pin.Result == data.PINWrong:
		tries.Left, tries.Counted = k.pin.Left, true
		tries.Most = max(tries.Most, tries.Left)
		tries.Level = levelOf(tries.Left, tries.Most)
	}
	if tries.Level == token.Locked || tries.Level == token.Last {
		said = fmt.Sprintf("the card says %s", k.pin)
	}
	return tries, said
}

// usualTries is how many tries most cards give.
const usualTries = 3

// levelOf is how near a PIN with so many tries left is to be locked. most is 0 where it is not known.
func levelOf(left, most int) token.Level {
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
