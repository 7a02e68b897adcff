package testca

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/pem"
	"math/big"
	"slices"
	"time"
)

// CRL is a certificate revocation list to be made (RFC 5280, 5.1). The zero value is an empty
// version 2 list that is valid now for a day.
type CRL struct {
	V1                     bool
	Issuer                 []byte // DER; the CA's when nil
	ThisUpdate, NextUpdate time.Time
	NoNextUpdate           bool
	Entries                []Revoked
	RawEntries             []byte // DER of entries that stand behind those of Entries
	Number                 int64  // 0: no CRL number
	DeltaBase              int64  // 0: not a delta
	IDP                    []byte
	Extensions             []Extension
	Scheme                 *Scheme
	CorruptSignature       bool
}

// Revoked is an entry. Reason -1 writes no reason; the zero value of When is an hour ago.
type Revoked struct {
	Serial     []byte // content octets
	When       time.Time
	Reason     int
	Issuer     []byte // DER of a Name for certificateIssuer, in indirect CRLs
	Extensions []Extension
}

// IDP returns the value of an issuingDistributionPoint (RFC 5280, 5.2.5).
type IDP struct {
	Name                          []byte // FullName or RelativeName
	OnlyUser, OnlyCA, OnlyAttribs bool
	Reasons                       uint32
	Indirect                      bool
}

// DER returns the value of the extension.
func (p IDP) DER() []byte {
	var parts [][]byte
	if p.Name != nil {
		parts = append(parts, TLV(0xa0, p.Name))
	}

	flag := func(tag byte, set bool) {
		if set {
			parts = append(parts, TLV(tag, []byte{0xff}))
		}
	}

	flag(0x81, p.OnlyUser)
	flag(0x82, p.OnlyCA)
	if p.Reasons != 0 {
		parts = append(parts, TLV(0x83, bits(p.Reasons)))
	}
	flag(0x84, p.Indirect)
	flag(0x85, p.OnlyAttribs)

	return Sequence(parts...)
}

// CRL signs a list and returns its DER.
func (ca *CA) CRL(c CRL) []byte {
	now := time.Now().Truncate(time.Second)
	if c.ThisUpdate.IsZero() {
		c.ThisUpdate = now.Add(-time.Hour)
	}
	if c.NextUpdate.IsZero() {
		c.NextUpdate = c.ThisUpdate.AddDate(0, 0, 1)
	}

	scheme := ca.Scheme
	if c.Scheme != nil {
		scheme = *c.Scheme
	}

	issuer := c.Issuer
	if issuer == nil {
		issuer = ca.Subject
	}

	// algorithm fills the defaults into the scheme that it gets: Sign has to see it as it was.
	copyOfScheme := scheme
	algorithm := ca.Key.algorithm(&copyOfScheme)

	var parts [][]byte

	// Version 1 is the default and must not be written.
	if !c.V1 {
		parts = append(parts, Number(1))
	}

	parts = append(parts, algorithm, issuer, Time(c.ThisUpdate))
	if !c.NoNextUpdate {
		parts = append(parts, Time(c.NextUpdate))
	}

	// revokedCertificates must not be there when it is empty (RFC 5280, 5.1.2.6).
	if len(c.Entries)+len(c.RawEntries) > 0 {
		var entries [][]byte
		for _, e := range c.Entries {
			entries = append(entries, e.der())
		}
		parts = append(parts, Sequence(append(entries, c.RawEntries)...))
	}

	if extensions := c.extensions(); len(extensions) > 0 {
		parts = append(parts, TLV(0xa0, encodeExtensions(extensions)))
	}

	tbs := Sequence(parts...)
	_, signature := ca.Key.Sign(scheme, tbs)
	if c.CorruptSignature {
		signature = slices.Clone(signature)
		signature[len(signature)-1] ^= 1
	}

	return Sequence(tbs, algorithm, TLV(3, []byte{0}, signature))
}

func (c *CRL) extensions() []Extension {
	var list []Extension
	if c.Number != 0 {
		list = append(list, Extension{"2.5.29.20", false, Integer(big.NewInt(c.Number))})
	}
	if c.DeltaBase != 0 {
		list = append(list, Extension{"2.5.29.27", true, Integer(big.NewInt(c.DeltaBase))})
	}
	if c.IDP != nil {
		list = append(list, Extension{"2.5.29.28", true, c.IDP})
	}
	return append(list, c.Extensions...)
}

func (r *Revoked) der() []byte {
	when := r.When
	if when.IsZero() {
		when = time.Now().Add(-time.Hour)
	}

	var list []Extension

	if r.Reason >= 0 {
		list = append(list, Extension{"2.5.29.21", false, TLV(0x0a, []byte{byte(r.Reason)})})
	}
	if r.Issuer != nil {
		list = append(list, Extension{"2.5.29.29", true, Sequence(Directory(r.Issuer))})
	}
	list = append(list, r.Extensions...)

	// A SEQUENCE of extensions must not be empty.
	if len(list) == 0 {
		return Sequence(TLV(2, r.Serial), Time(when))
	}
	return Sequence(TLV(2, r.Serial), Time(when), encodeExtensions(list))
}

// ManyRevoked returns the DER of n entries as large CAs have them: serial numbers of 16 octets in
// no order, every other entry with a reason. The same n gives the same entries; Lottery gives their
// serial numbers.
func ManyRevoked(n int) []byte {
	// An entry has 35 octets, or 49 with a reason.
	der := make([]byte, 0, 42*n+64)
	for i := range n {
		serial := Lottery(i)

		if i%2 == 0 {
			der = append(der, 0x30, 33)
		} else {
			der = append(der, 0x30, 47)
		}

		der = append(append(der, 0x02, 16), serial[:]...)
		der = append(append(der, 0x17, 13), "250102030405Z"...)

		if i%2 != 0 {
			der = append(der, 0x30, 0x0c, 0x30, 0x0a, 0x06, 0x03, 0x55, 0x1d, 0x15, 0x04, 0x03,
				0x0a, 0x01, byte(i%6))
		}
	}
	return der
}

// Lottery returns the serial number of the i-th entry of ManyRevoked.
func Lottery(i int) [16]byte {
	var serial [16]byte
	sum := sha256.Sum256(binary.BigEndian.AppendUint64(nil, uint64(i)))
	copy(serial[:], sum[:])
	// The first octet is never 00 and its top bit is clear: a positive number of 16 octets.
	serial[0] = serial[0]&0x3f | 0x40
	return serial
}

// PEMCRL returns a CRL in PEM.
func PEMCRL(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: der})
}

// PEMLines is PEM of a CRL with lines of another length and end.
func PEMLines(der []byte, width int, newline string) []byte {
	text := base64.StdEncoding.EncodeToString(der)

	var out bytes.Buffer
	out.WriteString("-----BEGIN X509 CRL-----" + newline)

	for len(text) > 0 {
		n := min(width, len(text))
		out.WriteString(text[:n] + newline)
		text = text[n:]
	}

	out.WriteString("-----END X509 CRL-----" + newline)
	return out.Bytes()
}
