package simcard

import "pam_pkcs11/internal/iso7816"

// Contactless is what a card does behind a contactless reader.
type Contactless int

// Rules for contactless readers. Cards with contacts, and YubiKey 5 NFC and PivApplet behind any
// reader, do everything.
const (
	Contacts        Contactless = iota
	ContactlessFree             // only what part 1, table 2, lets be read; no PIN; 9E alone signs
	ContactlessHide             // ContactlessFree, and what may not be read is said to be absent
	ContactlessNone             // PIV cannot even be selected (Nitrokey 3)
)

// ATRContactless is what readers make of a card without contacts (PC/SC part 3, section 3.1.3.2.3).
var ATRContactless = []byte{0x3B, 0x80, 0x80, 0x01, 0x01}

// ObjectSMSigner is the certificate of who signed the secure messaging key.
const ObjectSMSigner uint32 = 0x5FC122

// openAir are the objects that are read without contacts (part 1, table 2).
var openAir = map[uint32]bool{
	ObjectCHUID:     true,
	ObjectCardAuth:  true,
	ObjectDiscovery: true,
	ObjectSMSigner:  true,
}

func (c Contactless) strict() bool { return c == ContactlessFree || c == ContactlessHide }

// refuses reports whether commands about PINs are refused, VERIFY without data among them.
func (c Contactless) refuses() bool { return c.strict() }

// read judges whether an object may be read.
func (c Contactless) read(number uint32) iso7816.Status {
	switch {
	case !c.strict() || openAir[number]:
		return iso7816.StatusOK
	case c == ContactlessHide:
		return iso7816.StatusFileNotFound
	}
	return iso7816.StatusSecurity
}
