package card

import (
	"bytes"

	"pam_pkcs11/internal/certinfo"
	"pam_pkcs11/piv/cache"
	"pam_pkcs11/piv/internal/data"
	"pam_pkcs11/token"
)

// Key is what is known of one key and its certificate.
type Key struct {
	Ref    byte // key reference (SP 800-73-4 part 1, table 4b)
	Object token.Object

	// Piece is the beginning of the certificate's object, by which the cache finds it. Entry is
	// what the cache has, or will get; nil where there is no certificate.
	Piece []byte
	Entry *cache.Entry

	Present bool // there is a certificate, or something in its place
	Cached  bool // it is from the cache, and the card has shown the beginning of it only
	Proved  bool // a signature of the key was checked with the certificate, in this login or before
	Changed bool // Entry has something that the cache does not have yet

	meta *data.Metadata // nil: the card does not tell
}

// newKey returns a key whose object has its names.
func newKey(ref byte) *Key {
	return &Key{Ref: ref, Object: token.Object{
		Handle: uint(ref),
		ID:     data.IDOf(ref),
		Label:  data.ObjectLabel(ref),
	}}
}

// Shown reports whether the key's certificate is shown. A key that signs without a PIN proves
// nothing, and is not.
func (k *Key) Shown() bool {
	return k.Present && (k.meta == nil || k.meta.PIN != data.PINPolicyNever)
}

// Always reports whether the key wants the PIN right before each signature. Where the card does not
// tell, 9C does (SP 800-73-4 part 1, table 4b).
func (k *Key) Always() bool {
	switch {
	case k.meta == nil, k.meta.PIN == data.PINPolicyUntold:
		return k.Ref == data.KeySignature
	case k.meta.PIN == data.PINPolicyAlways, k.meta.PIN == data.PINPolicyMatchAlways:
		return true
	}
	return false
}

// touches are the touch policies in the terms of package token.
var touches = map[data.TouchPolicy]token.Touch{
	data.TouchPolicyNever:  token.TouchNever,
	data.TouchPolicyCached: token.TouchCached,
	data.TouchPolicyAlways: token.TouchAlways,
}

// Touch returns whether the key wants to be touched.
func (k *Key) Touch() token.Touch {
	if k.meta == nil {
		return token.TouchUntold
	}
	return touches[k.meta.Touch]
}

// fill takes the certificate out of the object that the entry has.
func (k *Key) fill() {
	content, present, err := data.Object(k.Entry.Object)

	var der []byte
	if err == nil && present {
		der, present, err = data.Certificate(content)
	}

	if err != nil {
		// There is something: callers show that it is broken, and not that the card is empty.
		k.Present = true
		k.Object.Err = err
		k.Object.Value = bytes.Clone(k.Entry.Object)
		return
	}

	k.Present = present
	if !present {
		return
	}

	if k.Object.Cert, k.Object.Err = certinfo.ParsePadded(der); k.Object.Err != nil {
		k.Object.Value = bytes.Clone(der)
	}
}

// takeMetadata reads the key's metadata in the entry. Metadata that is malformed counts as absent.
func (k *Key) takeMetadata() {
	if len(k.Entry.Metadata) == 0 {
		return
	}
	if meta, err := data.ParseMetadata(k.Entry.Metadata); err == nil {
		k.meta = meta
	}
}
