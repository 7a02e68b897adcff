package pkcs11

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"fmt"
	"math/big"
	"slices"

	"pam_pkcs11/internal/certinfo"
)

// Mechanisms (PKCS#11 2.40 current mechanisms, sections 2.1 and 2.3; CKM_EDDSA from 3.0, section
// 6.3.17).
const (
	ckmRSAPKCS    = 0x1
	ckmRSAPKCSPSS = 0xD
	ckmECDSA      = 0x1041
	ckmEDDSA      = 0x1057
)

// Mechanisms that hash, by hash.
var (
	rsaMechanisms   = map[crypto.Hash]uint{crypto.SHA256: 0x40, crypto.SHA384: 0x41, crypto.SHA512: 0x42}
	pssMechanisms   = map[crypto.Hash]uint{crypto.SHA256: 0x43, crypto.SHA384: 0x44, crypto.SHA512: 0x45}
	ecdsaMechanisms = map[crypto.Hash]uint{crypto.SHA256: 0x1044, crypto.SHA384: 0x1045, crypto.SHA512: 0x1046}
)

// Numbers in CK_RSA_PKCS_PSS_PARAMS: CKM_SHA* and CKG_MGF1_SHA*.
var (
	pssHashes = map[crypto.Hash]uint{crypto.SHA256: 0x250, crypto.SHA384: 0x260, crypto.SHA512: 0x270}
	mgf1s     = map[crypto.Hash]uint{crypto.SHA256: 2, crypto.SHA384: 3, crypto.SHA512: 4}
)

// digestInfo is the DER before the hash in a PKCS #1 v1.5 signature (RFC 8017, 9.2, note 1), of
// SHA-256: what we sign is chosen by us.
var digestInfo = []byte{0x30, 0x31, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01, 0x05, 0x00, 0x04, 0x20}

// mechanism is one way to make a signature.
type mechanism struct {
	number uint
	scheme certinfo.SignatureScheme
	hashes bool // the token hashes; else it gets the hash
	prefix []byte
	pss    bool     // with CK_RSA_PKCS_PSS_PARAMS
	order  *big.Int // of the curve; r and s must be below
	size   int      // bytes of a whole RSA or Edwards signature, or of the curve's order
}

// input returns what C_Sign gets.
func (m mechanism) input(message []byte) []byte {
	// Ed25519 hashes the message itself (RFC 8032, 5.1.6).
	if m.hashes || m.scheme.Hash == 0 {
		return message
	}
	h := m.scheme.Hash.New()
	h.Write(message)
	return h.Sum(slices.Clone(m.prefix))
}

// mechanismsFor lists the ways to sign with a certificate's key, the most usual first.
func mechanismsFor(public any) ([]mechanism, error) {
	switch k := public.(type) {
	case *rsa.PublicKey:
		v15 := mechanism{
			number: ckmRSAPKCS,
			size:   k.Size(),
			prefix: digestInfo,
			scheme: certinfo.SignatureScheme{Kind: certinfo.SchemeRSAPKCS1v15, Hash: crypto.SHA256},
		}

		// The token that hashes itself makes the same signature.
		whole := v15
		whole.number = rsaMechanisms[crypto.SHA256]
		whole.hashes = true

		return append([]mechanism{v15, whole}, pssFor(k, crypto.SHA256, crypto.SHA256.Size())...), nil
	case *certinfo.PSSPublicKey:
		return pssOfKey(k)
	case *ecdsa.PublicKey:
		return ecdsaFor(k.Curve.Params().N), nil
	case *certinfo.BrainpoolPublicKey:
		// The order is just below the power of two; verification knows it exactly.
		return ecdsaFor(new(big.Int).Sub(new(big.Int).Lsh(big.NewInt(1), uint(k.Bits())), big.NewInt(1))), nil
	case ed25519.PublicKey:
		return []mechanism{{
			number: ckmEDDSA,
			size:   ed25519.SignatureSize,
			hashes: true,
			scheme: certinfo.SignatureScheme{Kind: certinfo.SchemeEd25519},
		}}, nil
	}

	return nil, fmt.Errorf("%w: %T", ErrUnsupportedKey, public)
}

func pssFor(k *rsa.PublicKey, h crypto.Hash, salt int) []mechanism {
	raw := mechanism{
		number: ckmRSAPKCSPSS,
		size:   k.Size(),
		pss:    true,
		scheme: certinfo.SignatureScheme{
			Kind:       certinfo.SchemeRSAPSS,
			Hash:       h,
			MGFHash:    h,
			SaltLength: salt,
		},
	}

	whole := raw
	whole.number = pssMechanisms[h]
	whole.hashes = true
	return []mechanism{raw, whole}
}

// pssOfKey obeys the parameters of a key that may only sign with PSS: its hash, and its salt or a
// longer one (RFC 4055, 3.3).
func pssOfKey(k *certinfo.PSSPublicKey) ([]mechanism, error) {
	if k.Parameters == nil {
		return pssFor(k.Key, crypto.SHA256, crypto.SHA256.Size()), nil
	}

	// CK_RSA_PKCS_PSS_PARAMS could hold two hashes; only keys with one for both are supported.
	h := k.Parameters.Hash
	if pssHashes[h] == 0 || k.Parameters.MGFHash != h {
		return nil, fmt.Errorf("%w: RSA-PSS with %v and %v", ErrUnsupportedKey, h, k.Parameters.MGFHash)
	}

	return pssFor(k.Key, h, max(k.Parameters.SaltLength, h.Size())), nil
}

// ecdsaFor matches the hash to the curve (FIPS 186-5, 6.1.1): not longer than the order, SHA-256 at
// least.
func ecdsaFor(order *big.Int) []mechanism {
	h := crypto.SHA256
	switch bits := order.BitLen(); {
	case bits >= 512:
		h = crypto.SHA512
	case bits >= 384:
		h = crypto.SHA384
	}

	raw := mechanism{
		number: ckmECDSA,
		order:  order,
		size:   (order.BitLen() + 7) / 8,
		scheme: certinfo.SignatureScheme{Kind: certinfo.SchemeECDSA, Hash: h},
	}

	whole := raw
	whole.number = ecdsaMechanisms[h]
	whole.hashes = true
	return []mechanism{raw, whole}
}
