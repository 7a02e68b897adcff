package inventory

import (
	"errors"
	"fmt"
	"slices"

	"pam_pkcs11/internal/causes"
	"pam_pkcs11/internal/diagnosis"
	"pam_pkcs11/internal/message"
	"pam_pkcs11/token"
)

// Names reports whether there is a finding of that id.
func (i *Inventory) Names(id string) bool {
	return slices.ContainsFunc(i.Findings, func(f diagnosis.Finding) bool { return f.ID == id })
}

// cause adds a finding of a cause, with its cure. detail may be nil.
func (l *looking) cause(id int, subject string, detail error) {
	l.causeWith(id, subject, detail, causes.Of(id).Cure)
}

// causeWith is cause with another cure than the usual one.
func (l *looking) causeWith(id int, subject string, detail error, cure message.Text) {
	cause := causes.Of(id)
	fact := cause.Meaning
	if detail != nil {
		fact = message.Textf("%s (%s)", cause.Meaning, token.Printable(detail.Error()))
	}
	l.found.Findings.Add(diagnosis.Finding{
		ID:       cause.Name,
		Severity: diagnosis.Warning,
		Subject:  subject,
		Fact:     fact,
		Remedy:   cure,
	})
}

// pin makes findings of the state of a PIN.
func (l *looking) pin(info *token.Info, subject string) {
	subject = fmt.Sprintf("%s, card %q", subject, info.Label)
	pin := &info.PIN
	switch {
	case pin.Tries.Level == token.Locked:
		l.causeWith(causes.PINLocked, subject, nil,
			message.Textf("Unblock it with its PUK: pam-pkcs11 pin unblock --token %q", info.Label))
	case pin.Required && !pin.Set, pin.ToBeChanged:
		l.cause(causes.PINMustBeSet, subject, nil)
	case pin.Tries.Level == token.Last:
		l.causeWith(causes.PINWrong, subject, errors.New("one try is left"),
			message.Textf(
				"Type it once more only if you are sure; with the PUK it is set anew: pam-pkcs11 pin unblock"))
	case pin.Tries.Level == token.Few:
		l.cause(causes.PINWrong, subject, nil)
	}

	if pin.Default {
		l.found.Findings.Add(diagnosis.Finding{
			ID:       "pin-default",
			Severity: diagnosis.Warning,
			Subject:  subject,
			Fact:     message.Textf("The PIN is its maker's, which everybody knows."),
			Remedy:   message.Textf("Change it with: pam-pkcs11 pin change"),
		})
	}
}
