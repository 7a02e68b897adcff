// Package namehash computes the hash of a distinguished name by which OpenSSL finds certificates
// and revocation lists in a directory (X509_NAME_hash; openssl-rehash(1)): a link HASH.N to a
// certificate, HASH.rN to a list.
package namehash

import (
	"bytes"
	"crypto/sha1"
	"encoding/binary"
	"errors"
	"slices"
	"unicode/utf16"
	"unicode/utf8"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"
)

// ErrName is returned for octets that are no distinguished name.
var ErrName = errors.New("not a distinguished name")

// Of returns the hash of a Name in DER (X.501, RFC 5280 4.1.2.4): the first four octets of SHA-1
// over its canonical form, the lowest first. It is a name for files and protects nothing.
func Of(name []byte) (uint32, error) {
	canonical, err := canonicalName(name)
	if err != nil {
		return 0, err
	}
	sum := sha1.Sum(canonical)
	return binary.LittleEndian.Uint32(sum[:4]), nil
}

// canonicalName returns the sets of a name one after the other, without the sequence around them,
// and with canonical values.
func canonicalName(name []byte) ([]byte, error) {
	outer := cryptobyte.String(name)
	var sets cryptobyte.String
	if !outer.ReadASN1(&sets, asn1.SEQUENCE) || !outer.Empty() {
		return nil, ErrName
	}

	var b cryptobyte.Builder
	for !sets.Empty() {
		var set cryptobyte.String
		if !sets.ReadASN1(&set, asn1.SET) {
			return nil, ErrName
		}
		if err := addSet(&b, set); err != nil {
			return nil, err
		}
	}
	return b.Bytes()
}

// addSet adds a relative distinguished name. Its canonical parts are sorted anew.
func addSet(b *cryptobyte.Builder, set cryptobyte.String) error {
	var parts [][]byte
	for !set.Empty() {
		part, err := canonicalPart(&set)
		if err != nil {
			return err
		}
		parts = append(parts, part)
	}

	// A set in DER is sorted by its encodings (X.690, 11.6), and making the values canonical may
	// have changed their order.
	slices.SortFunc(parts, bytes.Compare)

	b.AddASN1(asn1.SET, func(b *cryptobyte.Builder) {
		for _, part := range parts {
			b.AddBytes(part)
		}
	})
	return nil
}

// canonicalPart reads an attribute, and writes it with a canonical value.
func canonicalPart(set *cryptobyte.String) ([]byte, error) {
	var pair, kind, value cryptobyte.String
	var tag asn1.Tag
	if !set.ReadASN1(&pair, asn1.SEQUENCE) || !pair.ReadASN1Element(&kind, asn1.OBJECT_IDENTIFIER) {
		return nil, ErrName
	}

	element := pair
	if !pair.ReadAnyASN1(&value, &tag) || !pair.Empty() {
		return nil, ErrName
	}

	text, isText := decode(tag, value)

	var b cryptobyte.Builder
	b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddBytes(kind)
		// OpenSSL leaves other kinds of values as they are.
		if !isText {
			b.AddBytes(element)
			return
		}
		b.AddASN1(asn1.UTF8String, func(b *cryptobyte.Builder) { b.AddBytes(canonicalText(text)) })
	})
	return b.Bytes()
}

// Tags that cryptobyte has no name for (X.680, 8.6).
const (
	visibleString   asn1.Tag = 26
	universalString asn1.Tag = 28
	bmpString       asn1.Tag = 30
)

// decode returns a text of the kinds that are made canonical, in UTF-8. A text of another kind, or
// one that is not well-formed, stays as it is.
func decode(tag asn1.Tag, value []byte) (text []byte, isText bool) {
	switch tag {
	case asn1.UTF8String:
		return value, utf8.Valid(value)
	case asn1.PrintableString, asn1.IA5String, visibleString, asn1.T61String:
		// OpenSSL reads each octet as a character of ISO 8859-1.
		for _, octet := range value {
			text = utf8.AppendRune(text, rune(octet))
		}
		return text, true
	case bmpString:
		if len(value)%2 != 0 {
			return nil, false
		}

		var units []uint16
		for i := 0; i < len(value); i += 2 {
			units = append(units, binary.BigEndian.Uint16(value[i:]))
		}
		return []byte(string(utf16.Decode(units))), true
	case universalString:
		if len(value)%4 != 0 {
			return nil, false
		}
		for i := 0; i < len(value); i += 4 {
			text = utf8.AppendRune(text, rune(binary.BigEndian.Uint32(value[i:])))
		}
		return text, true
	}
	return nil, false
}

// canonicalText returns a text without blanks at its ends, with one blank where there were several,
// and in lower case; blanks and letters are those of ASCII.
func canonicalText(text []byte) []byte {
	fields := bytes.FieldsFunc(text, func(r rune) bool { return r == ' ' || r >= '\t' && r <= '\r' })
	joined := bytes.Join(fields, []byte(" "))

	// OpenSSL leaves letters outside ASCII as they are.
	for i, octet := range joined {
		if octet >= 'A' && octet <= 'Z' {
			joined[i] = octet + 'a' - 'A'
		}
	}
	return joined
}
