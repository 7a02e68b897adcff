// Package activedirectory identifies certificates as Active Directory does: by security identifiers
// and by the values of altSecurityIdentities.
package activedirectory

import (
	"bytes"
	"crypto/sha1"
	"encoding/asn1"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"pam_pkcs11/internal/certinfo"
	"pam_pkcs11/mapper/internal/certtext"
)

// How Active Directory identifies certificates: [MS-PKCA] 3.1.5.2.1. Which of its ways are strong:
// there, 3.1.5.2.1.5, and KB5014754.

// SID is a security identifier ([MS-DTYP] 2.4.2).
type SID struct {
	Text      string
	authority uint64
	parts     []uint32
}

var errSIDsDiffer = errors.New("the certificate carries differing security identifiers")

// SIDOf returns the security identifier of the certificate's holder; nil when there is none. One
// that is malformed, or two that differ, are an error: nobody knows whose the certificate is.
func SIDOf(cert *certinfo.Certificate) (*SID, error) {
	texts := cert.SIDs()
	if len(texts) == 0 {
		return nil, nil
	}
	for _, t := range texts {
		if !t.OK {
			return nil, fmt.Errorf("%w, or a malformed one: %s", errSIDsDiffer, t.Why)
		}
	}
	return ParseSID(texts[0].Value)
}

// ParseSID reads "S-1-5-21-...".
func ParseSID(text string) (*SID, error) {
	// Revision 1 has one to fifteen parts ([MS-DTYP] 2.4.2.1).
	fields := strings.Split(text, "-")
	if len(fields) < 4 || len(fields) > 18 {
		return nil, fmt.Errorf("%q is not a security identifier", text)
	}
	if fields[0] != "S" || fields[1] != "1" {
		return nil, fmt.Errorf("%q is not a security identifier", text)
	}

	authority, err := strconv.ParseUint(fields[2], 10, 48)
	if err != nil {
		return nil, fmt.Errorf("%q is not a security identifier", text)
	}

	s := &SID{Text: text, authority: authority}
	for _, f := range fields[3:] {
		n, err := strconv.ParseUint(f, 10, 32)
		if err != nil {
			return nil, fmt.Errorf("%q is not a security identifier", text)
		}
		s.parts = append(s.parts, uint32(n))
	}
	return s, nil
}

// Binary is the form of objectSid ([MS-DTYP] 2.4.2.2).
func (s *SID) Binary() []byte {
	// The authority has six octets: the two before them are free for the revision and the count.
	out := binary.BigEndian.AppendUint64(nil, s.authority)
	out[0] = 1
	out[1] = byte(len(s.parts))
	for _, p := range s.parts {
		out = binary.LittleEndian.AppendUint32(out, p)
	}
	return out
}

// Rid returns the last part, which differs among the accounts of one domain.
func (s *SID) Rid() string { return strconv.FormatUint(uint64(s.parts[len(s.parts)-1]), 10) }

// Is reports whether the value of an entry is this identifier: in binary, or, as some directories
// keep it, as text.
func (s *SID) Is(value []byte) bool {
	return bytes.Equal(value, s.Binary()) || strings.EqualFold(string(value), s.Text)
}

// Identities returns the values of altSecurityIdentities by which the certificate is known: the
// strong ones, and with weak also those that rest on names alone.
func Identities(cert *certinfo.Certificate, weak bool) ([][]byte, error) {
	var values [][]byte
	add := func(parts ...string) { values = append(values, []byte("X509:"+strings.Join(parts, ""))) }

	issuer := WindowsName(cert.Issuer, true)
	subject := WindowsName(cert.Subject, true)
	if issuer != "" {
		add("<I>", issuer, "<SR>", reversedSerial(cert))
	}
	if len(cert.SubjectKeyID) > 0 {
		add("<SKI>", hex.EncodeToString(cert.SubjectKeyID))
	}
	for _, sum := range publicKeySums(cert) {
		add("<SHA1-PUKEY>", sum)
	}

	holder, err := SIDOf(cert)
	if err != nil {
		return nil, err
	}
	if holder != nil && issuer != "" {
		add("<I>", issuer, "<SID>", holder.Text)
	}

	if !weak {
		return values, nil
	}

	// From here on names alone: another CA may certify the same ones.
	if subject != "" {
		add("<S>", subject)
		if issuer != "" {
			add("<I>", issuer, "<S>", subject)
		}
	}

	// A certificate may hold a thousand addresses; a filter has one clause for each.
	for _, address := range certtext.Usable(cert.Emails()) {
		if len(values) < MaxItemValues {
			add("<RFC822>", address)
		}
	}
	return values, nil
}

