package simcard

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/des"
	"crypto/subtle"
	"errors"
	"io"

	"pam_pkcs11/internal/iso7816"
)

// DefaultAdminKey is the administrator's 3DES key of a card for which none was chosen.
var DefaultAdminKey = bytes.Repeat([]byte{1, 2, 3, 4, 5, 6, 7, 8}, 3)

// adminKey is the card management key 9B, with the state of an authentication in progress.
type adminKey struct {
	algorithm Algorithm
	makers    bool // it is DefaultAdminKey
	block     cipher.Block
	challenge []byte // of the card, to be encrypted by the other side
	witness   []byte // of the card, to be sent back decrypted
}

func (a *adminKey) set(key []byte) (err error) {
	if key == nil {
		key = DefaultAdminKey
	}

	a.makers = bytes.Equal(key, DefaultAdminKey)

	switch len(key) {
	case 24:
		a.algorithm = TripleDES
		a.block, err = des.NewTripleDESCipher(key)
	case 16:
		a.algorithm = AES128
		a.block, err = aes.NewCipher(key)
	case 32:
		a.algorithm = AES256
		a.block, err = aes.NewCipher(key)
	default:
		return errors.New("the administrator's key has 24 bytes for 3DES, 16 or 32 for AES")
	}

	return err
}

func (a *adminKey) forget() {
	a.challenge = nil
	a.witness = nil
}

// authenticateAdmin is GENERAL AUTHENTICATE with the administrator's key (appendix A.1 and A.2):
// external, where the card gives a challenge, or mutual, where it gives a witness. What the card
// gave is good for one try.
func (c *Card) authenticateAdmin(algorithm Algorithm, t *template) ([]byte, iso7816.Status) {
	a := &c.admin
	challenge := a.challenge
	witness := a.witness
	a.forget()

	// Algorithm 00 is 3DES too (SP 800-78-4, table 6-2).
	if algorithm != a.algorithm && (algorithm != 0 || a.algorithm != TripleDES) {
		return nil, iso7816.StatusWrongP1P2
	}

	size := a.block.BlockSize()
	switch {
	case t.exponentiation != nil:
	case isEmpty(t.challenge) && t.witness == nil && t.response == nil:
		return c.offer(&a.challenge, tagChallenge, func(b []byte) []byte { return b })
	case isEmpty(t.witness) && t.challenge == nil && t.response == nil:
		return c.offer(&a.witness, tagWitness, a.encrypt)
	// External authentication: the other side has encrypted the challenge.
	case challenge != nil && has(t.response, size) && t.witness == nil && t.challenge == nil:
		return nil, c.admit(a.encrypt(challenge), *t.response)
	// Mutual: it has decrypted the witness, and now wants its own challenge encrypted.
	case witness != nil && has(t.witness, size) && has(t.challenge, size):
		if sw := c.admit(witness, *t.witness); sw != iso7816.StatusOK {
			return nil, sw
		}
		return answer(tagResponse, a.encrypt(*t.challenge)), iso7816.StatusOK
	}
	return nil, iso7816.StatusWrongData
}

func isEmpty(field *[]byte) bool       { return field != nil && len(*field) == 0 }
func has(field *[]byte, size int) bool { return field != nil && len(*field) == size }

func (a *adminKey) encrypt(b []byte) []byte {
	out := make([]byte, a.block.BlockSize())
	a.block.Encrypt(out, b)
	return out
}

// offer makes random bytes, keeps them, and shows them through a function.
func (c *Card) offer(keep *[]byte, tag uint32, show func([]byte) []byte) ([]byte, iso7816.Status) {
	b := make([]byte, c.admin.block.BlockSize())
	if _, err := io.ReadFull(c.o.Rand, b); err != nil {
		return nil, iso7816.StatusUnknown
	}
	*keep = b
	return answer(tag, show(b)), iso7816.StatusOK
}

// admit compares in constant time, as a card must: its answer's time would give the value away.
func (c *Card) admit(want, got []byte) iso7816.Status {
	c.managed = subtle.ConstantTimeCompare(want, got) == 1
	if !c.managed {
		return iso7816.StatusSecurity
	}
	return iso7816.StatusOK
}
