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
	refPIN = 0x80
	refPUK = 0x81
)

// reference is a PIN or PUK with its counter.
type reference struct {
	value     []byte
	left, max int
}

func newReference(value []byte, tries int) reference {
	return reference{value: value, left: tries, max: tries}
}

// check compares, and counts: before it compares, as a card does for which power may fail in between.
func (r *reference) check(value []byte) iso7816.Status {
	if r.left == 0 {
		return iso7816.StatusBlocked
	}
	r.left--
	if subtle.ConstantTimeCompare(r.value, value) != 1 {
		return iso7816.StatusTries(r.left)
	}
	r.left = r.max
	return iso7816.StatusOK
}

func (r *reference) set(value []byte) { r.value, r.left = bytes.Clone(value), r.max }

func padded(pin string) []byte {
	b := bytes.Repeat([]byte{0xFF}, referenceLength)
	copy(b, pin)
	return b
}

// goodPIN tells whether these are 6 to 8 digits, filled up with FF (part 2, section 2.4.3).
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

// verify is VERIFY (3.2.1). Without data it asks whether the PIN is still to be verified, and with P1 FF forgets that
// it was. Data that cannot be a PIN costs no try.
func (c *Card) verify(apdu *iso7816.Command) iso7816.Status {
	switch {
	case apdu.P2 != refPIN:
		return iso7816.StatusNoReference
	case apdu.P1 == 0xFF && len(apdu.Data) == 0:
		c.verified, c.fresh = false, false
		return iso7816.StatusOK
	case apdu.P1 != 0:
		return iso7816.StatusWrongP1P2
	case len(apdu.Data) == 0 && c.verified:
		return iso7816.StatusOK
	case len(apdu.Data) == 0:
		return iso7816.StatusTries(c.pin.left)
	}
	c.counters.Verifies++
	if c.pin.left > 0 && !goodPIN(apdu.Data) {
		return iso7816.StatusWrongData
	}
	sw := c.pin.check(apdu.Data)
	c.verified, c.fresh = sw == iso7816.StatusOK, sw == iso7816.StatusOK
	return sw
}

// changeReference is CHANGE REFERENCE DATA (3.2.2): the old PIN or PUK, then the new one.
func (c *Card) changeReference(apdu *iso7816.Command) iso7816.Status {
	r := &c.pin
	switch {
	case apdu.P1 != 0:
		return iso7816.StatusWrongP1P2
	case apdu.P2 == refPUK:
		r = &c.puk
	case apdu.P2 != refPIN:
		return iso7816.StatusNoReference
	}
	return c.replace(apdu.Data, r, r)
}

// resetRetryCounter is RESET RETRY COUNTER (3.2.3): the PUK, then a new PIN.
func (c *Card) resetRetryCounter(apdu *iso7816.Command) iso7816.Status {
	switch {
	case apdu.P1 != 0:
		return iso7816.StatusWrongP1P2
	case apdu.P2 != refPIN:
		return iso7816.StatusNoReference
	}
	return c.replace(apdu.Data, &c.puk, &c.pin)
}

// replace takes the proof for one reference and the new value of another, each of 8 bytes. A new value that is none
// costs no try. Failing against the PIN takes back that it was verified; setting it does so too.
func (c *Card) replace(data []byte, proof, changed *reference) iso7816.Status {
	if proof.left == 0 {
		return iso7816.StatusBlocked
	}
	if len(data) != 2*referenceLength || changed == &c.pin && !goodPIN(data[referenceLength:]) {
		return iso7816.StatusWrongData
	}
	sw := proof.check(data[:referenceLength])
	if sw == iso7816.StatusOK {
		changed.set(data[referenceLength:])
	}
	if proof == &c.pin || changed == &c.pin {
		c.verified, c.fresh = false, false
	}
	return sw
}
