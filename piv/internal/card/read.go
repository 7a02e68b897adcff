package card

import (
	"bytes"
	"context"

	"pam_pkcs11/piv/internal/channel"
	"pam_pkcs11/piv/internal/data"
)

// Read reads what a login has to know of a card before its prompt. For a card that the cache knows
// that is the beginning of one certificate, and the tries that are left. selected is the answer to
// SELECT.
func (r *Reader) Read(ctx context.Context, atr []byte, selected channel.Answer) (*Card, error) {
	k := &Card{Keys: map[byte]*Key{}}
	if err := r.findFirst(ctx, k); err != nil {
		return nil, err
	}

	var err error
	k.known = k.First != nil && k.First.Cached
	if k.known {
		err = r.recall(ctx, k, atr)
	} else {
		err = r.learn(ctx, k, atr, selected)
	}
	if err != nil {
		return nil, err
	}

	// The state of the PIN comes last: nothing that is sent after it can make it out of date.
	for _, read := range []func(context.Context, *Card) error{r.name, r.serialNumber, r.pinState} {
		if err := read(ctx, k); err != nil {
			return nil, err
		}
	}

	r.askReader(ctx, k)
	k.noteMost()
	return k, nil
}

// findFirst reads keys until one has a certificate. Retired keys are not used to know a card again:
// which places are taken is not known.
func (r *Reader) findFirst(ctx context.Context, k *Card) error {
	for _, ref := range r.Keys {
		if data.IsRetired(ref) {
			continue
		}
		one, err := r.Key(ctx, ref, false)
		if err != nil {
			return err
		}
		k.Keys[ref] = one
		if one.Entry != nil {
			k.First = one
			return nil
		}
	}
	return nil
}

// recall takes over what the cache knows of the card.
func (r *Reader) recall(ctx context.Context, k *Card, atr []byte) error {
	e := k.First.Entry
	k.APT = parsedAPT(e.APT)
	k.Kind = data.FindKind(atr, k.APT)
	k.Discovery = parsedDiscovery(e.Discovery)
	k.PINRef = k.Discovery.PIN()
	k.serial = e.Serial

	// Only a card that had its maker's PIN is asked each time, until it has another one.
	if len(e.PINMetadata) == 0 {
		return nil
	}
	if meta, err := data.ParseMetadata(e.PINMetadata); err != nil || !meta.Default {
		return nil
	}
	return r.pinMetadata(ctx, k)
}

// learn reads from the card what the cache does not know.
func (r *Reader) learn(ctx context.Context, k *Card, atr []byte, selected channel.Answer) error {
	// With T=0 the answer to SELECT has to be fetched, and only right after SELECT.
	if _, waits := selected.SW.More(); waits && len(selected.Data) == 0 {
		again, err := r.Channel.SelectPIV(ctx)
		if err != nil {
			return err
		}

		if selected, err = r.Channel.Rest(ctx, "SELECT", again); err != nil {
			return err
		}
	}

	k.APT = parsedAPT(selected.Data)
	k.Kind = data.FindKind(atr, k.APT)

	discovery, err := r.discovery(ctx, k)
	if err != nil {
		return err
	}
	k.Discovery = parsedDiscovery(discovery)
	k.PINRef = k.Discovery.PIN()
	if k.First == nil {
		return nil
	}

	k.First.Entry.APT = selected.Data
	k.First.Entry.Discovery = discovery

	// A card that answers for the key has metadata of the PIN as well.
	if err := r.keyMetadata(ctx, k, k.First); err != nil || k.First.meta == nil {
		return err
	}
	return r.pinMetadata(ctx, k)
}

// discovery reads the discovery object; nil where there is none.
func (r *Reader) discovery(ctx context.Context, k *Card) ([]byte, error) {
	if k.Kind.NoDiscovery {
		return nil, nil
	}
	content, present, err := readObject(ctx, r.Channel, data.TagDiscovery)
	switch {
	case isUnreadable(err):
		r.Log.Info("discovery object cannot be read", "reader", r.Channel.Reader, "error", err)
		return nil, nil
	case err != nil || !present:
		return nil, err
	}
	return bytes.Clone(content), nil
}

// parsedAPT reads the answer to SELECT; the zero value where it is malformed.
func parsedAPT(b []byte) *data.APT {
	apt, err := data.ParseAPT(b)
	if err != nil {
		return &data.APT{} // it only helps to find the kind of the card
	}
	return apt
}

// parsedDiscovery reads a discovery object; nil where there is none, or it is malformed.
func parsedDiscovery(b []byte) *data.Discovery {
	if len(b) == 0 {
		return nil
	}
	d, err := data.ParseDiscovery(b)
	if err != nil {
		return nil
	}
	return d
}

// serialNumber reads the number of the card, where it is wanted and not known.
func (r *Reader) serialNumber(ctx context.Context, k *Card) error {
	if !r.Serial || k.serial != "" {
		return nil
	}

	content, present, err := readObject(ctx, r.Channel, data.TagCHUID)
	if err != nil && !isUnreadable(err) {
		return err
	}

	var chuid *data.CHUID
	if err == nil && present {
		if chuid, err = data.ParseCHUID(content); err != nil {
			r.Log.Info("CHUID cannot be read", "reader", r.Channel.Reader, "error", err)
		}
	}

	// A card without CHUID has OpenSC's number for such cards, and is not asked again.
	k.serial = chuid.Serial()
	if k.First != nil {
		k.First.Entry.Serial = k.serial
		k.First.Changed = true
	}
	return nil
}

// Replace puts a key that was read anew in the place of what the cache had said.
func (r *Reader) Replace(k *Card, fresh *Key) {
	known := k.First
	k.Anew = true

	// Where one entry was wrong, others of the same card may be.
	for ref, other := range k.Keys {
		if other.Cached {
			r.Forget(other)
			delete(k.Keys, ref)
		}
	}

	k.Keys[fresh.Ref] = fresh
	if fresh.Entry == nil {
		return
	}

	// The card is the same one: what is known of it, beside its certificates, stays.
	if known != nil && known.Entry != nil {
		fresh.inherit(known.Entry)
	}
	k.First = fresh
}
