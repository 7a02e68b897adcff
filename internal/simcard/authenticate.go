package simcard

import (
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
	// Whatever key is used, and however it ends: one VERIFY is good for one use.
	c.fresh = false

	t, ok := readTemplate(apdu.Data)
	if !ok {
		return nil, iso7816.StatusWrongData
	}

	// 9B is no key of a certificate: what is asked for those does not hold for it.
	if apdu.P2 == refAdmin {
		return c.authenticateAdmin(Algorithm(apdu.P1), &t)
	}

	ref := KeyRef(apdu.P2)
	k := c.keys[ref]

	switch {
	case k == nil && c.o.NoKey != 0:
		return nil, c.o.NoKey
	case k == nil:
		return nil, iso7816.StatusNoReference
	case k.algorithm != Algorithm(apdu.P1):
		return nil, iso7816.StatusWrongP1P2
	}

	// The PIN before the touch: nobody is asked for a touch that could not help.
	if sw := c.permits(ref, fresh); sw != iso7816.StatusOK {
		return nil, sw
	}
	if sw := c.awaitTouch(ref); sw != iso7816.StatusOK {
		return nil, sw
	}

	data, sw := c.use(ref, k, &t)
	if sw == iso7816.StatusOK {
		c.counters.Signatures++
		c.used = k.algorithm
	}
	return data, sw
}

// use does the one thing that the template asks of a private key.
func (c *Card) use(ref KeyRef, k *key, t *template) ([]byte, iso7816.Status) {
	// An empty 82 asks for the result. A witness is a matter of the administrator's key alone.
	if t.response == nil || len(*t.response) > 0 || t.witness != nil {
		return nil, iso7816.StatusWrongData
	}

	agrees := k.ec != nil && (ref == KeyManagement || ref <= KeyRetired20)
	switch {
	case t.challenge != nil && t.exponentiation == nil:
		signature, sw := c.sign(k, *t.challenge)
		if sw != iso7816.StatusOK {
			return nil, sw
		}
		return answer(tagResponse, c.o.Signatures.corrupt(signature)), iso7816.StatusOK
	// Key agreement is for the key management key, and for those that were it once.
	case t.exponentiation != nil && t.challenge == nil && agrees:
		return agree(k, *t.exponentiation)
	}
	return nil, iso7816.StatusWrongData
}

// agree is Diffie-Hellman with a point of the other side, uncompressed; it gives the x coordinate.
func agree(k *key, point []byte) ([]byte, iso7816.Status) {
	private, err := k.ec.ECDH()
	if err != nil {
		return nil, iso7816.StatusUnknown
	}

	// NewPublicKey refuses a point that is not on the curve, as a card must: its answer would leak
	// bits of the private key.
	public, err := private.Curve().NewPublicKey(point)
	if err != nil {
		return nil, iso7816.StatusWrongData
	}

	secret, err := private.ECDH(public)
	if err != nil {
		return nil, iso7816.StatusWrongData
	}

	return answer(tagResponse, secret), iso7816.StatusOK
}

// generate is GENERATE ASYMMETRIC KEY PAIR (3.3.2), for the administrator. The certificate that lay
// beside the key before stays, as on a card: it is another object.
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

	k, err := generateKey(Algorithm(algorithm[0]), c.o.Ed25519, c.o.Rand)
	if err != nil {
		return nil, iso7816.StatusWrongData
	}

	c.keys[ref] = k
	return iso7816.AppendTLV(nil, 0x7F49, k.publicValue()), iso7816.StatusOK
}
