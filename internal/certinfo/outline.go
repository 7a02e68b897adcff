package certinfo

import (
	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"
)

// Outline is what can be read of a certificate that Parse refuses, for display only. Its fields are
// texts, so that no check can rely on them.
type Outline struct {
	Subject, Issuer string // RFC 4514; "" when they cannot be read
	Serial          string // as SerialHex(":"); "" when it cannot be read
}

// Empty reports whether nothing could be read.
func (o Outline) Empty() bool { return o == Outline{} }

// ReadOutline reads as much as it can. The certificate may be cut, and other octets may follow it.
func ReadOutline(der []byte) Outline {
	var o Outline
	if len(der) > MaxCertificate {
		return o
	}
	s := cryptobyte.String(der)
	// The headers of Certificate and tbsCertificate: their lengths may reach behind the end.
	for range 2 {
		if !enter(&s) {
			return o
		}
	}

	var c Certificate
	if err := c.readVersionAndSerial(&s); err != nil {
		return o
	}
	o.Serial = c.SerialHex(":")

	// Before the issuer stands the algorithm, before the subject the validity.
	var element cryptobyte.String
	if !s.SkipASN1(asn1.SEQUENCE) || !s.ReadASN1Element(&element, asn1.SEQUENCE) {
		return o
	}
	o.Issuer = nameText(element)
	if s.SkipASN1(asn1.SEQUENCE) && s.ReadASN1Element(&element, asn1.SEQUENCE) {
		o.Subject = nameText(element)
	}
	return o
}

// enter steps over the header of a SEQUENCE, of which the end may be missing.
func enter(s *cryptobyte.String) bool {
	var tag, length uint8
	if !s.ReadUint8(&tag) || asn1.Tag(tag) != asn1.SEQUENCE || !s.ReadUint8(&length) {
		return false
	}
	// The long form has more octets of length, whose value does not matter here.
	return length < 0x80 || s.Skip(int(length&0x7f))
}

// nameText is a Name as a text, "" when it is malformed.
func nameText(der []byte) string {
	name, err := ParseName(der)
	if err != nil {
		return ""
	}
	return name.RFC4514()
}
