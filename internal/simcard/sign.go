package simcard

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"encoding/asn1"
	"io"
	"math/big"

	"pam_pkcs11/internal/iso7816"
)

// Signatures is the form of what a card signs. The zero value is right.
type Signatures int

// Forms of signatures.
const (
	SignaturesRight  Signatures = iota
	SignaturesShort             // ECDSA: r is so small that its INTEGER is shorter than the field
	SignaturesPadded            // ECDSA: r and s have a byte 00 too much, which DER forbids
	SignaturesFixed             // ECDSA: r and s stand side by side, without DER
	SignaturesWrong             // one bit is wrong
)

// sign is a signature over what the challenge brings: for RSA a padded number, for ECDSA a hash,
// for Ed25519 the message.
func (c *Card) sign(k *key, challenge []byte) ([]byte, iso7816.Status) {
	switch {
	case k.rsa != nil:
		// RFC 8017, 5.2.1: what is signed is a number below the modulus.
		if len(challenge) != k.rsa.Size() || new(big.Int).SetBytes(challenge).Cmp(k.rsa.N) >= 0 {
			return nil, iso7816.StatusWrongData
		}
		return k.power(challenge), iso7816.StatusOK
	case k.ed != nil:
		return ed25519.Sign(k.ed, challenge), iso7816.StatusOK
	}

	// A longer hash is cut by the host: its leftmost bits count (FIPS 186-5, 6.4.1).
	size := (k.ec.Curve.Params().BitSize + 7) / 8
	if len(challenge) == 0 || len(challenge) > size {
		return nil, iso7816.StatusWrongData
	}

	signature, err := c.o.Signatures.ecdsa(c.o.Rand, k.ec, challenge, size)
	if err != nil {
		return nil, iso7816.StatusUnknown
	}

	return signature, iso7816.StatusOK
}

// pair is a signature of ECDSA (RFC 3279, section 2.2.3).
type pair struct{ R, S *big.Int }

// ecdsa signs a hash in a form; size is that of the field in bytes.
func (s Signatures) ecdsa(
	random io.Reader, k *ecdsa.PrivateKey, hash []byte, size int,
) ([]byte, error) {
	for {
		der, err := ecdsa.SignASN1(random, k, hash)
		if err != nil || s == SignaturesRight || s == SignaturesWrong {
			return der, err
		}

		var p pair
		if _, err := asn1.Unmarshal(der, &p); err != nil {
			return nil, err
		}

		switch s {
		case SignaturesPadded:
			return padInteger(p), nil
		case SignaturesFixed:
			fixed := p.R.FillBytes(make([]byte, size))
			return append(fixed, p.S.FillBytes(make([]byte, size))...), nil
		}

		// A short r is one of 512: signatures are made until it comes.
		if p.R.BitLen() <= 8*(size-1)-1 {
			return der, nil
		}
	}
}

// padInteger writes both numbers with one byte 00 more than they need.
func padInteger(p pair) []byte {
	integer := func(n *big.Int) []byte {
		return iso7816.AppendTLV(nil, asn1.TagInteger, make([]byte, 1+(8-n.BitLen()%8)/8),
			n.Bytes())
	}
	return iso7816.AppendTLV(nil, 0x30, integer(p.R), integer(p.S))
}

// corrupt makes a right signature a wrong one, where that is wanted.
func (s Signatures) corrupt(signature []byte) []byte {
	if s == SignaturesWrong && len(signature) > 0 {
		signature[len(signature)-1] ^= 1
	}
	return signature
}
