package piv

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	_ "crypto/sha256" // registers SHA-256
	_ "crypto/sha512" // registers SHA-384 and SHA-512
	"encoding/binary"
	"fmt"
	"math/big"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"

	"pam_pkcs11/internal/certinfo"
	"pam_pkcs11/piv/internal/card"
	"pam_pkcs11/piv/internal/channel"
	"pam_pkcs11/token"
)

// scheme is how a key makes signatures.
type scheme struct {
	scheme     certinfo.SignatureScheme
	algorithms []byte // as in P1 of GENERAL AUTHENTICATE, to be tried in this order

	input  func(message []byte) ([]byte, error) // returns what the card signs
	check  func(raw []byte) error               // checks the form of a signature
	verify func(message, raw []byte) bool       // checks a signature by the certificate
}

// Algorithm identifiers (SP 800-78-4, table 6-2; RSA-4096 and P-521 as the makers of cards have
// numbered them).
var (
	rsaAlgorithms = map[int]byte{1024: 0x06, 2048: 0x07, 3072: 0x05, 4096: 0x16}
	ecAlgorithms  = map[elliptic.Curve]byte{
		elliptic.P256(): 0x11,
		elliptic.P384(): 0x14,
		elliptic.P521(): 0x15,
	}
)

// schemeFor returns how a card signs with the key of a certificate.
func schemeFor(public any, k *card.Card) (*scheme, error) {
	switch p := public.(type) {
	case *rsa.PublicKey:
		return rsaScheme(p)
	case *certinfo.PSSPublicKey:
		return pssScheme(p)
	case *ecdsa.PublicKey:
		return ecdsaScheme(p)
	case ed25519.PublicKey:
		return ed25519Scheme(p, k), nil
	}
	return nil, noKey("a PIV card has no keys of type %T", public)
}

// noKey is the error of a key that no card has, or that cannot make the signature.
func noKey(format string, args ...any) error {
	return &token.Error{Kind: token.ErrNoKey, Err: fmt.Errorf(format, args...)}
}

// digestOf returns the hash of a message.
func digestOf(h crypto.Hash, message []byte) []byte {
	d := h.New()
	d.Write(message)
	return d.Sum(nil)
}

// digestInfo is the DER before a SHA-256 hash in a signature of PKCS #1 v1.5 (RFC 8017, 9.2, note
// 1).
var digestInfo = []byte{
	0x30, 0x31, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01,
	0x65, 0x03, 0x04, 0x02, 0x01, 0x05, 0x00, 0x04, 0x20,
}

// rsaScheme is RSASSA-PKCS1-v1_5 with SHA-256: the card does RSA alone, the padding is made here.
func rsaScheme(p *rsa.PublicKey) (*scheme, error) {
	algorithm, ok := rsaAlgorithms[p.N.BitLen()]
	if !ok {
		return nil, noKey("a PIV card has no RSA keys of %d bits", p.N.BitLen())
	}

	return &scheme{
		scheme:     certinfo.SignatureScheme{Kind: certinfo.SchemeRSAPKCS1v15, Hash: crypto.SHA256},
		algorithms: []byte{algorithm},
		input: func(message []byte) ([]byte, error) {
			// 00 01 FF ... FF 00 DigestInfo (RFC 8017, 9.2)
			em := make([]byte, p.Size())
			t := append(append([]byte{}, digestInfo...), digestOf(crypto.SHA256, message)...)
			for i := range em {
				em[i] = 0xFF
			}
			em[0] = 0
			em[1] = 1
			em[len(em)-len(t)-1] = 0
			copy(em[len(em)-len(t):], t)
			return em, nil
		},
		check: func(raw []byte) error { return checkLength(raw, p.Size()) },
		verify: func(message, raw []byte) bool {
			digest := digestOf(crypto.SHA256, message)
			return rsa.VerifyPKCS1v15(p, crypto.SHA256, digest, raw) == nil
		},
	}, nil
}

// checkLength refuses a signature of another length.
func checkLength(raw []byte, want int) error {
	if len(raw) != want {
		return badSignature("%d bytes, not %d", len(raw), want)
	}
	return nil
}

// badSignature returns an error about the form of a signature.
func badSignature(format string, args ...any) error {
	return channel.Malformed("GENERAL AUTHENTICATE", "the signature: "+format, args...)
}

// pssScheme follows the parameters of a key that may only sign with RSASSA-PSS: its hash, and its
// salt or a longer one (RFC 4055, 3.3).
func pssScheme(k *certinfo.PSSPublicKey) (*scheme, error) {
	s, err := rsaScheme(k.Key)
	if err != nil {
		return nil, err
	}

	hash := crypto.SHA256
	salt := hash.Size()
	if p := k.Parameters; p != nil {
		usual := p.Hash == crypto.SHA256 || p.Hash == crypto.SHA384 || p.Hash == crypto.SHA512
		if !usual || p.MGFHash != p.Hash {
			return nil, noKey("RSA-PSS with %v and %v", p.Hash, p.MGFHash)
		}

		// SaltLength is the least length. One as long as the hash is the usual one.
		hash = p.Hash
		salt = max(p.SaltLength, p.Hash.Size())
	}

	s.scheme = certinfo.SignatureScheme{
		Kind:       certinfo.SchemeRSAPSS,
		Hash:       hash,
		SaltLength: salt,
		MGFHash:    hash,
	}
	s.input = func(message []byte) ([]byte, error) { return encodePSS(k.Key, hash, salt, message) }
	s.verify = func(message, raw []byte) bool {
		o := &rsa.PSSOptions{SaltLength: salt, Hash: hash}
		return rsa.VerifyPSS(k.Key, hash, digestOf(hash, message), raw, o) == nil
	}
	return s, nil
}