// reversedSerial writes the serial number as Windows stores it: least significant octet first,
// without leading zeros of its value.
func reversedSerial(cert *certinfo.Certificate) string {
	octets := SerialOctets(cert)
	slices.Reverse(octets)
	return strings.ToUpper(hex.EncodeToString(octets))
}

// SerialOctets returns the octets of the serial number without the zero that keeps it positive
// (X.690, 8.3).
func SerialOctets(cert *certinfo.Certificate) []byte {
	octets := bytes.Clone(cert.SerialBytes)
	if len(octets) > 1 && octets[0] == 0 {
		octets = octets[1:]
	}
	return octets
}

// publicKeySums returns the SHA-1 sums that directories hold under SHA1-PUKEY: of the key's bits,
// of the whole SubjectPublicKeyInfo, and, as many tools write it, of the certificate. Each of them
// depends on the key.
func publicKeySums(cert *certinfo.Certificate) []string {
	var sums []string
	add := func(octets []byte) {
		sum := sha1.Sum(octets)
		sums = append(sums, hex.EncodeToString(sum[:]))
	}

	var key struct {
		Algorithm asn1.RawValue
		Bits      asn1.BitString
	}

	if rest, err := asn1.Unmarshal(cert.RawSPKI, &key); err == nil && len(rest) == 0 {
		add(key.Bits.Bytes)
	}

	add(cert.RawSPKI)
	add(cert.Raw)
	return sums
}

// windowsTypes are the names of attribute types in Windows' strings, by identifier (CertNameToStr).
// All others are written OID.1.2.3.
var windowsTypes = map[string]string{
	"2.5.4.3":  "CN",
	"2.5.4.4":  "SN",
	"2.5.4.5":  "SERIALNUMBER",
	"2.5.4.6":  "C",
	"2.5.4.7":  "L",
	"2.5.4.8":  "S",
	"2.5.4.9":  "STREET",
	"2.5.4.10": "O",
	"2.5.4.11": "OU",
	"2.5.4.12": "T",
	"2.5.4.13": "Description",
	"2.5.4.17": "PostalCode",
	"2.5.4.18": "POBox",
	"2.5.4.20": "Phone",
	"2.5.4.42": "G",
	"2.5.4.43": "I",
	"2.5.4.46": "dnQualifier",

	"0.9.2342.19200300.100.1.25": "DC",

	"1.2.840.113549.1.9.1": "E",
	"1.2.840.113549.1.9.2": "unstructuredName",
	"1.2.840.113549.1.9.8": "unstructuredAddress",
}

// WindowsName writes a name as Windows does; "" when a part of it is no text. x500 is the order of
// the certificate, most general part first. Attributes of one relative name are joined by " + ".
func WindowsName(n certinfo.Name, x500 bool) string {
	return NameText(n, x500, " + ", func(a certinfo.Attribute) (string, bool) {
		kind, known := windowsTypes[a.OID.String()]
		if !known {
			kind = "OID." + a.OID.String()
		}
		return kind + "=" + windowsValue(a.Text), a.OK
	})
}

// windowsValue quotes what CertNameToStr quotes.
func windowsValue(s string) string {
	if s == "" || s != strings.TrimSpace(s) || strings.ContainsAny(s, ",+=\"\n<>#;") {
		return `"` + strings.ReplaceAll(s, `"`, `""`) + `"`
	}
	return s
}

// NameText joins the attributes of a name; "" when one of them cannot be written.
func NameText(n certinfo.Name, x500 bool, plus string, write func(certinfo.Attribute) (string, bool)) string {
	var rdns []string
	for _, rdn := range n {
		var parts []string
		for _, a := range rdn {
			text, ok := write(a)
			if !ok {
				return ""
			}
			parts = append(parts, text)
		}
		rdns = append(rdns, strings.Join(parts, plus))
	}

	// LDAP writes the most specific part first (RFC 4514, 2.1).
	if !x500 {
		slices.Reverse(rdns)
	}
	return strings.Join(rdns, ",")
}

// MaxItemValues bounds the values of one item that take part in a filter.
const MaxItemValues = 64
