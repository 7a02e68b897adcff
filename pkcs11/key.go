package pkcs11

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"errors"
	"fmt"

	"pam_pkcs11/internal/certinfo"
)

// maxKeys is how many keys with one CKA_ID are looked at.
const maxKeys = 8

// Key is a private key on a token.
type Key struct {
	Handle             uint
	ID                 []byte // CKA_ID of its certificate
	Type               uint   // CKA_KEY_TYPE: CKK_RSA 0, CKK_EC 3, CKK_EC_EDWARDS 0x40
	AlwaysAuthenticate bool   // CKA_ALWAYS_AUTHENTICATE: each signature wants the PIN once more
}

// SigningKey finds the private key of a certificate: CKA_SIGN is true and CKA_ID the certificate's;
// of several the first that has the certificate's kind of key. For a certificate without CKA_ID the
// token must have exactly one signing key. Where this finds none, the key is looked for by its
// public key (keyByPublicKey). It returns ErrNoKey when there is none. That the key belongs to the
// certificate is only told by a signature. It takes three calls and one for each key.
func (s *Session) SigningKey(cert Object) (*Key, error) {
	k, err := s.keyWithID(cert.ID, cert)
	if !errors.Is(err, ErrNoKey) {
		return k, err
	}

	// A renewed certificate may have another CKA_ID than the key that it was made for.
	k, public := s.keyByPublicKey(cert)
	switch {
	case public == nil:
		s.module.log.Info("the private key was found by its public key: it has not the certificate's CKA_ID",
			"slot", s.slot, "label", cert.Label)
		return k, nil
	// The first error says more: nothing was found in either way.
	case errors.Is(public, ErrNoKey):
		return nil, err
	}
	return nil, public
}

// keyWithID finds the private key of a certificate under this CKA_ID; nil is a certificate without
// one.
func (s *Session) keyWithID(id []byte, cert Object) (*Key, error) {
	template := []attribute{{ckaClass, uint(ckoPrivateKey)}, {ckaSign, true}}
	// A key that only decrypts may have the same CKA_ID: CKA_SIGN leaves it out.
	if len(id) > 0 {
		template = append(template, attribute{ckaID, id})
	}

	handles, more, err := s.find(template, maxKeys)
	switch {
	case err != nil:
		return nil, fmt.Errorf("looking for the private key: %w", err)
	case len(handles) == 0:
		return nil, ErrNoKey
	// Nothing tells which of several keys is the certificate's, and each wrong one costs a
	// signature.
	case len(id) == 0 && (more || len(handles) > 1):
		return nil, fmt.Errorf("%w: the certificate has no CKA_ID and the token several keys", ErrNoKey)
	}
	return s.pick(handles, cert)
}

// pick chooses among handles by the kind of key.
func (s *Session) pick(handles []uint, cert Object) (*Key, error) {
	var first error
	for _, h := range handles {
		k, err := s.key(h)
		// The kind is compared before anything is signed: another key could not fit the
		// certificate.
		if err == nil && !k.fits(cert.Cert) {
			err = fmt.Errorf("%w: key type 0x%X is not the certificate's", ErrNoKey, k.Type)
		}

		if err == nil {
			k.ID = bytes.Clone(cert.ID)
			return k, nil
		}
		// The card is not there any more: no other key of it can be read.
		if isGone(err) {
			return nil, err
		}

		if first == nil {
			first = err
		}
	}
	return nil, first
}

func (s *Session) key(handle uint) (*Key, error) {
	values, err := s.read(handle, []wanted{{ckaKeyType, 8}, {ckaAlwaysAuthenticate, 1}})
	if err != nil {
		return nil, fmt.Errorf("reading private key %d: %w", handle, err)
	}

	// Libraries from before PKCS#11 2.20 do not know CKA_ALWAYS_AUTHENTICATE: their keys do not
	// want it.
	k := &Key{Handle: handle, AlwaysAuthenticate: values[1].flag()}
	if k.Type, err = values[0].ulong(); err != nil {
		return nil, fmt.Errorf("reading private key %d: %w", handle, err)
	}
	return k, nil
}

// fits reports whether the key is of the certificate's kind. Edwards keys are CKK_EC in libraries
// before PKCS#11 3.0.
func (k *Key) fits(cert *certinfo.Certificate) bool {
	if cert == nil {
		return false
	}
	switch cert.PublicKey.(type) {
	case *rsa.PublicKey, *certinfo.PSSPublicKey:
		return k.Type == ckkRSA
	case *ecdsa.PublicKey, *certinfo.BrainpoolPublicKey:
		return k.Type == ckkEC
	case ed25519.PublicKey:
		return k.Type == ckkECEdwards || k.Type == ckkEC
	}
	return false
}
