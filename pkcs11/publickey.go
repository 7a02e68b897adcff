package pkcs11

import (
	"bytes"
	"crypto/rsa"
	"encoding/asn1"
	"errors"
	"fmt"

	"pam_pkcs11/internal/certinfo"
)

// Room for what tells of a public key.
const (
	roomKeyInfo = 8192
	roomModulus = 2048 // of an RSA key of 16384 bits
	roomPoint   = 512
)

// maxPublicKeys is how many keys of a token are compared with a certificate's.
const maxPublicKeys = 64

// publicKey is a certificate's key as the attributes of a token have it.
type publicKey struct {
	info    []byte // SubjectPublicKeyInfo (CKA_PUBLIC_KEY_INFO)
	modulus []byte // of an RSA key, without leading zeros; nil for others
	point   []byte // of a key on a curve, as the certificate has it; nil for others
}

func publicKeyOf(cert *certinfo.Certificate) publicKey {
	k := publicKey{info: cert.RawSPKI}
	switch key := cert.PublicKey.(type) {
	case *rsa.PublicKey:
		k.modulus = key.N.Bytes()
	case *certinfo.PSSPublicKey:
		k.modulus = key.Key.N.Bytes()
	default:
		// The curve and its point are compared as they stand: no arithmetic is needed for that.
		var info struct {
			Algorithm asn1.RawValue
			Bits      asn1.BitString
		}
		if rest, err := asn1.Unmarshal(cert.RawSPKI, &info); err == nil && len(rest) == 0 {
			k.point = info.Bits.Bytes
		}
	}
	return k
}

// is reports whether an object of the token, a private or a public key, is this key. One that does
// not tell is not.
func (k publicKey) is(info, modulus, point []byte) bool {
	switch {
	case len(info) > 0 && bytes.Equal(info, k.info):
		return true
	case len(k.modulus) > 0:
		return bytes.Equal(bytes.TrimLeft(modulus, "\x00"), k.modulus)
	case len(k.point) == 0:
		return false
	}
	return bytes.Equal(point, k.point) || bytes.Equal(octetString(point), k.point)
}

// octetString returns what is in an OCTET STRING, in which CKA_EC_POINT is wrapped (PKCS#11 2.40,
// mechanisms, 2.3.3); nil for other octets.
func octetString(der []byte) []byte {
	var octets []byte
	if rest, err := asn1.Unmarshal(der, &octets); err != nil || len(rest) > 0 {
		return nil
	}
	return octets
}

// keyByPublicKey finds the private key of a certificate whose CKA_ID leads to none, as that of a
// renewed one may: by what a private key tells of itself, else by the CKA_ID of a public key or of
// another certificate with this key. That it is the certificate's is told by a signature, as
// always. The error is ErrNoKey, or why the token cannot be asked.
func (s *Session) keyByPublicKey(cert Object) (*Key, error) {
	if cert.Cert == nil {
		return nil, ErrNoKey
	}

	public := publicKeyOf(cert.Cert)
	private, err := s.objectsOf(public, []attribute{{ckaClass, uint(ckoPrivateKey)}, {ckaSign, true}})
	if err != nil {
		return nil, err
	}

	// A private key that tells its public one is found at once: others need a second search.
	for _, o := range private {
		if k, err := s.pick([]uint{o.handle}, cert); err == nil || isGone(err) {
			return k, err
		}
	}

	ids, err := s.objectsOf(public, []attribute{{ckaClass, uint(ckoPublicKey)}})
	if err != nil {
		return nil, err
	}

	twins, err := s.twins(cert)
	if err != nil {
		return nil, err
	}

	// Where private keys tell nothing of themselves, their CKA_ID is that of what does.
	for _, o := range append(ids, twins...) {
		if len(o.id) == 0 || bytes.Equal(o.id, cert.ID) {
			continue
		}
		// ErrNoKey of one CKA_ID does not mean that the next has no key.
		if k, err := s.keyWithID(o.id, cert); err == nil || !errors.Is(err, ErrNoKey) {
			return k, err
		}
	}
	return nil, ErrNoKey
}

// keyObject is an object that has a public key.
type keyObject struct {
	handle uint
	id     []byte
}

// objectsOf returns the objects of a search that tell of this public key.
func (s *Session) objectsOf(public publicKey, template []attribute) ([]keyObject, error) {
	handles, _, err := s.find(template, maxPublicKeys)
	if err != nil {
		return nil, fmt.Errorf("looking for the key: %w", err)
	}

	var list []keyObject
	for _, h := range handles {
		attributes := []wanted{{ckaID, roomID}, {ckaPublicKeyInfo, roomKeyInfo}, {ckaModulus, roomModulus}}
		if public.modulus == nil {
			attributes[2] = wanted{ckaECPoint, roomPoint}
		}

		values, err := s.read(h, attributes)
		if err != nil {
			return nil, fmt.Errorf("reading key %d: %w", h, err)
		}

		// It is a modulus or a point, as was asked for.
		if number := values[2].bytes; public.is(values[1].bytes, number, number) {
			list = append(list, keyObject{h, bytes.Clone(values[0].bytes)})
		}
	}
	return list, nil
}

// twins returns the other certificates of the token with the same key.
func (s *Session) twins(cert Object) ([]keyObject, error) {
	all, err := s.Certificates()
	if err != nil {
		return nil, err
	}

	var list []keyObject
	for _, o := range all {
		if o.Cert != nil && bytes.Equal(o.Cert.RawSPKI, cert.Cert.RawSPKI) {
			list = append(list, keyObject{o.Handle, o.ID})
		}
	}
	return list, nil
}
