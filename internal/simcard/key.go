package simcard

import (
	"crypto"
	"fmt"
)

// KeyRef names a place for a key (part 1, table 4).
type KeyRef byte

// The places. All want the PIN but the last; Signature wants it before every use.
const (
	KeyAuthentication KeyRef = 0x9A
	KeySignature      KeyRef = 0x9C
	KeyManagement     KeyRef = 0x9D
	KeyCardAuth       KeyRef = 0x9E
	KeyRetired1       KeyRef = 0x82
	KeyRetired20      KeyRef = 0x95

	refAdmin = 0x9B
)

// object is where the certificate of a key lies, 0 for no key.
func (r KeyRef) object() uint32 {
	switch {
	case r == KeyAuthentication:
		return ObjectAuthentication
	case r == KeySignature:
		return ObjectSignature
	case r == KeyManagement:
		return ObjectManagement
	case r == KeyCardAuth:
		return ObjectCardAuth
	case r >= KeyRetired1 && r <= KeyRetired20:
		return objectRetired + uint32(r-KeyRetired1)
	}
	return 0
}

// isRetiredBeyond reports whether a card has fewer places for retired keys than this one needs.
func (o *Options) isRetiredBeyond(ref KeyRef) bool {
	return o.Retired > 0 && ref >= KeyRetired1 && ref <= KeyRetired20 && int(ref-KeyRetired1) >= o.Retired
}

// SetKey puts a key and its certificate (DER) in a place; either may be nil and is then taken away.
func (c *Card) SetKey(ref KeyRef, private crypto.PrivateKey, certificateDER []byte) error {
	if ref.object() == 0 {
		return fmt.Errorf("a PIV card has no key %02X", byte(ref))
	}
	if c.o.isRetiredBeyond(ref) {
		return fmt.Errorf("this card has no place %02X", byte(ref))
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.keys, ref)
	if private != nil {
		k, err := newKey(private, c.o.Ed25519)
		if err != nil {
			return err
		}
		c.keys[ref] = k
	}
	c.setObject(ref.object(), nil)
	if certificateDER != nil {
		object, err := Container{}.Object(certificateDER)
		if err != nil {
			return err
		}
		c.setObject(ref.object(), object)
	}
	return nil
}
