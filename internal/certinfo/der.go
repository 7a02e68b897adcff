package certinfo

import (
	stdasn1 "encoding/asn1"
	"errors"
	"fmt"
	"math"
	"time"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"
)

// The small steps of DER reading that cryptobyte leaves open: object identifiers with large arcs
// and the two time forms of RFC 5280. Everything else is cryptobyte, whose lengths and tags are
// already the strict ones of DER.

// maxSerial bounds a serial number, in octets. RFC 5280 allows 20; some CAs write 21 and a few
// more.
const maxSerial = 64

// errTrailing is the error of a structure that holds more than its definition allows.
var errTrailing = errors.New("trailing data")

// readOID reads an OBJECT IDENTIFIER, and returns its content octets too; oid is nil when an arc
// does not fit an int (2.25 arcs made of UUIDs do not): such an identifier is legal and simply
// unknown to us.
func readOID(s *cryptobyte.String) (oid stdasn1.ObjectIdentifier, raw []byte, ok bool) {
	var content cryptobyte.String
	if !s.ReadASN1(&content, asn1.OBJECT_IDENTIFIER) {
		return nil, nil, false
	}
	oid, ok = decodeOID(content)
	return oid, content, ok
}

// decodeOID decodes the content octets of an OBJECT IDENTIFIER (X.690, 8.19).
func decodeOID(b []byte) (stdasn1.ObjectIdentifier, bool) {
	// Bit 8 is set in every octet of an arc but the last.
	if len(b) == 0 || b[len(b)-1]&0x80 != 0 {
		return nil, false
	}

	var arcs stdasn1.ObjectIdentifier
	tooLarge := false
	for i := 0; i < len(b); {
		if b[i] == 0x80 {
			return nil, false // a leading zero octet is not minimal
		}

		arc := 0
		for {
			// Shifting on would lose bits: the rest is read for its form alone.
			if arc > math.MaxInt>>7 {
				tooLarge = true
			}
			arc = arc<<7 | int(b[i]&0x7f)
			i++
			if b[i-1]&0x80 == 0 {
				break
			}
		}

		if len(arcs) == 0 {
			// The first two arcs stand in one number (X.690, 8.19.4).
			first := min(arc/40, 2)
			arcs = append(arcs, first, arc-40*first)
			continue
		}
		arcs = append(arcs, arc)
	}
	if tooLarge {
		return nil, true
	}
	return arcs, true
}

// readTime reads a Time (RFC 5280, 4.1.2.5): UTCTime with seconds and Z, years 1950 to 2049, or
// GeneralizedTime with seconds and Z, without fractions. A GeneralizedTime before 2050 is read too:
// it is wrong, but unambiguous.
func readTime(s *cryptobyte.String) (time.Time, error) {
	var content cryptobyte.String
	var tag asn1.Tag
	if !s.ReadAnyASN1(&content, &tag) {
		return time.Time{}, errors.New("time missing")
	}

	layout := ""
	switch {
	case tag == asn1.UTCTime && len(content) == 13:
		layout = "060102150405Z"
	case tag == asn1.GeneralizedTime && len(content) == 15:
		layout = "20060102150405Z"
	default:
		return time.Time{}, fmt.Errorf("time %q is not in the form of RFC 5280", []byte(content))
	}

	t, err := time.Parse(layout, string(content))
	if err != nil {
		return time.Time{}, fmt.Errorf("time %q is not a date", []byte(content))
	}
	// time.Parse reads two digits from 69 on as 19xx, X.509 from 50 on.
	if tag == asn1.UTCTime && t.Year() >= 2050 {
		t = t.AddDate(-100, 0, 0)
	}
	return t, nil
}

// ReadTime reads a Time as it also stands in CRLs.
func ReadTime(s *cryptobyte.String) (time.Time, error) { return readTime(s) }

// readSmallInteger reads a non-negative INTEGER as an int; larger than an int32 gives the largest
// int32, which is what SkipCerts and path lengths mean by such a number.
func readSmallInteger(s *cryptobyte.String, tag asn1.Tag) (int, bool) {
	var content cryptobyte.String

	if !s.ReadASN1(&content, tag) || !minimalInteger(content) || content[0]&0x80 != 0 {
		return 0, false
	}

	n := 0
	for _, b := range content {
		if n > math.MaxInt32>>8 {
			return math.MaxInt32, true
		}
		n = n<<8 | int(b)
	}
	return n, true
}

// ReadSerial reads a serial number and returns its content octets. They must be minimal: serial
// numbers are compared by their octets, and one certificate must not have two.
func ReadSerial(s *cryptobyte.String) ([]byte, bool) {
	var content cryptobyte.String
	ok := s.ReadASN1(&content, asn1.INTEGER) && minimalInteger(content) && len(content) <= maxSerial
	return content, ok
}

// minimalInteger reports whether b is a legal content of an INTEGER in DER (X.690, 8.3.2).
func minimalInteger(b []byte) bool {
	if len(b) == 0 {
		return false
	}
	return len(b) == 1 || !(b[0] == 0 && b[1]&0x80 == 0 || b[0] == 0xff && b[1]&0x80 != 0)
}

// readBits reads a named-bit list: bit i of the result is bit i of the BIT STRING. More than 32
// bits are an error. Trailing zero bits, which DER forbids and many CAs write, are let pass.
func readBits(s *cryptobyte.String, tag asn1.Tag) (uint32, bool) {
	var content cryptobyte.String
	if !s.ReadASN1(&content, tag) || len(content) == 0 || len(content) > 5 {
		return 0, false
	}

	unused, octets := content[0], content[1:]
	if unused > 7 || (len(octets) == 0 && unused != 0) {
		return 0, false
	}
	// The unused bits have to be zero (X.690, 11.2.1).
	if len(octets) > 0 && octets[len(octets)-1]&(1<<unused-1) != 0 {
		return 0, false
	}

	var bits uint32
	for i, b := range octets {
		// The first bit of the list is the highest of its octet.
		for j := range 8 {
			if b&(0x80>>j) != 0 {
				bits |= 1 << (8*i + j)
			}
		}
	}

	return bits, true
}
