package pkcs11test

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"encoding/asn1"
	"encoding/binary"
	"fmt"
	"math/big"
	"slices"
)

// Object is a certificate, a private key, a public key, or several with the same ID. They need not
// belong together.
type Object struct {
	Label              string
	ID                 []byte
	Cert               []byte // DER; nil for none. What is no certificate is stored as well, as far as the token lets it
	Key                any    // *rsa.PrivateKey, *ecdsa.PrivateKey, ed25519.PrivateKey; nil for none
	Public             any    // *rsa.PublicKey, *ecdsa.PublicKey, ed25519.PublicKey; nil for none
	AlwaysAuthenticate bool   // of the key
	NoSign             bool   // the key's CKA_SIGN is false
	Hidden             bool   // the certificate is shown after login only
}

// attribute is one of an object to be made.
type attribute struct {
	kind  uint
	value []byte
}

func number(n uint64) []byte { return binary.NativeEndian.AppendUint64(nil, n) }

func boolean(b bool) []byte {
	if b {
		return []byte{1}
	}
	return []byte{0}
}

// Attributes of PKCS#11 2.40, section 4.
const (
	ckaClass              = 0x0
	ckaToken              = 0x1
	ckaPrivate            = 0x2
	ckaLabel              = 0x3
	ckaValue              = 0x11
	ckaCertificateType    = 0x80
	ckaKeyType            = 0x100
	ckaSubject            = 0x101
	ckaID                 = 0x102
	ckaSensitive          = 0x103
	ckaSign               = 0x108
	ckaModulus            = 0x120
	ckaECParams           = 0x180
	ckaECPoint            = 0x181
	ckaAlwaysAuthenticate = 0x202
)

// templates returns the objects to be created.
func (o Object) templates() ([][]attribute, error) {
	var list [][]attribute
	common := []attribute{{ckaToken, boolean(true)}, {ckaLabel, []byte(o.Label)}, {ckaID, o.ID}}

	if o.Cert != nil {
		// What is no certificate has no subject: CKA_SUBJECT is then an empty name.
		subject := []byte{0x30, 0}
		if c, err := x509.ParseCertificate(o.Cert); err == nil {
			subject = c.RawSubject
		}
		list = append(list, append([]attribute{{ckaClass, number(1)}, {ckaCertificateType, number(0)},
			{ckaPrivate, boolean(o.Hidden)}, {ckaSubject, subject}, {ckaValue, o.Cert}}, common...))
	}

	if o.Public != nil {
		public, err := publicAttributes(o.Public)
		if err != nil {
			return nil, err
		}
		list = append(list, slices.Concat(public, []attribute{{ckaClass, number(2)}}, common))
	}

	if o.Key == nil {
		return list, nil
	}

	key, err := keyAttributes(o.Key)
	if err != nil {
		return nil, err
	}

	key = append(key, attribute{ckaClass, number(3)}, attribute{ckaPrivate, boolean(true)},
		attribute{ckaSensitive, boolean(true)}, attribute{ckaSign, boolean(!o.NoSign)})

	if o.AlwaysAuthenticate {
		key = append(key, attribute{ckaAlwaysAuthenticate, boolean(true)})
	}

	return append(list, append(key, common...)), nil
}

// curves by their DER object identifiers.
var curves = map[elliptic.Curve][]byte{
	elliptic.P256(): {0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07},
	elliptic.P384(): {0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x22},
	elliptic.P521(): {0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x23},
}

func publicAttributes(key any) ([]attribute, error) {
	switch k := key.(type) {
	case *rsa.PublicKey:
		return []attribute{
			{ckaKeyType, number(0)},
			{ckaModulus, k.N.Bytes()},
			{ckaModulus + 2, big.NewInt(int64(k.E)).Bytes()},
		}, nil
	case *ecdsa.PublicKey:
		point, err := k.Bytes()
		if err != nil {
			return nil, err
		}
		// CKA_EC_POINT is the point in an OCTET STRING (PKCS#11 2.40 current mechanisms, 2.3.3).
		wrapped, err := asn1.Marshal(point)
		return []attribute{{ckaKeyType, number(3)}, {ckaECParams, curves[k.Curve]}, {ckaECPoint, wrapped}}, err
	case ed25519.PublicKey:
		wrapped, err := asn1.Marshal([]byte(k))
		return []attribute{{ckaKeyType, number(0x40)}, {ckaECParams, []byte{0x06, 0x03, 0x2b, 0x65, 0x70}}, {ckaECPoint, wrapped}}, err
	}

	return nil, fmt.Errorf("a public key of type %T", key)
}

func keyAttributes(key any) ([]attribute, error) {
	switch k := key.(type) {
	case *rsa.PrivateKey:
		k.Precompute()
		list := []attribute{{ckaKeyType, number(0)}}
		// In the order of the attributes' numbers: n, then e, d, p, q, d mod p-1, d mod q-1, 1/q.
		for i, n := range []*big.Int{k.N, nil, big.NewInt(int64(k.E)), k.D, k.Primes[0], k.Primes[1], k.Precomputed.Dp, k.Precomputed.Dq, k.Precomputed.Qinv} {
			if n != nil {
				list = append(list, attribute{ckaModulus + uint(i), n.Bytes()})
			}
		}
		return list, nil
	case *ecdsa.PrivateKey:
		params, ok := curves[k.Curve]
		if !ok {
			return nil, fmt.Errorf("curve %s", k.Curve.Params().Name)
		}

		d, err := k.Bytes()
		if err != nil {
			return nil, err
		}
		return []attribute{{ckaKeyType, number(3)}, {ckaECParams, params}, {ckaValue, d}}, nil
	case ed25519.PrivateKey:
		return []attribute{{ckaKeyType, number(0x40)}, {ckaECParams, []byte{0x06, 0x03, 0x2b, 0x65, 0x70}}, {ckaValue, k.Seed()}}, nil
	}

	return nil, fmt.Errorf("a key of type %T", key)
}
