package simcard

import (
	"bytes"
	"crypto/subtle"

	"pam_pkcs11/internal/iso7816"
)

// referenceLength is the length of PIN and PUK on the way to the card; a PIN is filled up with FF.
const referenceLength = 8

// P2 of the commands about reference data (part 1, table 4).
const (
	refGlobal = 0x00
	refPIN    = 0x80
	refPUK    = 0x81
)

// reference is a PIN or PUK with its counter.
type reference struct {
	value     []byte
	left, max int
}

func newReference(value []byte, tries int) reference {
	return reference{value: value, left: tries, max: tries}
}

// check compares, and counts before it compares, as a card does: power may fail in between.
func (r *reference) check(value []byte) bool {
	if r.left == 0 {
		return false
	}

	r.left--
	if subtle.ConstantTimeCompare(r.value, value) != 1 {
		return false
	}

	r.left = r.max
	return true
}

func (r *reference) set(value []byte) {
	r.value = bytes.Clone(value)
	r.left = r.max
}

func padded(pin string) []byte {
	b := bytes.Repeat([]byte{0xFF}, referenceLength)
	copy(b, pin)
	return b
}

// goodPIN reports whether these are 6 to 8 digits, filled up with FF (part 2, section 2.4.3).
func goodPIN(b []byte) bool {
	if len(b) != referenceLength {
		return false
	}

	digits := bytes.TrimRight(b, "\xFF")
	for _, c := range digits {
		if c < '0' || c > '9' {
			return false
		}
	}
	return len(digits) >= 6
}

// reference is the PIN that P2 names; nil for none.
func (c *Card) reference(p2 byte) *reference {
	switch {
	case p2 == refPIN && !c.o.PINs.AtZero, p2 == refGlobal && c.o.PINs.AtZero:
		return &c.pin
	case p2 == refGlobal && c.o.GlobalPIN != "":
		return &c.global
	}
	return nil
}

// granted is the flag that a right PIN sets.
func (c *Card) granted(r *reference) *bool {
	if r == &c.global {
		return &c.verifiedGlobal
	}
	return &c.verified
}

// authorised reports whether a PIN is verified that lets keys be used: the application's, or the
// global one where the discovery object says that it serves too.
func (c *Card) authorised() bool {
	return c.verified || c.verifiedGlobal && c.globalServes()
}

// verify is VERIFY (3.2.1). Without data it asks whether the PIN is still to be verified, and with
// P1 FF forgets that it was. Data that cannot be a PIN costs no try.
func (c *Card) verify(apdu *iso7816.Command) iso7816.Status {
	r := c.reference(apdu.P2)
	switch {
	case c.o.Contactless.refuses():
		return iso7816.StatusSecurity
	case r == nil:
		return iso7816.StatusNoReference
	case apdu.P1 == 0xFF && len(apdu.Data) == 0:
		return c.forget(r)
	case apdu.P1 != 0:
		return iso7816.StatusWrongP1P2
	case len(apdu.Data) == 0:
		return c.ask(r)
	}
	c.counters.Verifies++

	// A malformed PIN costs no try; a blocked PIN says so, whatever comes.
	rules := &c.o.PINs
	if sw := rules.form(apdu.Data); sw != iso7816.StatusOK && r.left > 0 {
		return sw
	}

	// Asked before the check: the try that takes the last one is answered otherwise than a later
	// one.
	blocked := r.left == 0
	good := r.check(apdu.Data)
	*c.granted(r) = good
	c.fresh = good

	if good {
		return iso7816.StatusOK
	}
	return rules.wrong(r, blocked)
}

// ask is VERIFY without data.
func (c *Card) ask(r *reference) iso7816.Status {
	rules := &c.o.PINs
	switch {
	case rules.Empty != 0:
		return rules.Empty
	case rules.EmptyCounts:
		blocked := r.left == 0
		r.check(nil)
		*c.granted(r) = false
		return rules.wrong(r, blocked)
	case *c.granted(r) && !rules.EmptyNeverVerified:
		return iso7816.StatusOK
	}
	return rules.tries(r)
}

// forget is VERIFY with P1 FF.
func (c *Card) forget(r *reference) iso7816.Status {
	switch {
	case c.o.PINs.Forget != 0:
		return c.o.PINs.Forget
	case c.o.PINs.ForgetBlocked && r.left == 0:
		return iso7816.StatusBlocked
	}

	*c.granted(r) = false
	c.fresh = false
	return iso7816.StatusOK
}

// changeReference is CHANGE REFERENCE DATA (3.2.2): the old PIN or PUK, then the new one.
func (c *Card) changeReference(apdu *iso7816.Command) iso7816.Status {
	r := c.reference(apdu.P2)
	if apdu.P2 == refPUK {
		r = &c.puk
	}

	switch {
	case c.o.Contactless.refuses():
		return iso7816.StatusSecurity
	case apdu.P1 != 0:
		return iso7816.StatusWrongP1P2
	case r == nil:
		return iso7816.StatusNoReference
	}

	sw := c.replace(apdu.Data, r, r)
	switch {
	case sw == iso7816.StatusOK && r != &c.puk && c.o.PINs.ChangeVerifies:
		*c.granted(r) = true
	case sw.SW1() == 0x63 && c.o.PINs.WrongOld != 0:
		return c.o.PINs.WrongOld
	}
	return sw
}

// resetRetryCounter is RESET RETRY COUNTER (3.2.3): the PUK, then a new PIN of the application.
func (c *Card) resetRetryCounter(apdu *iso7816.Command) iso7816.Status {
	switch {
	case c.o.Contactless.refuses():
		return iso7816.StatusSecurity
	case apdu.P1 != 0:
		return iso7816.StatusWrongP1P2
	case c.reference(apdu.P2) != &c.pin:
		return iso7816.StatusNoReference
	}
	return c.replace(apdu.Data, &c.puk, &c.pin)
}

// replace takes the proof for one reference and the new value of another, each of 8 bytes. A new
// value that is malformed costs no try. A wrong PIN as proof takes back that it was verified, and
// so does setting a new one.
func (c *Card) replace(data []byte, proof, changed *reference) iso7816.Status {
	rules := &c.o.PINs
	if proof.left == 0 {
		return iso7816.StatusBlocked
	}

	if len(data) != 2*referenceLength {
		return rules.badLength()
	}

	// Checked before the proof: nobody should lose a try by a new PIN of the wrong form.
	fresh := data[referenceLength:]
	malformed := changed != &c.puk && rules.form(fresh) != iso7816.StatusOK
	if malformed || tooShort(fresh) {
		return iso7816.StatusWrongData
	}

	good := proof.check(data[:referenceLength])
	if good {
		changed.set(fresh)
	}

	for _, r := range []*reference{proof, changed} {
		if r != &c.puk {
			*c.granted(r) = false
			c.fresh = false
		}
	}

	if good {
		return iso7816.StatusOK
	}
	return rules.wrong(proof, false)
}
