// Package sig checks signatures: of every scheme that the certificates of smart-card PKIs have,
// also where Go's own packages do not know it (brainpool curves, Ed448, odd forms of RSASSA-PSS).
// Its errors are plain; callers turn them into reasons for a certificate.
package sig

import (
	"crypto"
	//lint:ignore SA1019 verification only: CAs of some smart-card PKIs still have such keys
	"crypto/dsa"
	"crypto/ecdsa"
	"crypto/ed25519"
	_ "crypto/md5" // so that a hash is there to be refused by name, not as unknown
	"crypto/rsa"
	_ "crypto/sha1"
	_ "crypto/sha256"
	_ "crypto/sha3"
	_ "crypto/sha512"
	"errors"
	"fmt"
	"math/big"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"

	"pam_pkcs11/internal/certinfo"
)

// ErrSignature is the error of a signature that is well-formed and wrong.
var ErrSignature = errors.New("signature does not verify")

// ErrKeyType is the error of a signature scheme that is not one of the key's.
var ErrKeyType = errors.New("signature scheme does not fit the key")

// WeakHash reports whether two messages with the same digest can be made.
func WeakHash(h crypto.Hash) bool {
	switch h {
	case crypto.MD4, crypto.MD5, crypto.SHA1, crypto.MD5SHA1, crypto.RIPEMD160:
		return true
	}
	return false
}

// Check checks one signature of any scheme.
func Check(key any, scheme certinfo.SignatureScheme, message, signature []byte) error {
	digest := message
	switch scheme.Kind {
	// These two hash the message themselves (RFC 8032).
	case certinfo.SchemeEd25519, certinfo.SchemeEd448:
	default:
		if scheme.Hash == 0 || !scheme.Hash.Available() {
			return fmt.Errorf("%w: no such hash", ErrKeyType)
		}
		h := scheme.Hash.New()
		h.Write(message)
		digest = h.Sum(nil)
	}
	return CheckDigest(key, scheme, digest, signature)
}

// CheckDigest checks a signature over a digest, or over the message itself for Ed25519 and Ed448.
func CheckDigest(key any, scheme certinfo.SignatureScheme, digest, signature []byte) error {
	// A scheme that is not the key's falls through to ErrKeyType, so
	// that no key is used for another algorithm.
	switch k := key.(type) {
	case *rsa.PublicKey:
		switch scheme.Kind {
		case certinfo.SchemeRSAPKCS1v15:
			return verdict(rsa.VerifyPKCS1v15(k, scheme.Hash, digest, signature) == nil)
		case certinfo.SchemeRSAPSS:
			return checkPSS(k, scheme, digest, signature)
		}
	case *certinfo.PSSPublicKey:
		return checkPSSKey(k, scheme, digest, signature)
	case *ecdsa.PublicKey:
		if scheme.Kind == certinfo.SchemeECDSA {
			return verdict(ecdsa.VerifyASN1(k, digest, signature))
		}
	case *certinfo.BrainpoolPublicKey:
		if scheme.Kind == certinfo.SchemeECDSA {
			return checkBrainpool(k, digest, signature)
		}
	case ed25519.PublicKey:
		if scheme.Kind == certinfo.SchemeEd25519 {
			return verdict(ed25519.Verify(k, digest, signature))
		}
	case certinfo.Ed448PublicKey:
		if scheme.Kind == certinfo.SchemeEd448 {
			return verdict(verifyEd448(k, digest, signature))
		}
	case *dsa.PublicKey:
		if scheme.Kind == certinfo.SchemeDSA {
			return checkDSA(k, digest, signature)
		}
	}
	return ErrKeyType
}

// verdict turns the answer of a verification into its error.
func verdict(good bool) error {
	if !good {
		return ErrSignature
	}
	return nil
}

// checkPSSKey checks a signature with the parameters that an RSASSA-PSS key may carry (RFC 4055,
// 3.3).
func checkPSSKey(k *certinfo.PSSPublicKey, scheme certinfo.SignatureScheme, digest, signature []byte) error {
	if scheme.Kind != certinfo.SchemeRSAPSS {
		return ErrKeyType
	}
	if p := k.Parameters; p != nil {
		// The key's salt length is the least that a signature may have.
		shortSalt := scheme.SaltLength >= 0 && scheme.SaltLength < p.SaltLength
		if p.Hash != scheme.Hash || p.MGFHash != mgfHash(scheme) || shortSalt {
			return fmt.Errorf("%w: the key asks for other RSA-PSS parameters", ErrKeyType)
		}
	}
	return checkPSS(k.Key, scheme, digest, signature)
}

// mgfHash is the hash of the mask generation: that of the message unless the scheme names another.
func mgfHash(scheme certinfo.SignatureScheme) crypto.Hash {
	if scheme.MGFHash == 0 {
		return scheme.Hash
	}
	return scheme.MGFHash
}

// checkPSS checks an RSASSA-PSS signature.
func checkPSS(k *rsa.PublicKey, scheme certinfo.SignatureScheme, digest, signature []byte) error {
	mgf := mgfHash(scheme)
	if !mgf.Available() {
		return fmt.Errorf("%w: no such hash", ErrKeyType)
	}

	// crypto/rsa can ask for neither another hash in the mask nor an empty salt.
	if mgf != scheme.Hash || scheme.SaltLength == 0 {
		return verdict(verifyPSS(k, scheme, digest, signature))
	}

	options := &rsa.PSSOptions{SaltLength: scheme.SaltLength}
	if scheme.SaltLength < 0 {
		options.SaltLength = rsa.PSSSaltLengthAuto
	}

	return verdict(rsa.VerifyPSS(k, scheme.Hash, digest, signature, options) == nil)
}

// checkDSA checks a DSA signature (FIPS 186-4, 4.7).
func checkDSA(k *dsa.PublicKey, digest, signature []byte) error {
	if k.P == nil {
		return errors.New("DSA key without parameters")
	}
	r, s, ok := readRS(signature)
	if !ok {
		return ErrSignature
	}

	// crypto/dsa leaves it to the caller to cut the digest to the length of Q.
	if size := (k.Q.BitLen() + 7) / 8; len(digest) > size {
		digest = digest[:size]
	}

	return verdict(dsa.Verify(k, digest, r, s))
}

// readRS reads the DER of two positive integers (RFC 3279, 2.2.2 and 2.2.3).
func readRS(signature []byte) (r, s *big.Int, ok bool) {
	input := cryptobyte.String(signature)
	var seq cryptobyte.String

	r, s = new(big.Int), new(big.Int)
	values := input.ReadASN1(&seq, asn1.SEQUENCE) && input.Empty() && seq.ReadASN1Integer(r) && seq.ReadASN1Integer(s)
	ok = values && seq.Empty() && r.Sign() > 0 && s.Sign() > 0
	return r, s, ok
}
