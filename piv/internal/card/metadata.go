package card

import (
	"bytes"
	"context"
	"fmt"

	"pam_pkcs11/internal/iso7816"
	"pam_pkcs11/piv/cache"
	"pam_pkcs11/piv/internal/channel"
	"pam_pkcs11/piv/internal/data"
)

// Finish reads what else a login wants to know of a key that was just read.
func (r *Reader) Finish(ctx context.Context, k *Card, one *Key) error {
	if one.Cached || one.Entry == nil {
		return nil
	}
	if err := r.keyMetadata(ctx, k, one); err != nil {
		return err
	}

	// What belongs to the card and not to the key stands in each entry: the next login may find any
	// of them.
	if k.First != nil && k.First != one && k.First.Entry != nil {
		one.inherit(k.First.Entry)
	}
	return nil
}

// inherit copies what an entry has of the card.
func (k *Key) inherit(e *cache.Entry) {
	k.Entry.APT = e.APT
	k.Entry.Discovery = e.Discovery
	k.Entry.PINMetadata = e.PINMetadata
	k.Entry.Serial = e.Serial
	k.Entry.MostTries = e.MostTries
}

// keyMetadata asks a card that may know them for the policies of a key (Yubico's extension).
func (r *Reader) keyMetadata(ctx context.Context, k *Card, one *Key) error {
	if !k.Kind.Metadata || !one.Present {
		return nil
	}
	a, err := r.metadata(ctx, one.Ref)
	// Older firmware does not know the command: there is no error then.
	if err != nil || a.SW != iso7816.StatusOK || len(a.Data) == 0 {
		return err
	}
	one.Entry.Metadata = a.Data
	one.takeMetadata()
	return nil
}

// pinMetadata asks for the state of the PIN, which includes its tries. It does not say whether
// another program has unlocked the card: the card counts as locked, and is left so.
func (r *Reader) pinMetadata(ctx context.Context, k *Card) error {
	a, err := r.metadata(ctx, k.PINRef)
	if err != nil || a.SW != iso7816.StatusOK || len(a.Data) == 0 {
		return err
	}

	meta, err := data.ParseMetadata(a.Data)
	if err != nil {
		r.Log.Info("metadata of the PIN cannot be read", "reader", r.Channel.Reader, "error", err)
		return nil
	}

	k.standard = meta.Default
	k.First.Changed = k.First.Changed || !bytes.Equal(k.First.Entry.PINMetadata, a.Data)
	k.First.Entry.PINMetadata = a.Data

	if !meta.TriesKnown {
		return nil
	}

	k.First.Entry.MostTries = max(k.First.Entry.MostTries, meta.Tries)

	// The tries are put as the answer to VERIFY without a PIN would be.
	k.PIN = data.InterpretPIN(iso7816.StatusTries(meta.Left))
	if meta.Left == 0 {
		k.PIN = data.InterpretPIN(iso7816.StatusBlocked)
	}
	k.PIN.Left = meta.Left
	k.PIN.Counted = true
	return nil
}

// PUK asks for the state of the PUK, in a transaction. It spends no try. A card without metadata
// does not tell: the result is nil.
func (r *Reader) PUK(ctx context.Context, k *Card) (*data.Metadata, error) {
	if !k.Kind.Metadata {
		return nil, nil
	}
	a, err := r.metadata(ctx, data.PUK)
	if err != nil || a.SW != iso7816.StatusOK || len(a.Data) == 0 {
		return nil, err
	}
	return data.ParseMetadata(a.Data)
}

// metadata sends GET METADATA for a key or a PIN.
func (r *Reader) metadata(ctx context.Context, ref byte) (channel.Answer, error) {
	return r.Channel.Send(ctx, channel.Command{
		Name:    fmt.Sprintf("GET METADATA %02X", ref),
		INS:     data.INSMetadata,
		P2:      ref,
		Answers: true,
	})
}

// notDefault is the metadata of a PIN that is not the maker's (tag 05).
var notDefault = []byte{0x05, 0x01, 0x00}

// PINChanged removes what was known of the old PIN. A new one is nobody's default.
func (r *Reader) PINChanged(k *Card) {
	k.standard = false
	for _, one := range k.Keys {
		if one.Entry != nil && len(one.Entry.PINMetadata) > 0 {
			one.Entry.PINMetadata = notDefault
			one.Changed = true
			r.Remember(one)
		}
	}
}
