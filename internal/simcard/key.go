package simcard

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"errors"
	"fmt"
	"io"
	"math/big"

	"pam_pkcs11/internal/iso7816"
	"pam_pkcs11/internal/simcard/container"
)

// KeyRef names a place for a key (part 1, table 4).
type KeyRef byte

// The places. All want the PIN but the last; Signature wants it before every use.
const (
	KeyAuthentication KeyRef = 0x9A
	KeySignature      KeyRef = 0x9C
	KeyManagement     KeyRef = 0x9D
	KeyCardAuth       KeyRef = 0x9E
	KeyRetired1       KeyRef = 0x82
	KeyRetired20      KeyRef = 0x95

	refAdmin = 0x9B
)

// object is where the certificate of a key lies, 0 for no key.
func (r KeyRef) object() uint32 {
	switch {
	case r == KeyAuthentication:
		return ObjectAuthentication
	case r == KeySignature:
		return ObjectSignature
	case r == KeyManagement:
		return ObjectManagement
	case r == KeyCardAuth:
		return ObjectCardAuth
	case r >= KeyRetired1 && r <= KeyRetired20:
		return objectRetired + uint32(r-KeyRetired1)
	}
	return 0
}

// isRetiredBeyond reports whether a card has fewer places for retired keys than this one needs.
func (o *Options) isRetiredBeyond(ref KeyRef) bool {
	return o.Retired > 0 && ref >= KeyRetired1 && ref <= KeyRetired20 &&
		int(ref-KeyRetired1) >= o.Retired
}

// SetKey puts a key and its certificate (DER) in a place; either may be nil and is then taken away.
func (c *Card) SetKey(ref KeyRef, private crypto.PrivateKey, certificateDER []byte) error {
	if ref.object() == 0 {
		return fmt.Errorf("a PIV card has no key %02X", byte(ref))
	}
	if c.o.isRetiredBeyond(ref) {
		return fmt.Errorf("this card has no place %02X", byte(ref))
	}

	c.mu.Lock()
	defer c.mu.Unlock()

	// The old key goes first: one that cannot be stored leaves the place empty.
	delete(c.keys, ref)
	if private != nil {
		k, err := newKey(private, c.o.Ed25519)
		if err != nil {
			return err
		}
		c.keys[ref] = k
	}

	// The certificate of the old key goes with it.
	c.setObject(ref.object(), nil)
	if certificateDER != nil {
		object, err := container.Form{}.Object(certificateDER)
		if err != nil {
			return err
		}
		c.setObject(ref.object(), object)
	}
	return nil
}

// Algorithm is an identifier of SP 800-78-4, table 6-2, or one that cards have beside it.
type Algorithm byte

// The algorithms the card has; TripleDES and AES are for the administrator's key only. RSA4096 and
// Ed25519 are Yubico's numbers (version 5.7), P521 is that of Nitrokey's list.
const (
	TripleDES Algorithm = 0x03
	RSA3072   Algorithm = 0x05
	RSA1024   Algorithm = 0x06
	RSA2048   Algorithm = 0x07
	AES128    Algorithm = 0x08
	AES256    Algorithm = 0x0C
	P256      Algorithm = 0x11
	P384      Algorithm = 0x14
	P521      Algorithm = 0x15
	RSA4096   Algorithm = 0x16
	Ed25519   Algorithm = 0xE0
)

// Other numbers of Ed25519, for Options.Ed25519: of Nitrokey's list, and of SoloKeys and piv-go.
const (
	Ed25519Nitrokey Algorithm = 0xE2
	Ed25519Solo     Algorithm = 0x22
)

// key is a private key of one of the three kinds.
type key struct {
	algorithm Algorithm
	private   crypto.PrivateKey
	rsa       *rsa.PrivateKey
	ec        *ecdsa.PrivateKey
	ed        ed25519.PrivateKey
	generated bool // on the card
}

var (
	rsaAlgorithms = map[int]Algorithm{1024: RSA1024, 2048: RSA2048, 3072: RSA3072, 4096: RSA4096}

	curves = map[elliptic.Curve]Algorithm{
		elliptic.P256(): P256,
		elliptic.P384(): P384,
		elliptic.P521(): P521,
	}
)

// newKey takes a private key. edwards is the number of Ed25519 on this card.
func newKey(private crypto.PrivateKey, edwards Algorithm) (*key, error) {
	switch k := private.(type) {
	case *rsa.PrivateKey:
		if a, ok := rsaAlgorithms[k.N.BitLen()]; ok && len(k.Primes) == 2 {
			k.Precompute()
			return &key{algorithm: a, private: k, rsa: k}, nil
		}
		return nil, fmt.Errorf("a PIV card has no RSA keys of %d bits", k.N.BitLen())
	case *ecdsa.PrivateKey:
		if a, ok := curves[k.Curve]; ok {
			return &key{algorithm: a, private: k, ec: k}, nil
		}
		return nil, errors.New("a PIV card has keys on P-256, P-384 and P-521 only")
	case ed25519.PrivateKey:
		return &key{algorithm: edwards, private: k, ed: k}, nil
	}
	return nil, fmt.Errorf("a PIV card has no keys of type %T", private)
}

// generateKey makes a new key.
func generateKey(a, edwards Algorithm, random io.Reader) (*key, error) {
	var private crypto.PrivateKey
	var err error

	var bits int
	var curve elliptic.Curve
	for n, of := range rsaAlgorithms {
		if of == a {
			bits = n
		}
	}

	for c, of := range curves {
		if of == a {
			curve = c
		}
	}

	switch {
	case bits > 0:
		private, err = rsa.GenerateKey(random, bits)
	case curve != nil:
		private, err = ecdsa.GenerateKey(curve, random)
	case a == edwards:
		_, private, err = ed25519.GenerateKey(random)
	default:
		return nil, errors.ErrUnsupported
	}

	if err != nil {
		return nil, err
	}

	k, err := newKey(private, edwards)
	if err == nil {
		k.generated = true
	}
	return k, err
}

// power is RSA without any padding: x^d mod N, by the primes.
func (k *key) power(x []byte) []byte {
	n := k.rsa.N
	p := k.rsa.Primes[0]
	q := k.rsa.Primes[1]

	// By the Chinese remainder theorem (RFC 8017, 5.1.2), four times as fast as with d.
	base := new(big.Int).SetBytes(x)
	m1 := new(big.Int).Exp(base, k.rsa.Precomputed.Dp, p)
	m2 := new(big.Int).Exp(base, k.rsa.Precomputed.Dq, q)
	m1.Sub(m1, m2).Mul(m1, k.rsa.Precomputed.Qinv).Mod(m1, p)
	m1.Mul(m1, q).Add(m1, m2)
	return m1.FillBytes(make([]byte, (n.BitLen()+7)/8))
}

// publicValue is the value of the public key's template (table 14): modulus and exponent, or a
// point.
func (k *key) publicValue() []byte {
	tlv := iso7816.AppendTLV

	switch {
	case k.rsa != nil:
		e := big.NewInt(int64(k.rsa.E))
		return tlv(tlv(nil, 0x81, k.rsa.N.Bytes()), 0x82, e.Bytes())
	case k.ed != nil:
		return tlv(nil, 0x86, k.ed.Public().(ed25519.PublicKey))
	}

	point, err := k.ec.PublicKey.Bytes()
	if err != nil {
		return nil
	}
	return tlv(nil, 0x86, point)
}
