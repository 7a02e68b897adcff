package data

import (
	"bytes"
	"fmt"
	"iter"

	"pam_pkcs11/internal/certinfo"
)

// Key references (part 1, table 4; P2 of GENERAL AUTHENTICATE).
const (
	KeyAuthentication byte = 0x9A
	KeySignature      byte = 0x9C
	KeyManagement     byte = 0x9D
	KeyCardAuth       byte = 0x9E
	KeyRetired1       byte = 0x82
	KeyRetired20      byte = 0x95
)

// LabelMode is the version of OpenSC whose names a card gets.
type LabelMode int

// The modes differ where OpenSC has changed its mind.
const (
	LabelOpenSC    LabelMode = iota // the newest, 0.27
	LabelOpenSC023                  // 0.23: the global PIN is named, and a colon stays
)

// Manufacturer and Model are what OpenSC shows of every PIV card.
const (
	Manufacturer = "piv_II"
	Model        = "PKCS#15 emulated"
)

// labelWithoutName is the label of a card whose certificates have no common name.
const labelWithoutName = "PIV_II"

// lengthLabel is the length of CK_TOKEN_INFO.label (PKCS#11), in bytes.
const lengthLabel = 32

// cut is the end of a label that was too long.
const cut = "..."

// Label returns the label of the token that OpenSC shows, at most 32 bytes, without the padding:
// the first common name of the first certificate that has one. certs are those that can be read, in
// the order of LabelOrder; the loop ends with the first one of use, so that no further one need be
// read. global is whether the global PIN is preferred (Discovery.Global).
//
// The bytes are those of the certificate: they need not be UTF-8, and a character may be cut in
// two.
func Label(certs iter.Seq[*certinfo.Certificate], global bool, mode LabelMode) []byte {
	name := []byte(labelWithoutName)
	for c := range certs {
		if found := c.Subject.Values(certinfo.OIDCommonName); len(found) > 0 {
			// OpenSC has names as strings of C: they end with a NUL, and BMPStrings begin with one.
			name, _, _ = bytes.Cut(bytes.Clone(found[0].Raw), []byte{0})
			break
		}
	}

	if mode == LabelOpenSC {
		name = bytes.ReplaceAll(name, []byte{':'}, []byte{'.'})
	}

	suffix := ""
	if mode == LabelOpenSC023 && global {
		suffix = " (Global PIN)"
	}

	if room := lengthLabel - len(suffix); len(name) > room {
		name = append(name[:room-len(cut)], cut...)
	}

	// The padding of CK_TOKEN_INFO is blanks: those at the end of a name cannot be told from it.
	return bytes.TrimRight(append(name, suffix...), " ")
}

// LabelOrder yields the keys in the order in which OpenSC looks for the name of a card.
func LabelOrder() []byte {
	order := []byte{KeyAuthentication, KeySignature, KeyManagement, KeyCardAuth}
	for ref := KeyRetired1; ref <= KeyRetired20; ref++ {
		order = append(order, ref)
	}
	return order
}

// place returns where a key stands in LabelOrder, from 1; 0 for a byte that is no key reference.
func place(ref byte) int {
	switch {
	case ref >= KeyAuthentication && ref <= KeyCardAuth && ref != 0x9B:
		// 9B is the card management key, which has no certificate.
		return bytes.IndexByte(LabelOrder(), ref) + 1
	case IsRetired(ref):
		return int(ref-KeyRetired1) + 5
	}
	return 0
}

// IsRetired reports whether a key reference is that of a retired key, 82 to 95.
func IsRetired(ref byte) bool { return ref >= KeyRetired1 && ref <= KeyRetired20 }

// IDOf returns the CKA_ID that OpenSC gives a key and its certificate: one byte, whose two digits
// are the decimal number of its place (9A 01, 86 09, 87 10, 95 24). nil where ref is no key.
func IDOf(ref byte) []byte {
	n := place(ref)
	if n == 0 {
		return nil
	}
	// Two decimal digits in the place of hexadecimal ones, as OpenSC's table has them.
	return []byte{byte(n/10<<4 | n%10)}
}

// objectLabels are the labels of the certificates that have a name of their own.
var objectLabels = map[byte]string{
	KeyAuthentication: "Certificate for PIV Authentication",
	KeySignature:      "Certificate for Digital Signature",
	KeyManagement:     "Certificate for Key Management",
	KeyCardAuth:       "Certificate for Card Authentication",
}

// ObjectLabel returns the CKA_LABEL that OpenSC gives the certificate of a key; "" where ref is no
// key.
func ObjectLabel(ref byte) string {
	if IsRetired(ref) {
		return fmt.Sprintf("Retired Certificate for Key Management %d", ref-KeyRetired1+1)
	}
	return objectLabels[ref]
}

// TagOf returns the tag of the certificate of a key, for GET DATA (part 1, table 3); 0 where ref is
// no key.
func TagOf(ref byte) uint32 {
	switch {
	case ref == KeyAuthentication:
		return 0x5FC105
	case ref == KeySignature:
		return 0x5FC10A
	case ref == KeyManagement:
		return 0x5FC10B
	case ref == KeyCardAuth:
		return 0x5FC101
	case IsRetired(ref):
		return 0x5FC10D + uint32(ref-KeyRetired1)
	}
	return 0
}
