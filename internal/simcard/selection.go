package simcard

import (
	"bytes"

	"pam_pkcs11/internal/iso7816"
)

// Application is what commands reach: selection is a state of the whole card, which all programs
// that use it share.
type Application int

// The applications. Manager is the card manager of a Java card, which knows no command but SELECT;
// OneTime is the applet for one-time passwords of YubiKeys.
const (
	Manager Application = iota
	PIV
	Foreign
	OneTime
)

// ForeignAID is the identifier of the second applet; "F" begins identifiers that nobody registers
// (ISO/IEC 7816-4, section 8.2.1.2).
var ForeignAID = []byte{0xF0, 'S', 'I', 'M', 'C', 'A', 'R', 'D'}

// APT is a form of the application property template, the answer of SELECT (table 3).
type APT int

// Forms of the template that cards answer.
const (
	APTFull      APT = iota // identifier, authority, label, algorithms
	APTBare                 // neither label nor algorithms (YubiKey)
	APTLengths              // APTFull with 7F66, the greatest lengths of commands and answers
	APTWholeAID             // the whole AID stands where the PIX belongs (cards of SP 800-73-1)
	APTAlgorithm            // APTFull, and Ed25519 is among the algorithms
	// APTOrder has the version before the PIX (some cards of G+D, which OpenSC lists).
	APTOrder
)

// SelectRules is how a card takes SELECT. The zero value is the specification's card: nothing is
// selected after a reset, selecting PIV again keeps what was verified, and selecting what is absent
// leaves PIV selected.
type SelectRules struct {
	// AfterReset is what a reset selects: PIV on PIV and CAC cards.
	AfterReset Application

	// ReselectLoses: selecting PIV while it is selected forgets that the PIN was verified
	// (YubiKey 4.2.6, CanoKey).
	ReselectLoses bool

	// AbsentDeselects: SELECT of an applet that is absent selects the card manager (YubiKey).
	AbsentDeselects bool

	// Template is the form of the answer.
	Template APT

	// Label stands in the template in place of "Simulated PIV card".
	Label string

	// Word is the status word of the answer in place of 9000; 6282 and 6285 occur, with data.
	Word iso7816.Status
}

// aid is the application identifier (part 1, section 2.2), with its version.
var aid = []byte{0xA0, 0x00, 0x00, 0x03, 0x08, 0x00, 0x00, 0x10, 0x00, 0x01, 0x00}

// ridLength is the part of an AID that names who registered it.
const ridLength = 5

// selectApplication is SELECT (3.1.1): by the full AID or one cut short on the right.
func (c *Card) selectApplication(apdu *iso7816.Command) ([]byte, iso7816.Status) {
	rules := &c.o.Select

	switch {
	// Only selection by name, first or only occurrence: PIV has no file identifiers.
	case apdu.P1 != 0x04 || apdu.P2 != 0x00:
		return nil, iso7816.StatusWrongP1P2
	case c.o.Foreign && bytes.Equal(apdu.Data, ForeignAID):
		c.leave(Foreign)
		return nil, iso7816.StatusOK
	case c.o.Yubico != nil && bytes.Equal(apdu.Data, oneTimeAID):
		c.leave(OneTime)
		return c.o.Yubico.oneTimeStatus(), iso7816.StatusOK
	// What is not the beginning of the AID, with the RID at least, names another applet.
	case len(apdu.Data) < ridLength, !bytes.HasPrefix(aid, apdu.Data),
		c.o.Contactless == ContactlessNone:
		if rules.AbsentDeselects {
			c.leave(Manager)
		}
		return nil, iso7816.StatusFileNotFound
	}

	if rules.ReselectLoses {
		c.leave(PIV)
	}

	c.selected = PIV

	if rules.Word != 0 {
		return rules.properties(&c.o), rules.Word
	}
	return rules.properties(&c.o), iso7816.StatusOK
}

// leave selects an application anew: what PIV had granted is gone.
func (c *Card) leave(to Application) {
	c.selected = to
	c.verified = false
	c.fresh = false
	c.managed = false
	c.admin.forget()
}

// properties is the application property template.
func (r *SelectRules) properties(o *Options) []byte {
	tlv := iso7816.AppendTLV
	name := aid[ridLength:]
	if r.Template == APTWholeAID {
		name = aid
	}
	if r.Template == APTOrder {
		name = []byte{0x00, 0x10, 0x00, 0x01, 0x00, 0x00}
	}

	parts := [][]byte{
		tlv(nil, 0x4F, name),
		tlv(nil, 0x79, tlv(nil, 0x4F, aid[:ridLength])),
	}

	if r.Template != APTBare {
		parts = append(parts,
			tlv(nil, 0x50, []byte(or(r.Label, "Simulated PIV card"))),
			tlv(nil, 0xAC, r.algorithms()))
	}

	if r.Template == APTLengths {
		most := []byte{0x02, 0x02, 0x0C, 0x00}
		parts = append(parts, tlv(nil, 0x7F66, most, most))
	}

	return tlv(nil, 0x61, parts...)
}

// algorithms are those that a reader cannot know, and the object identifier that ends them.
func (r *SelectRules) algorithms() (list []byte) {
	for _, a := range []Algorithm{RSA2048, RSA3072, P256, P384, TripleDES, AES128, AES256} {
		list = iso7816.AppendTLV(list, 0x80, []byte{byte(a)})
	}
	if r.Template == APTAlgorithm {
		list = iso7816.AppendTLV(list, 0x80, []byte{byte(Ed25519)})
	}

	// Table 3: the object identifier at the end is 00.
	return iso7816.AppendTLV(list, 0x06, []byte{0})
}

// foreign is the second applet. It has a PIN under 80, which nobody knows, and counts every VERIFY.
type foreign struct {
	verifies, empty int
	left            int
}

// foreignTries is how often a PIN may be presented to the second applet.
const foreignTries = 3

// execute answers VERIFY, and no other command.
func (f *foreign) execute(apdu *iso7816.Command) iso7816.Status {
	if apdu.INS != insVerify {
		return iso7816.StatusWrongINS
	}
	if len(apdu.Data) == 0 {
		f.empty++
		return iso7816.StatusTries(f.left)
	}

	f.verifies++
	if f.left == 0 {
		return iso7816.StatusBlocked
	}

	f.left--
	return iso7816.StatusTries(f.left)
}
