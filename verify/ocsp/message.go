// Package ocsp asks OCSP responders about certificates (RFC 6960): it makes the questions, reads
// the answers, decides whether they are accepted, and keeps those that last. What follows for a
// login is for the caller to decide.
package ocsp

import (
	"bytes"
	"crypto"
	stdasn1 "encoding/asn1"
	"errors"
	"fmt"
	"time"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"

	"pam_pkcs11/internal/certinfo"
)

// OCSP messages (RFC 6960, 4.1 and 4.2). x/crypto/ocsp is not used: it knows no nonce, drops
// certificates after the first and extensions, and its own check accepts what must not be accepted
// (any certificate of the CA as responder).

// Limits on what an answer may hold. A real one has one to three certificates and is about one
// certificate.
const (
	maxAnswer  = 128 << 10 // octets; a real answer has 0.3 to 10 KiB
	maxCerts   = 16
	maxSingles = 256
	nonceSize  = 32 // octets, the most that RFC 8954, 2.1 allows
)

// Object identifiers of RFC 6960, 4.4, and of the answer's type.
const (
	oidBasic          = "1.3.6.1.5.5.7.48.1.1"
	oidNonce          = "1.3.6.1.5.5.7.48.1.2"
	oidCRLReference   = "1.3.6.1.5.5.7.48.1.3"
	oidArchiveCutoff  = "1.3.6.1.5.5.7.48.1.6"
	oidExtendedRevoke = "1.3.6.1.5.5.7.48.1.9"
)

// hashOIDs are the hashes that CertIDs are asked with.
var hashOIDs = map[crypto.Hash]stdasn1.ObjectIdentifier{
	crypto.SHA1:   {1, 3, 14, 3, 2, 26},
	crypto.SHA256: {2, 16, 840, 1, 101, 3, 4, 2, 1},
}

// certID names a certificate (RFC 6960, 4.1.1).
type certID struct {
	hash                  crypto.Hash // 0: one that is not known
	issuerName, issuerKey []byte      // hashes
	serial                []byte      // content octets
}

// newCertID names a certificate by its issuer. The key is hashed as the content of the BIT STRING.
func newCertID(hash crypto.Hash, cert, issuer *certinfo.Certificate) (certID, error) {
	key, err := publicKeyBits(issuer.RawSPKI)
	if err != nil {
		return certID{}, err
	}
	return certID{
		hash:       hash,
		issuerName: digestOf(hash, cert.RawIssuer),
		issuerKey:  digestOf(hash, key),
		serial:     cert.SerialBytes,
	}, nil
}

// digestOf hashes some octets.
func digestOf(hash crypto.Hash, data []byte) []byte {
	h := hash.New()
	h.Write(data)
	return h.Sum(nil)
}

// publicKeyBits gives the subjectPublicKey of a SubjectPublicKeyInfo.
func publicKeyBits(spki []byte) ([]byte, error) {
	s := cryptobyte.String(spki)
	var seq cryptobyte.String
	var bits []byte
	if !s.ReadASN1(&seq, asn1.SEQUENCE) || !seq.SkipASN1(asn1.SEQUENCE) || !seq.ReadASN1BitStringAsBytes(&bits) {
		return nil, errors.New("malformed public key")
	}
	return bits, nil
}

// equal reports whether both name the same certificate with the same hash. Of an unknown hash
// nothing is equal.
func (id *certID) equal(other *certID) bool {
	return id.hash != 0 && id.hash == other.hash && bytes.Equal(id.issuerName, other.issuerName) &&
		bytes.Equal(id.issuerKey, other.issuerKey) && bytes.Equal(id.serial, other.serial)
}

// marshal writes the content of a Request.
func (id *certID) marshal(b *cryptobyte.Builder) {
	b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1ObjectIdentifier(hashOIDs[id.hash])
			b.AddASN1NULL()
		})
		b.AddASN1OctetString(id.issuerName)
		b.AddASN1OctetString(id.issuerKey)
		b.AddASN1(asn1.INTEGER, func(b *cryptobyte.Builder) { b.AddBytes(id.serial) })
	})
}

