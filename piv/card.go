package piv

import (
	"bytes"
	"context"
	"errors"
	"iter"

	"pam_pkcs11/internal/certinfo"
	"pam_pkcs11/piv/cache"
	"pam_pkcs11/piv/internal/data"
	"pam_pkcs11/token"
)

// card is what is known of a card: read from it, or remembered and confirmed by nothing yet but the
// beginning of a certificate.
type card struct {
	kind      *data.Kind
	apt       *data.APT
	discovery *data.Discovery // nil: the card has none

	keys   map[KeyRef]*key // as far as they were looked at
	first  *key            // the one by which the card is known again; nil: it shows no certificate
	known  bool            // the cache has it
	serial string          // "" is not read
	label  []byte          // raw, as OpenSC gives it

	anew bool // the cache was wrong about this card: nothing is taken from it any more

	pin      data.PINAnswer // of the empty VERIFY; Word 0: not asked
	pinRef   byte           // the key reference of the PIN, P2 of VERIFY
	standard bool           // the PIN is the one that its maker has set
	features data.Features  // of the reader
	pad      data.Pad
}

// key is what is known of one key and its certificate.
type key struct {
	ref   KeyRef
	entry *cache.Entry // what the cache has, or should have; nil where there is no certificate
	piece []byte       // the first part of the certificate's object

	present bool // there is a certificate
	cached  bool // the certificate is from the cache
	object  token.Object
	meta    *data.Metadata // nil: the card does not tell
}

// shown reports whether the key's certificate is shown: one that is used without a PIN is not.
func (k *key) shown() bool {
	return k.present && (k.meta == nil || k.meta.PIN != data.PINPolicyNever)
}

// always reports whether the key wants the PIN right before each signature.
func (k *key) always() bool {
	switch {
	case k.meta == nil || k.meta.PIN == data.PINPolicyUntold:
		return k.ref == KeySignature
	case k.meta.PIN == data.PINPolicyAlways, k.meta.PIN == data.PINPolicyMatchAlways:
		return true
	}
	return false
}

func (k *key) touch() token.Touch {
	if k.meta == nil {
		return token.TouchUntold
	}
	return map[data.TouchPolicy]token.Touch{
		data.TouchPolicyNever:  token.TouchNever,
		data.TouchPolicyCached: token.TouchCached,
		data.TouchPolicyAlways: token.TouchAlways,
	}[k.meta.Touch]
}

// fill takes the certificate out of the object that the entry has.
func (k *key) fill() {
	k.object = token.Object{
		Handle: uint(k.ref),
		ID:     data.IDOf(byte(k.ref)),
		Label:  data.ObjectLabel(byte(k.ref)),
	}
	content, present, err := data.Object(k.entry.Object)
	var der []byte
	if err == nil && present {
		der, present, err = data.Certificate(content)
	}
	if err != nil {
		k.present, k.object.Err, k.object.Value = true, err, bytes.Clone(k.entry.Object)
		return
	}
	if k.present = present; !present {
		return
	}
	if k.object.Cert, k.object.Err = certinfo.ParsePadded(der); k.object.Err != nil {
		k.object.Value = bytes.Clone(der)
	}
}

// readKey reads the certificate of a key: only its beginning where the cache has the rest, and fresh
// does not ask for it as the card has it now. An error is of the card; what is wrong with one
// certificate is in its object.
func (c *connection) readKey(ctx context.Context, ref KeyRef, fresh bool) (*key, error) {
	k := &key{ref: ref}
	cmd := getData(data.TagOf(byte(ref)))
	a, err := c.first(ctx, cmd)
	if err != nil {
		return nil, err
	}
	absent, err := judgeObject(cmd.name, a)
	var one *unreadable
	switch {
	case errors.As(err, &one):
		k.present = true
		k.object = token.Object{
			Handle: uint(ref),
			ID:     data.IDOf(byte(ref)),
			Label:  data.ObjectLabel(byte(ref)),
			Err:    err,
		}
		return k, nil
	case err != nil || absent:
		return k, err
	}

	k.piece = bytes.Clone(a.data[:min(len(a.data), maxPiece)])
	if !fresh {
		if k.entry = c.module.remembered(k.piece); k.entry != nil {
			k.cached = true
			k.takeMetadata()
			k.fill()
			return k, nil
		}
	}
	if a, err = c.rest(ctx, cmd.name, a); err != nil {
		return nil, err
	}
	k.entry = &cache.Entry{Object: a.data}
	k.fill()
	return k, nil
}

// maxPiece is how much of the object of a certificate names it in the cache, in bytes.
const maxPiece = 256

// takeMetadata reads what the entry has of the key's metadata.
func (k *key) takeMetadata() {
	if len(k.entry.Metadata) == 0 {
		return
	}
	if meta, err := data.ParseMetadata(k.entry.Metadata); err == nil {
		k.meta = meta
	}
}

// remembered asks the cache for the object that begins with piece.
func (m *Module) remembered(piece []byte) *cache.Entry {
	if m.options.Cache == nil {
		return nil
	}
	e, ok := m.options.Cache.Get(piece)
	if !ok || !bytes.HasPrefix(e.Object, piece) {
		return nil
	}
	return e
}

// remember gives the cache what was read of a key.
func (m *Module) remember(k *key) {
	if m.options.Cache == nil || k.entry == nil || k.object.Err != nil || !k.present {
		return
	}
	if err := m.options.Cache.Put(k.piece, k.entry); err != nil {
		m.log.Debug("the card is not remembered", "error", err)
	}
}

// forget takes a key out of the cache.
func (m *Module) forget(k *key) {
	if m.options.Cache != nil && k.piece != nil {
		m.options.Cache.Drop(k.piece)
	}
}

// labelFrom finds the label of the card: of the first certificate that can be read, in OpenSC's
// order. Those that no login uses are only read where the others have none.
func (c *connection) labelFrom(ctx context.Context, k *card) error {
	var failed error
	certs := iter.Seq[*certinfo.Certificate](func(yield func(*certinfo.Certificate) bool) {
		places := data.KeyRetired20 - data.KeyRetired1 + 1
		history := false
		for _, ref := range data.LabelOrder() {
			if data.IsRetired(ref) && !history {
				history = true
				places = c.retiredPlaces(ctx, &failed)
			}
			if failed != nil || data.IsRetired(ref) && ref-data.KeyRetired1 >= places {
				return
			}
			one := k.keys[KeyRef(ref)]
			if one == nil {
				if one, failed = c.readKey(ctx, KeyRef(ref), false); failed != nil {
					return
				}
				k.keys[KeyRef(ref)] = one
			}
			if one.object.Cert != nil && !yield(one.object.Cert) {
				return
			}
		}
	})
	k.label = data.Label(certs, k.discovery.Global(), data.LabelMode(c.module.options.Label))
	return failed
}

// retiredPlaces is how many of the places of retired keys are looked at, from the first: those that
// OpenSC looks at, too.
func (c *connection) retiredPlaces(ctx context.Context, failed *error) byte {
	content, present, err := c.object(ctx, data.TagKeyHistory)
	var one *unreadable
	if err != nil && !errors.As(err, &one) && !errors.Is(err, data.ErrObject) {
		*failed = err
		return 0
	}
	if err != nil || !present {
		return 0
	}
	h, err := data.ParseKeyHistory(content)
	if err != nil {
		return 0
	}
	return byte(h.OnCard)
}
