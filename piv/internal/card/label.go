package card

import (
	"context"
	"iter"

	"pam_pkcs11/internal/certinfo"
	"pam_pkcs11/piv/internal/data"
)

// Rename finds the label of a card whose certificates were read anew.
func (r *Reader) Rename(ctx context.Context, k *Card) error { return r.name(ctx, k) }

// name finds the label of the card: the name in the first certificate that can be read, in OpenSC's
// order. Certificates that no login uses are only read where the others have no name.
func (r *Reader) name(ctx context.Context, k *Card) error {
	var failed error
	certs := iter.Seq[*certinfo.Certificate](func(yield func(*certinfo.Certificate) bool) {
		places := -1
		// The sequence is read as far as Label needs: each certificate costs several commands.
		for _, ref := range data.LabelOrder() {
			if data.IsRetired(ref) && places < 0 {
				places, _, failed = r.RetiredPlaces(ctx)
			}
			if failed != nil || data.IsRetired(ref) && int(ref-data.KeyRetired1) >= places {
				return
			}

			var one *Key
			if one, failed = r.keyOf(ctx, k, ref); failed != nil {
				return
			}

			if one.Object.Cert != nil && !yield(one.Object.Cert) {
				return
			}
		}
	})

	k.label = data.Label(certs, k.Discovery.Global(), r.Label)
	return failed
}

// keyOf returns a key that is known, or reads it.
func (r *Reader) keyOf(ctx context.Context, k *Card, ref byte) (*Key, error) {
	if one := k.Keys[ref]; one != nil {
		return one, nil
	}
	one, err := r.Key(ctx, ref, false)
	if err == nil {
		err = r.Finish(ctx, k, one)
	}
	if err != nil {
		return nil, err
	}
	k.Keys[ref] = one
	return one, nil
}

// RetiredPlaces returns how many retired keys have a certificate on the card, by its key history.
// It is not known where the card has none: not all programs that write retired keys write a
// history.
func (r *Reader) RetiredPlaces(ctx context.Context) (n int, known bool, err error) {
	content, present, err := readObject(ctx, r.Channel, data.TagKeyHistory)
	if err != nil && !isUnreadable(err) {
		return 0, false, err
	}
	if err != nil || !present {
		return 0, false, nil
	}
	h, err := data.ParseKeyHistory(content)
	if err != nil {
		r.Log.Info("key history cannot be read", "reader", r.Channel.Reader, "error", err)
		return 0, false, nil
	}
	return h.OnCard, true, nil
}
