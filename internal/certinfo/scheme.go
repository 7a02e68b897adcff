package certinfo

import (
	"crypto"
	"errors"
	"fmt"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"
)

// SignatureKind is a family of signature schemes.
type SignatureKind int

// The families. The zero value is none.
const (
	SchemeRSAPKCS1v15 SignatureKind = iota + 1 // RFC 8017, 8.2
	SchemeRSAPSS                               // RFC 8017, 8.1
	SchemeECDSA                                // signature as DER SEQUENCE of r and s (RFC 3279, 2.2.3)
	SchemeEd25519                              // RFC 8032, pure
	SchemeEd448                                // RFC 8032, pure, empty context
	SchemeDSA                                  // in chains only
)

var kindNames = map[SignatureKind]string{
	SchemeRSAPKCS1v15: "RSA-PKCS1v15",
	SchemeRSAPSS:      "RSA-PSS",
	SchemeECDSA:       "ECDSA",
	SchemeEd25519:     "Ed25519",
	SchemeEd448:       "Ed448",
	SchemeDSA:         "DSA",
}

// SaltAny stands for a salt of whatever length the signature has.
const SaltAny = -1

// SignatureScheme says how a signature was made. Hash is 0 for Ed25519 and Ed448; SaltLength and
// MGFHash are for RSA-PSS only: SaltLength in octets or SaltAny, MGFHash 0 means the same as Hash.
type SignatureScheme struct {
	Kind       SignatureKind
	Hash       crypto.Hash
	SaltLength int
	MGFHash    crypto.Hash
}

// String names the scheme, such as "RSA-PSS-SHA-256" or "Ed25519".
func (s SignatureScheme) String() string {
	name, ok := kindNames[s.Kind]
	if !ok {
		return fmt.Sprintf("scheme %d", int(s.Kind))
	}
	if s.Hash != 0 {
		name += "-" + s.Hash.String()
	}
	return name
}

// PSSParameters are the RSASSA-PSS-params of RFC 4055, 3.1.
type PSSParameters struct {
	Hash, MGFHash crypto.Hash
	SaltLength    int // octets
}

// hashes by the object identifier of the digest (RFC 4055, RFC 8702 left out).
var hashes = map[string]crypto.Hash{
	"1.2.840.113549.2.5":      crypto.MD5,
	"1.3.14.3.2.26":           crypto.SHA1,
	"2.16.840.1.101.3.4.2.4":  crypto.SHA224,
	"2.16.840.1.101.3.4.2.1":  crypto.SHA256,
	"2.16.840.1.101.3.4.2.2":  crypto.SHA384,
	"2.16.840.1.101.3.4.2.3":  crypto.SHA512,
	"2.16.840.1.101.3.4.2.7":  crypto.SHA3_224,
	"2.16.840.1.101.3.4.2.8":  crypto.SHA3_256,
	"2.16.840.1.101.3.4.2.9":  crypto.SHA3_384,
	"2.16.840.1.101.3.4.2.10": crypto.SHA3_512,
}

// HashByOID returns the hash of a digest algorithm's dotted identifier; 0 when it is not known.
func HashByOID(dotted string) crypto.Hash { return hashes[dotted] }

// signatureAlgorithms are the schemes that the identifier alone names (RFC 3279, 4055, 5758, 8410).
var signatureAlgorithms = map[string]SignatureScheme{
	"1.2.840.113549.1.1.2":    {Kind: SchemeRSAPKCS1v15, Hash: 0}, // MD2: named so that it is refused as weak
	"1.2.840.113549.1.1.4":    {Kind: SchemeRSAPKCS1v15, Hash: crypto.MD5},
	"1.2.840.113549.1.1.5":    {Kind: SchemeRSAPKCS1v15, Hash: crypto.SHA1},
	"1.3.14.3.2.29":           {Kind: SchemeRSAPKCS1v15, Hash: crypto.SHA1},
	"1.2.840.113549.1.1.14":   {Kind: SchemeRSAPKCS1v15, Hash: crypto.SHA224},
	"1.2.840.113549.1.1.11":   {Kind: SchemeRSAPKCS1v15, Hash: crypto.SHA256},
	"1.2.840.113549.1.1.12":   {Kind: SchemeRSAPKCS1v15, Hash: crypto.SHA384},
	"1.2.840.113549.1.1.13":   {Kind: SchemeRSAPKCS1v15, Hash: crypto.SHA512},
	"2.16.840.1.101.3.4.3.13": {Kind: SchemeRSAPKCS1v15, Hash: crypto.SHA3_224},
	"2.16.840.1.101.3.4.3.14": {Kind: SchemeRSAPKCS1v15, Hash: crypto.SHA3_256},
	"2.16.840.1.101.3.4.3.15": {Kind: SchemeRSAPKCS1v15, Hash: crypto.SHA3_384},
	"2.16.840.1.101.3.4.3.16": {Kind: SchemeRSAPKCS1v15, Hash: crypto.SHA3_512},
	"1.2.840.10045.4.1":       {Kind: SchemeECDSA, Hash: crypto.SHA1},
	"1.2.840.10045.4.3.1":     {Kind: SchemeECDSA, Hash: crypto.SHA224},
	"1.2.840.10045.4.3.2":     {Kind: SchemeECDSA, Hash: crypto.SHA256},
	"1.2.840.10045.4.3.3":     {Kind: SchemeECDSA, Hash: crypto.SHA384},
	"1.2.840.10045.4.3.4":     {Kind: SchemeECDSA, Hash: crypto.SHA512},
	"2.16.840.1.101.3.4.3.9":  {Kind: SchemeECDSA, Hash: crypto.SHA3_224},
	"2.16.840.1.101.3.4.3.10": {Kind: SchemeECDSA, Hash: crypto.SHA3_256},
	"2.16.840.1.101.3.4.3.11": {Kind: SchemeECDSA, Hash: crypto.SHA3_384},
	"2.16.840.1.101.3.4.3.12": {Kind: SchemeECDSA, Hash: crypto.SHA3_512},
	"1.2.840.10040.4.3":       {Kind: SchemeDSA, Hash: crypto.SHA1},
	"2.16.840.1.101.3.4.3.1":  {Kind: SchemeDSA, Hash: crypto.SHA224},
	"2.16.840.1.101.3.4.3.2":  {Kind: SchemeDSA, Hash: crypto.SHA256},
	"2.16.840.1.101.3.4.3.3":  {Kind: SchemeDSA, Hash: crypto.SHA384},
	"2.16.840.1.101.3.4.3.4":  {Kind: SchemeDSA, Hash: crypto.SHA512},
	"1.3.101.112":             {Kind: SchemeEd25519},
	"1.3.101.113":             {Kind: SchemeEd448},
}

