package testca

import (
	"crypto"
	"encoding/asn1"
	"slices"
	"time"
)

// OCSP is an answer to be made (RFC 6960, 4.2.1). The zero value is a successful one about no
// certificate.
type OCSP struct {
	Status           byte // responseStatus; other than 0 leaves the rest out
	Singles          []Single
	ByKey            bool   // responderID by key, not by name
	Responder        []byte // DER of the responderID's name, when not the signer's
	ProducedAt       time.Time
	Nonce            []byte // value of the extension; nil: none
	Extensions       []Extension
	Certs            []*Cert // sent along, in this order
	Scheme           Scheme
	CorruptSignature bool
}

// Statuses of a certificate in an answer; the values are the tags.
const (
	OCSPGood    byte = 0
	OCSPRevoked byte = 1
	OCSPUnknown byte = 2
)

// Single is what an answer says of one certificate. Zero times are now, for NextUpdate an hour
// later; reason -1 writes none.
type Single struct {
	CertID                 []byte // DER, from CertID or from a question
	Status                 byte
	RevokedAt              time.Time
	Reason                 int
	ThisUpdate, NextUpdate time.Time
	NoNextUpdate           bool
	Extensions             []Extension
}

// CertID returns the DER by which OCSP names a certificate of this issuer (RFC 6960, 4.1.1).
func (c *Cert) CertID(hash crypto.Hash, serial []byte) []byte {
	return Sequence(Sequence(OID(hashOIDs[hash]), TLV(5)), TLV(4, digest(hash, c.Subject)),
		TLV(4, digest(hash, c.Key.bits())), TLV(2, serial))
}

func digest(hash crypto.Hash, data []byte) []byte {
	h := hash.New()
	h.Write(data)
	return h.Sum(nil)
}

// bits gives the content of the key's BIT STRING.
func (k *Key) bits() []byte {
	var spki struct {
		Algorithm asn1.RawValue
		Key       asn1.BitString
	}
	_, err := asn1.Unmarshal(k.SPKI, &spki)
	check(err)
	return spki.Key.Bytes
}

func generalized(t time.Time) []byte { return TLV(0x18, []byte(t.UTC().Format("20060102150405Z"))) }

func orNow(t time.Time) time.Time {
	if t.IsZero() {
		return time.Now().Truncate(time.Second)
	}
	return t
}

func (s Single) der() []byte {
	this := orNow(s.ThisUpdate)
	status := TLV(0x80 | s.Status)

	if s.Status == OCSPRevoked {
		// RevokedInfo is a SEQUENCE, good and unknown are NULL: only the former's tag is
		// constructed.
		parts := [][]byte{generalized(orNow(s.RevokedAt))}
		if s.Reason >= 0 {
			parts = append(parts, TLV(0xa0, TLV(0x0a, []byte{byte(s.Reason)})))
		}
		status = TLV(0xa1, parts...)
	}

	parts := [][]byte{s.CertID, status, generalized(this)}

	if !s.NoNextUpdate {
		next := s.NextUpdate
		if next.IsZero() {
			next = this.Add(time.Hour)
		}
		parts = append(parts, TLV(0xa0, generalized(next)))
	}

	if len(s.Extensions) > 0 {
		parts = append(parts, TLV(0xa1, encodeExtensions(s.Extensions)))
	}
	return Sequence(parts...)
}

// OCSP signs an answer and returns the DER of the whole OCSPResponse.
func (c *Cert) OCSP(o OCSP) []byte {
	if o.Status != 0 {
		return Sequence(TLV(0x0a, []byte{o.Status}))
	}

	name := c.Subject
	if o.Responder != nil {
		name = o.Responder
	}
	responder := TLV(0xa1, name)
	// KeyHash is SHA-1 whatever else the answer uses (RFC 6960, 4.2.1).
	if o.ByKey {
		responder = TLV(0xa2, TLV(4, digest(crypto.SHA1, c.Key.bits())))
	}

	var singles [][]byte
	for _, s := range o.Singles {
		singles = append(singles, s.der())
	}

	// ResponseData has no version here: v1 is the default.
	data := [][]byte{responder, generalized(orNow(o.ProducedAt)), Sequence(singles...)}

	extensions := slices.Clone(o.Extensions)
	if o.Nonce != nil {
		extensions = append(extensions, Extension{"1.3.6.1.5.5.7.48.1.2", false, o.Nonce})
	}

	if len(extensions) > 0 {
		data = append(data, TLV(0xa1, encodeExtensions(extensions)))
	}

	tbs := Sequence(data...)
	algorithm, signature := c.Key.Sign(o.Scheme, tbs)

	if o.CorruptSignature {
		signature = slices.Clone(signature)
		signature[len(signature)-1] ^= 1
	}

	basic := [][]byte{tbs, algorithm, TLV(3, []byte{0}, signature)}
	var certs [][]byte
	for _, cert := range o.Certs {
		certs = append(certs, cert.DER)
	}
	if len(certs) > 0 {
		basic = append(basic, TLV(0xa0, Sequence(certs...)))
	}

	return Sequence(TLV(0x0a, []byte{0}),
		TLV(0xa0, Sequence(OID("1.3.6.1.5.5.7.48.1.1"), TLV(4, Sequence(basic...)))))
}

// Question is an OCSP request as a responder reads it.
type Question struct {
	CertID []byte // DER of the first
	Hash   string // dotted, of the first
	Serial []byte // content octets, of the first
	Nonce  []byte // value of the extension; nil: none
	Count  int    // of certificates
}

// ParseQuestion reads an OCSPRequest with the standard library.
func ParseQuestion(der []byte) (Question, error) {
	type certID struct {
		Algorithm struct {
			OID        asn1.ObjectIdentifier
			Parameters asn1.RawValue `asn1:"optional"`
		}
		NameHash, KeyHash []byte
		Serial            asn1.RawValue
	}
	type extension struct {
		OID      asn1.ObjectIdentifier
		Critical bool `asn1:"optional"`
		Value    []byte
	}
	var request struct {
		TBS struct {
			List       []struct{ ID asn1.RawValue }
			Extensions []extension `asn1:"explicit,tag:2,optional"`
		}
	}

	rest, err := asn1.Unmarshal(der, &request)
	if err != nil || len(rest) > 0 || len(request.TBS.List) == 0 {
		return Question{}, asn1.StructuralError{Msg: "not a request of one certificate or more"}
	}

	first := request.TBS.List[0].ID.FullBytes
	var id certID
	if _, err := asn1.Unmarshal(first, &id); err != nil {
		return Question{}, err
	}

	q := Question{
		CertID: first,
		Hash:   id.Algorithm.OID.String(),
		Serial: id.Serial.Bytes,
		Count:  len(request.TBS.List),
	}

	for _, e := range request.TBS.Extensions {
		if e.OID.String() == "1.3.6.1.5.5.7.48.1.2" {
			q.Nonce = e.Value
		}
	}

	return q, nil
}