// encodePSS returns EMSA-PSS-ENCODE (RFC 8017, 9.1.1), with zeros in front up to the length of the
// modulus.
func encodePSS(k *rsa.PublicKey, hash crypto.Hash, saltLength int, message []byte) ([]byte, error) {
	bits := k.N.BitLen() - 1
	length := (bits + 7) / 8
	if length < hash.Size()+saltLength+2 {
		return nil, noKey("an RSA key of %d bits is too short for a salt of %d bytes", bits+1, saltLength)
	}

	salt := make([]byte, saltLength)
	if _, err := rand.Read(salt); err != nil {
		return nil, err
	}

	// M' is eight zeros, the hash of the message, and the salt (step 5).
	d := hash.New()
	d.Write(make([]byte, 8))
	d.Write(digestOf(hash, message))
	d.Write(salt)
	h := d.Sum(nil)

	// DB is zeros, 01 and the salt; EM is DB, masked, with H and BC behind it (steps 7 to 12).
	em := make([]byte, length)
	db := em[:length-len(h)-1]
	db[len(db)-saltLength-1] = 0x01
	copy(db[len(db)-saltLength:], salt)
	maskMGF1(db, hash, h)

	// The highest bits are zero, so that the number is less than the modulus.
	db[0] &= 0xFF >> (8*length - bits)
	copy(em[len(db):], h)
	em[length-1] = 0xBC
	return append(make([]byte, k.Size()-length), em...), nil
}

// maskMGF1 masks b with MGF1 of a seed (RFC 8017, B.2.1).
func maskMGF1(b []byte, hash crypto.Hash, seed []byte) {
	for counter, done := uint32(0), 0; done < len(b); counter++ {
		d := hash.New()
		d.Write(seed)
		d.Write(binary.BigEndian.AppendUint32(nil, counter))
		for _, octet := range d.Sum(nil) {
			if done == len(b) {
				break
			}
			b[done] ^= octet
			done++
		}
	}
}

// ecdsaScheme matches the hash to the curve (FIPS 186-5, 6.1.1): the card gets a hash of exactly
// the curve's length, or all of SHA-512 for P-521.
func ecdsaScheme(p *ecdsa.PublicKey) (*scheme, error) {
	algorithm, ok := ecAlgorithms[p.Curve]
	if !ok {
		return nil, noKey("a PIV card has no keys on %s", p.Curve.Params().Name)
	}

	hash := map[elliptic.Curve]crypto.Hash{
		elliptic.P256(): crypto.SHA256,
		elliptic.P384(): crypto.SHA384,
		elliptic.P521(): crypto.SHA512,
	}[p.Curve]

	return &scheme{
		scheme:     certinfo.SignatureScheme{Kind: certinfo.SchemeECDSA, Hash: hash},
		algorithms: []byte{algorithm},
		input:      func(message []byte) ([]byte, error) { return digestOf(hash, message), nil },
		check:      func(raw []byte) error { return checkECDSA(raw, p.Curve.Params().N) },
		verify: func(message, raw []byte) bool {
			return ecdsa.VerifyASN1(p, digestOf(hash, message), raw)
		},
	}, nil
}

// checkECDSA demands the DER of r and s (RFC 3279, 2.2.3), each from 1 to the order of the curve.
// Any other encoding is refused.
func checkECDSA(raw []byte, order *big.Int) error {
	in := cryptobyte.String(raw)
	var body cryptobyte.String
	r := new(big.Int)
	s := new(big.Int)
	good := in.ReadASN1(&body, asn1.SEQUENCE) && in.Empty() &&
		body.ReadASN1Integer(r) && body.ReadASN1Integer(s) && body.Empty()
	if !good {
		return badSignature("no SEQUENCE of two INTEGERs in DER")
	}

	for _, n := range []*big.Int{r, s} {
		if n.Sign() <= 0 || n.Cmp(order) >= 0 {
			return badSignature("out of range")
		}
	}
	return nil
}

// ed25519Scheme signs the message itself, without a hash (RFC 8032, 5.1).
func ed25519Scheme(p ed25519.PublicKey, k *card.Card) *scheme {
	return &scheme{
		scheme:     certinfo.SignatureScheme{Kind: certinfo.SchemeEd25519},
		algorithms: k.Kind.Ed25519Numbers(k.APT),
		input:      func(message []byte) ([]byte, error) { return message, nil },
		check:      func(raw []byte) error { return checkLength(raw, ed25519.SignatureSize) },
		verify:     func(message, raw []byte) bool { return ed25519.Verify(p, message, raw) },
	}
}