// readCertID reads a CertID (RFC 6960, 4.1.1).
func readCertID(s *cryptobyte.String) (id certID, err error) {
	var seq, algorithm cryptobyte.String
	malformed := errors.New("malformed CertID")
	begins := s.ReadASN1(&seq, asn1.SEQUENCE) && seq.ReadASN1Element(&algorithm, asn1.SEQUENCE)
	if !begins || !seq.ReadASN1Bytes(&id.issuerName, asn1.OCTET_STRING) || !seq.ReadASN1Bytes(&id.issuerKey, asn1.OCTET_STRING) {
		return id, malformed
	}

	a, err := certinfo.ParseAlgorithmIdentifier(algorithm)
	if err != nil {
		return id, err
	}
	// Absent parameters mean the same as NULL (RFC 5754, 2); an
	// algorithm with others is another one.
	if n := a.Parameters; len(n) == 0 || string(n) == "\x05\x00" {
		id.hash = certinfo.HashByOID(a.OID.String())
	}

	var ok bool
	if id.serial, ok = certinfo.ReadSerial(&seq); !ok || !seq.Empty() {
		return id, malformed
	}
	return id, nil
}

// request asks about one certificate (RFC 6960, 4.1).
type request struct {
	id    certID
	nonce []byte // nil: none is sent
}

// marshal writes the OCSPRequest. It is not signed, and names no requestor.
func (r *request) marshal() ([]byte, error) {
	var b cryptobyte.Builder
	b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) { // OCSPRequest
		b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) { // TBSRequest
			b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) { // requestList
				b.AddASN1(asn1.SEQUENCE, r.id.marshal)
			})
			if r.nonce != nil {
				b.AddASN1(asn1.Tag(2).ContextSpecific().Constructed(), r.marshalNonce)
			}
		})
	})
	return b.Bytes()
}

// marshalNonce writes the extensions with the nonce alone.
func (r *request) marshalNonce(b *cryptobyte.Builder) {
	b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) { // Extensions
		b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1ObjectIdentifier(stdasn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 48, 1, 2})
			b.AddASN1OctetString(nonceValue(r.nonce))
		})
	})
}

// nonceValue is the extension's value: Nonce ::= OCTET STRING (RFC 8954, 2.1).
func nonceValue(nonce []byte) []byte {
	var b cryptobyte.Builder
	b.AddASN1OctetString(nonce)
	return b.BytesOrPanic()
}

// statusError is a responseStatus other than successful (RFC 6960, 4.2.1). Such an answer is not
// signed.
type statusError int

// The statuses by which the next step is chosen.
const (
	statusMalformedRequest statusError = 1
	statusUnauthorized     statusError = 6
)

var statusNames = map[statusError]string{
	statusMalformedRequest: "malformedRequest",
	2:                      "internalError",
	3:                      "tryLater",
	5:                      "sigRequired",
	statusUnauthorized:     "unauthorized",
}

func (e statusError) Error() string {
	if name, ok := statusNames[e]; ok {
		return "the responder says " + name
	}
	return fmt.Sprintf("the responder says status %d, which does not exist", int(e))
}

// certStatus is what an answer says of a certificate (RFC 6960, 4.2.1); its values are the tags.
type certStatus uint8

const (
	statusGood    certStatus = 0
	statusRevoked certStatus = 1
	statusUnknown certStatus = 2
)

// single is a SingleResponse.
type single struct {
	id                     certID
	status                 certStatus
	revokedAt              time.Time
	reason                 int // CRLReason; certinfo.CRLReasonAbsent when absent
	thisUpdate, nextUpdate time.Time
	unknownCritical        string
}

// answer is a BasicOCSPResponse (RFC 6960, 4.2.1).
type answer struct {
	raw             []byte
	tbs, signature  []byte
	algorithm       certinfo.AlgorithmIdentifier
	responderName   certinfo.Name // byName; nil when byKey
	responderKey    []byte        // byKey: SHA-1 of the key; nil when byName
	producedAt      time.Time
	singles         []single
	nonce           []byte // value of the extension, nil when absent
	unknownCritical string
	certs           []*certinfo.Certificate
}
