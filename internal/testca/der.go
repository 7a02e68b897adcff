package testca

import (
	"encoding/asn1"
	"fmt"
	"math/big"
	"strconv"
	"strings"
	"time"
)

// The DER that certificates are made of, written by hand: encoding/asn1 and crypto/x509 refuse to
// write most of what the tests need.

// TLV returns one DER element: the tag octet, the length, and the parts as its content.
func TLV(tag byte, parts ...[]byte) []byte {
	n := 0
	for _, p := range parts {
		n += len(p)
	}

	out := []byte{tag}

	// The shortest form of a length, as DER wants it (X.690, 10.1).
	switch {
	case n < 0x80:
		out = append(out, byte(n))
	case n < 0x100:
		out = append(out, 0x81, byte(n))
	case n < 0x10000:
		out = append(out, 0x82, byte(n>>8), byte(n))
	case n < 0x1000000:
		out = append(out, 0x83, byte(n>>16), byte(n>>8), byte(n))
	default:
		out = append(out, 0x84, byte(n>>24), byte(n>>16), byte(n>>8), byte(n))
	}

	for _, p := range parts {
		out = append(out, p...)
	}
	return out
}

// Sequence returns a SEQUENCE of the parts.
func Sequence(parts ...[]byte) []byte { return TLV(0x30, parts...) }

// OID returns an OBJECT IDENTIFIER given in dotted form; it panics when dotted is none.
func OID(dotted string) []byte {
	der, err := asn1.Marshal(oid(dotted))
	check(err)
	return der
}

func oid(dotted string) asn1.ObjectIdentifier {
	var id asn1.ObjectIdentifier
	for arc := range strings.SplitSeq(dotted, ".") {
		n, err := strconv.Atoi(arc)
		check(err)
		id = append(id, n)
	}
	return id
}

// Integer returns an INTEGER.
func Integer(n *big.Int) []byte {
	der, err := asn1.Marshal(n)
	check(err)
	return der
}

// Number returns a small INTEGER.
func Number(n int64) []byte { return Integer(big.NewInt(n)) }

// UTF8 returns a UTF8String.
func UTF8(s string) []byte { return TLV(0x0c, []byte(s)) }

// Time returns a Time as RFC 5280 wants it: UTCTime up to 2049, else GeneralizedTime.
func Time(t time.Time) []byte {
	t = t.UTC()
	if t.Year() >= 1950 && t.Year() < 2050 {
		return TLV(0x17, []byte(t.Format("060102150405Z")))
	}
	return TLV(0x18, []byte(t.Format("20060102150405Z")))
}

// bits returns the content of a BIT STRING as a named-bit list, bit i of b being bit i of the list.
func bits(b uint32) []byte {
	if b == 0 {
		return []byte{0}
	}
	var octets [4]byte

	last := 0

	// The list ends with the last bit that is set (X.690, 11.2.2).
	for i := range 32 {
		if b&(1<<i) != 0 {
			octets[i/8] |= 0x80 >> (i % 8)
			last = i
		}
	}

	return append([]byte{byte(7 - last%8)}, octets[:last/8+1]...)
}

// check panics: a mistake in what a test asks for, not something to handle.
func check(err error) {
	if err != nil {
		panic(fmt.Sprintf("testca: %v", err))
	}
}
