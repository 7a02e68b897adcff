package simcard

import (
	"crypto/ecdh"
	"crypto/ecdsa"
	"math/big"

	"pam_pkcs11/internal/iso7816"
)

// Tags of the dynamic authentication template 7C (table 7).
const (
	tagWitness        = 0x80
	tagChallenge      = 0x81
	tagResponse       = 0x82
	tagExponentiation = 0x85
)

// template is the content of tag 7C. A field that is there and empty asks the card for it.
type template struct {
	witness, challenge, response, exponentiation *[]byte
}

func readTemplate(data []byte) (t template, ok bool) {
	tag, body, rest, ok := iso7816.ReadTLV(data)
	if !ok || tag != 0x7C || len(rest) > 0 {
		return t, false
	}
	for len(body) > 0 {
		var value []byte
		if tag, value, body, ok = iso7816.ReadTLV(body); !ok {
			return t, false
		}
		switch tag {
		case tagWitness:
			t.witness = &value
		case tagChallenge:
			t.challenge = &value
		case tagResponse:
			t.response = &value
		case tagExponentiation:
			t.exponentiation = &value
		default:
			return t, false
		}
	}
	return t, true
}

func answer(tag uint32, value []byte) []byte {
	return iso7816.AppendTLV(nil, 0x7C, iso7816.AppendTLV(nil, tag, value))
}

// generalAuthenticate is GENERAL AUTHENTICATE (3.2.4): P1 names the algorithm, P2 the key.
func (c *Card) generalAuthenticate(apdu *iso7816.Command) ([]byte, iso7816.Status) {
	fresh := c.fresh
	c.fresh = false // whatever key is used, and however it ends
	t, ok := readTemplate(apdu.Data)
	if !ok {
		return nil, iso7816.StatusWrongData
	}
	if apdu.P2 == refAdmin {
		return c.authenticateAdmin(Algorithm(apdu.P1), &t)
	}
	ref := KeyRef(apdu.P2)
	k := c.keys[ref]
	switch {
	case k == nil:
		return nil, iso7816.StatusNoReference
	case k.algorithm != Algorithm(apdu.P1):
		return nil, iso7816.StatusWrongP1P2
	case c.o.Contactless.strict() && ref != KeyCardAuth:
		return nil, iso7816.StatusSecurity
	case ref == KeySignature && !fresh, ref != KeyCardAuth && !c.authorised():
		return nil, iso7816.StatusSecurity
	}
	data, sw := c.use(ref, k, &t)
	if sw == iso7816.StatusOK {
		c.counters.Signatures++
	}
	return data, sw
}

// use does the one thing that the template asks of a private key.
func (c *Card) use(ref KeyRef, k *key, t *template) ([]byte, iso7816.Status) {
	if t.response == nil || len(*t.response) > 0 || t.witness != nil {
		return nil, iso7816.StatusWrongData
	}
	switch {
	case t.challenge != nil && t.exponentiation == nil && k.rsa != nil:
		if len(*t.challenge) != k.rsa.Size() || new(big.Int).SetBytes(*t.challenge).Cmp(k.rsa.N) >= 0 {
			return nil, iso7816.StatusWrongData
		}
		return answer(tagResponse, k.power(*t.challenge)), iso7816.StatusOK
	case t.challenge != nil && t.exponentiation == nil:
		return c.signEC(k, *t.challenge)
	case t.exponentiation != nil && t.challenge == nil && k.ec != nil && (ref == KeyManagement || ref <= KeyRetired20):
		return agree(k, *t.exponentiation)
	}
	return nil, iso7816.StatusWrongData
}

// signEC signs a hash, which is at most as long as the field, with ECDSA.
func (c *Card) signEC(k *key, hash []byte) ([]byte, iso7816.Status) {
	if len(hash) == 0 || len(hash) > (k.ec.Curve.Params().BitSize+7)/8 {
		return nil, iso7816.StatusWrongData
	}
	signature, err := ecdsa.SignASN1(c.o.Rand, k.ec, hash)
	if err != nil {
		return nil, iso7816.StatusUnknown
	}
	return answer(tagResponse, signature), iso7816.StatusOK
}

// agree is Diffie-Hellman with a point of the other side, uncompressed; it gives the x coordinate.
func agree(k *key, point []byte) ([]byte, iso7816.Status) {
	private, err := k.ec.ECDH()
	if err != nil {
		return nil, iso7816.StatusUnknown
	}
	var public *ecdh.PublicKey
	if public, err = private.Curve().NewPublicKey(point); err != nil {
		return nil, iso7816.StatusWrongData
	}
	secret, err := private.ECDH(public)
	if err != nil {
		return nil, iso7816.StatusWrongData
	}
	return answer(tagResponse, secret), iso7816.StatusOK
}

// generate is GENERATE ASYMMETRIC KEY PAIR (3.3.2), for the administrator. The certificate that lay beside the key
// before stays, as on a card: it is another object.
func (c *Card) generate(apdu *iso7816.Command) ([]byte, iso7816.Status) {
	ref := KeyRef(apdu.P2)
	switch {
	case apdu.P1 != 0 || ref.object() == 0:
		return nil, iso7816.StatusWrongP1P2
	case !c.managed:
		return nil, iso7816.StatusSecurity
	}
	tag, body, rest, ok := iso7816.ReadTLV(apdu.Data)
	if !ok || tag != 0xAC || len(rest) > 0 {
		return nil, iso7816.StatusWrongData
	}
	tag, algorithm, _, ok := iso7816.ReadTLV(body)
	if !ok || tag != 0x80 || len(algorithm) != 1 {
		return nil, iso7816.StatusWrongData
	}
	k, err := generateKey(Algorithm(algorithm[0]), c.o.Rand)
	if err != nil {
		return nil, iso7816.StatusWrongData
	}
	c.keys[ref] = k
	return k.public(), iso7816.StatusOK
}

// public is the public key as GENERATE answers it (table 14).
func (k *key) public() []byte {
	tlv := iso7816.AppendTLV
	if k.rsa != nil {
		e := big.NewInt(int64(k.rsa.E))
		return tlv(nil, 0x7F49, tlv(nil, 0x81, k.rsa.N.Bytes()), tlv(nil, 0x82, e.Bytes()))
	}
	point, err := k.ec.PublicKey.Bytes()
	if err != nil {
		return nil
	}
	return tlv(nil, 0x7F49, tlv(nil, 0x86, point))
}
