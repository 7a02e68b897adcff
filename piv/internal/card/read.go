package card

import (
	"bytes"
	"context"

	"pam_pkcs11/piv/internal/channel"
	"pam_pkcs11/piv/internal/data"
)

// Read reads what a login has to know of a card before its prompt. For a card that the cache knows
// that is the beginning of one certificate, and the tries that are left. selected is the answer of
// SELECT.
func (r *Reader) Read(ctx context.Context, atr []byte, selected channel.Answer) (*Card, error) {
	k := &Card{Keys: map[byte]*Key{}}
	if err := r.findFirst(ctx, k); err != nil {
		return nil, err
	}
	var err error
	if k.known = k.First != nil && k.First.Cached; k.known {
		err = r.recall(ctx, k, atr)
	} else {
		err = r.learn(ctx, k, atr, selected)
	}
	if err != nil {
		return nil, err
	}

	for _, read := range []func(context.Context, *Card) error{r.name, r.serialNumber, r.pinState} {
		if err := read(ctx, k); err != nil {
			return nil, err
		}
	}
	r.askReader(ctx, k)
	k.noteMost()
	return k, nil
}

// findFirst reads keys until one has a certificate. Retired ones are no way to know a card again:
// nobody knows which places are taken.
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

// recall takes what the cache knows of the card.
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

// learn reads what the cache does not know.
func (r *Reader) learn(ctx context.Context, k *Card, atr []byte, selected channel.Answer) error {
	if _, waits := selected.SW.More(); waits && len(selected.Data) == 0 { // T=0
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
	if err := r.keyMetadata(ctx, k, k.First); err != nil || k.First.meta == nil {
		return err
	}
	return r.pinMetadata(ctx, k)
}

// discovery reads the discovery object; nil is none.
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

func parsedAPT(b []byte) *data.APT {
	apt, err := data.ParseAPT(b)
	if err != nil {
		return &data.APT{} // it only helps to choose
	}
	return apt
}

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
	k.serial = chuid.Serial()
	if k.First != nil {
		k.First.Entry.Serial, k.First.News = k.serial, true
	}
	return nil
}

// Took has a key that was read anew take the place of what the cache had said.
func (r *Reader) Took(k *Card, fresh *Key) {
	known := k.First
	k.Anew = true
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
	if known != nil && known.Entry != nil {
		fresh.inherit(known.Entry)
	}
	k.First = fresh
}