// ErrUnknownSignature is the error of Scheme for an identifier that is not supported.
var ErrUnknownSignature = errors.New("signature algorithm is not supported")

// Scheme returns the signature scheme that an AlgorithmIdentifier names, in a certificate, CRL or
// OCSP answer.
func (a AlgorithmIdentifier) Scheme() (SignatureScheme, error) {
	if a.OID.Equal(oidKeyRSAPSS) {
		p, err := ParsePSSParameters(a.Parameters)
		if err != nil {
			return SignatureScheme{}, err
		}

		return SignatureScheme{
			Kind:       SchemeRSAPSS,
			Hash:       p.Hash,
			MGFHash:    p.MGFHash,
			SaltLength: p.SaltLength,
		}, nil
	}

	s, ok := signatureAlgorithms[a.OID.String()]
	if !ok {
		return SignatureScheme{}, fmt.Errorf("%w: %v", ErrUnknownSignature, a.OID)
	}

	// The parameters of DSA belong to the key, and are not read here (RFC 3279, 2.2.2).
	if !a.absentOrNull() && s.Kind != SchemeDSA {
		return SignatureScheme{}, fmt.Errorf("signature algorithm %v with parameters", a.OID)
	}
	return s, nil
}

// ParsePSSParameters reads RSASSA-PSS-params; absent fields have the values of RFC 4055 (SHA-1,
// salt of 20 octets).
func ParsePSSParameters(der []byte) (PSSParameters, error) {
	p := PSSParameters{Hash: crypto.SHA1, MGFHash: crypto.SHA1, SaltLength: 20}
	malformed := errors.New("malformed RSA-PSS parameters")

	s := cryptobyte.String(der)
	var seq cryptobyte.String
	if !s.ReadASN1(&seq, asn1.SEQUENCE) || !s.Empty() {
		return p, malformed
	}
	// All fields are optional, in the order of their tags, 0 to 3.
	for tag := range 4 {
		var field cryptobyte.String
		var present bool
		if !seq.ReadOptionalASN1(&field, &present, asn1.Tag(tag).ContextSpecific().Constructed()) {
			return p, malformed
		}

		if !present {
			continue
		}

		if err := p.readField(tag, &field); err != nil {
			return p, err
		}
		if !field.Empty() {
			return p, malformed
		}
	}

	if !seq.Empty() {
		return p, malformed
	}
	return p, nil
}

// readField reads one field by its context tag.
func (p *PSSParameters) readField(tag int, field *cryptobyte.String) error {
	switch tag {
	case 0:
		a, err := readAlgorithm(field)
		if err != nil {
			return err
		}
		return setHash(&p.Hash, a)
	case 1:
		a, err := readAlgorithm(field)
		if err != nil {
			return err
		}
		if !a.OID.Equal(oidMGF1) {
			return fmt.Errorf("RSA-PSS mask generation %v is not supported", a.OID)
		}

		// MGF1 has a hash of its own as its parameter (RFC 4055, 2.2).
		inner, err := ParseAlgorithmIdentifier(a.Parameters)
		if err != nil {
			return err
		}
		return setHash(&p.MGFHash, inner)
	case 2:
		n, ok := readSmallInteger(field, asn1.INTEGER)
		if !ok || n > maxRSABits/8 {
			return errors.New("RSA-PSS salt length out of range")
		}
		p.SaltLength = n
	case 3:
		// RFC 4055, 3.1: only trailerFieldBC is defined.
		if n, ok := readSmallInteger(field, asn1.INTEGER); !ok || n != 1 {
			return errors.New("RSA-PSS trailer field is not 1")
		}
	}
	return nil
}

// setHash sets a hash of the parameters; one that is not known is an error.
func setHash(h *crypto.Hash, a AlgorithmIdentifier) error {
	*h = hashes[a.OID.String()]
	if *h == 0 || !a.absentOrNull() {
		return fmt.Errorf("RSA-PSS hash %v is not supported", a.OID)
	}
	return nil
}
