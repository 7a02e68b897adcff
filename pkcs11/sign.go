package pkcs11

import (
	// The hashes of mechanism.go.
	_ "crypto/sha256"
	_ "crypto/sha512"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"
	"slices"

	"pam_pkcs11/internal/certinfo"
)

// Limits on signatures, in bytes. The first is enough for RSA of 16384 bits, without a second call.
const (
	ampleSignature = 2048
	maxSignature   = 64 << 10
	maxMessage     = 64 << 10
)

// Signature is what a token made.
type Signature struct {
	Scheme certinfo.SignatureScheme
	Bytes  []byte // for ECDSA in DER
}

// Sign signs message, at most 64 KiB, with a key of the token, in a scheme that fits the
// certificate's key. The usual mechanism is tried first (CKM_RSA_PKCS, CKM_ECDSA, CKM_EDDSA,
// CKM_RSA_PKCS_PSS): two calls. Only when the token refuses it, C_GetMechanismList chooses among
// the others. The signature's form is checked, not its truth: that is for who has the certificate.
//
// Keys with CKA_ALWAYS_AUTHENTICATE want the PIN for each signature: logIn is called once the
// operation has begun, before each attempt, and calls LoginContextSpecific. Its error ends Sign and
// can be found in Sign's by errors.Is and errors.As.
func (s *Session) Sign(key *Key, cert *certinfo.Certificate, message []byte, logIn func() error) (Signature, error) {
	switch {
	case key == nil || cert == nil:
		return Signature{}, ErrNoKey
	case len(message) == 0 || len(message) > maxMessage:
		return Signature{}, fmt.Errorf("a message of %d bytes cannot be signed", len(message))
	}

	ways, err := mechanismsFor(cert.PublicKey)
	if err != nil {
		return Signature{}, err
	}

	// Where the list is known, C_SignInit is not tried in vain.
	if offered, ok := s.module.mechanisms[s.slot]; ok {
		if ways = among(ways, offered); len(ways) == 0 {
			return Signature{}, fmt.Errorf("%w: the token offers none", ErrUnsupportedKey)
		}
	}

	sig, err := s.signWith(ways[0], key, message, logIn)
	if err == nil || !refusesMechanism(err) {
		return sig, err
	}

	// Only now is the list worth a call.
	offered, listErr := s.module.Mechanisms(s.slot)
	if listErr != nil {
		return Signature{}, errors.Join(err, listErr)
	}

	for _, m := range among(ways[1:], offered) {
		if sig, err = s.signWith(m, key, message, logIn); err == nil || !refusesMechanism(err) {
			return sig, err
		}
	}

	return Signature{}, fmt.Errorf("%w: %w", ErrUnsupportedKey, err)
}

// among keeps the mechanisms that the token offers.
func among(ways []mechanism, offered []uint) []mechanism {
	return slices.DeleteFunc(slices.Clone(ways), func(m mechanism) bool { return !slices.Contains(offered, m.number) })
}

// refusesMechanism reports whether a token has refused the mechanism, and not the key or the PIN.
func refusesMechanism(err error) bool {
	for _, c := range []Code{CKR_MECHANISM_INVALID, CKR_MECHANISM_PARAM_INVALID, CKR_FUNCTION_NOT_SUPPORTED,
		CKR_KEY_FUNCTION_NOT_PERMITTED, CKR_DATA_LEN_RANGE, CKR_DATA_INVALID} {
		if errors.Is(err, c) {
			return true
		}
	}
	return false
}

// signWith makes one signature.
func (s *Session) signWith(m mechanism, key *Key, message []byte, logIn func() error) (Signature, error) {
	if err := s.call("C_SignInit", func() Code { return s.module.lib.signInit(s.handle, key.Handle, m) }); err != nil {
		return Signature{}, err
	}

	// After C_SignInit, as CKU_CONTEXT_SPECIFIC is for the operation that has begun.
	if key.AlwaysAuthenticate {
		if err := logIn(); err != nil {
			return Signature{}, fmt.Errorf("PIN for this signature: %w", err)
		}
	}

	raw, err := s.sign(m.input(message))
	if err != nil {
		return Signature{}, err
	}

	encoded, err := m.encode(raw)
	if err != nil {
		// What is not of the right form is no refusal of the token, but a fault of the library.
		return Signature{}, &LieError{"C_Sign", err.Error()}
	}
	return Signature{m.scheme, encoded}, nil
}

// sign calls C_Sign, and once more with a larger buffer when the first was too small for an honest
// length.
func (s *Session) sign(in []byte) ([]byte, error) {
	for room := uint(ampleSignature); ; {
		out := make([]byte, room)
		var n uint
		err := s.call("C_Sign", func() (code Code) { n, code = s.module.lib.sign(s.handle, in, out); return code })

		switch {
		case err == nil && n <= room:
			return out[:n], nil
		case err == nil:
			return nil, &LieError{"C_Sign", fmt.Sprintf("signature of %d bytes in room for %d", n, room)}
		// Only the first room may be too small: after that the library has told itself how much it
		// wants.
		case !errors.Is(err, CKR_BUFFER_TOO_SMALL) || room > ampleSignature:
			return nil, err
		case n <= room || n > maxSignature:
			return nil, &LieError{"C_Sign", fmt.Sprintf("room for %d is too small for %d", room, n)}
		}
		room = n
	}
}

// encode checks the form of a raw signature; for ECDSA it turns r and s, side by side, into DER
// (PKCS#11 2.40 current mechanisms, 2.3.1; RFC 3279, 2.2.3).
func (m mechanism) encode(raw []byte) ([]byte, error) {
	if m.order == nil {
		if len(raw) != m.size {
			return nil, fmt.Errorf("%s signature of %d bytes, not %d", m.scheme, len(raw), m.size)
		}
		return raw, nil
	}

	// r and s have the same length, which may be less than the curve's: zeros before both can be
	// left out.
	if len(raw) == 0 || len(raw)%2 != 0 || len(raw) > 2*m.size {
		return nil, fmt.Errorf("%s signature of %d bytes, not %d", m.scheme, len(raw), 2*m.size)
	}
	r, s := new(big.Int).SetBytes(raw[:len(raw)/2]), new(big.Int).SetBytes(raw[len(raw)/2:])

	positive := r.Sign() != 0 && s.Sign() != 0
	belowOrder := r.Cmp(m.order) < 0 && s.Cmp(m.order) < 0
	if !positive || !belowOrder {
		return nil, fmt.Errorf("%s signature out of range", m.scheme)
	}
	return asn1.Marshal(struct{ R, S *big.Int }{r, s})
}
