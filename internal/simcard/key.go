package simcard

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"errors"
	"fmt"
	"io"
	"math/big"
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

// Algorithm is an identifier of SP 800-78-4, table 6-2.
type Algorithm byte

// The algorithms the card has; TripleDES and AES are for the administrator's key only.
const (
	TripleDES Algorithm = 0x03
	RSA3072   Algorithm = 0x05
	RSA2048   Algorithm = 0x07
	AES128    Algorithm = 0x08
	AES256    Algorithm = 0x0C
	P256      Algorithm = 0x11
	P384      Algorithm = 0x14
	Ed25519   Algorithm = 0xE0 // of YubiKey 5.7, Token2 and CanoKey; SP 800-78 has none
)

// key is a private key of either kind.
type key struct {
	algorithm Algorithm
	rsa       *rsa.PrivateKey
	ec        *ecdsa.PrivateKey
}

func newKey(private crypto.PrivateKey) (*key, error) {
	switch k := private.(type) {
	case *rsa.PrivateKey:
		switch k.N.BitLen() {
		case 2048:
			return &key{algorithm: RSA2048, rsa: k}, nil
		case 3072:
			return &key{algorithm: RSA3072, rsa: k}, nil
		}
		return nil, fmt.Errorf("a PIV card has no RSA keys of %d bits", k.N.BitLen())
	case *ecdsa.PrivateKey:
		switch k.Curve {
		case elliptic.P256():
			return &key{algorithm: P256, ec: k}, nil
		case elliptic.P384():
			return &key{algorithm: P384, ec: k}, nil
		}
		return nil, errors.New("a PIV card has keys on P-256 and P-384 only")
	}
	return nil, fmt.Errorf("a PIV card has no keys of type %T", private)
}

// generateKey makes a new key.
func generateKey(a Algorithm, random io.Reader) (*key, error) {
	var private crypto.PrivateKey
	var err error
	switch a {
	case RSA2048:
		private, err = rsa.GenerateKey(random, 2048)
	case RSA3072:
		private, err = rsa.GenerateKey(random, 3072)
	case P256:
		private, err = ecdsa.GenerateKey(elliptic.P256(), random)
	case P384:
		private, err = ecdsa.GenerateKey(elliptic.P384(), random)
	default:
		return nil, errors.ErrUnsupported
	}
	if err != nil {
		return nil, err
	}
	return newKey(private)
}

// SetKey puts a key and its certificate (DER) in a place; either may be nil and is then taken away.
func (c *Card) SetKey(ref KeyRef, private crypto.PrivateKey, certificateDER []byte) error {
	if ref.object() == 0 {
		return fmt.Errorf("a PIV card has no key %02X", byte(ref))
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.keys, ref)
	if private != nil {
		k, err := newKey(private)
		if err != nil {
			return err
		}
		c.keys[ref] = k
	}
	c.setObject(ref.object(), nil)
	if certificateDER != nil {
		c.setObject(ref.object(), certificate(certificateDER))
	}
	return nil
}

// power is RSA without any padding: x^d mod N, by the primes.
func (k *key) power(x []byte) []byte {
	n, p, q := k.rsa.N, k.rsa.Primes[0], k.rsa.Primes[1]
	base := new(big.Int).SetBytes(x)
	m1 := new(big.Int).Exp(base, k.rsa.Precomputed.Dp, p)
	m2 := new(big.Int).Exp(base, k.rsa.Precomputed.Dq, q)
	m1.Sub(m1, m2).Mul(m1, k.rsa.Precomputed.Qinv).Mod(m1, p)
	m1.Mul(m1, q).Add(m1, m2)
	return m1.FillBytes(make([]byte, (n.BitLen()+7)/8))
}
