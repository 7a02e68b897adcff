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

// Finish reads what else there is to know of a key that was just read.
func (r *Reader) Finish(ctx context.Context, k *Card, one *Key) error {
	if one.Cached || one.Entry == nil {
		return nil
	}
	if err := r.keyMetadata(ctx, k, one); err != nil {
		return err
	}
	if k.First != nil && k.First != one && k.First.Entry != nil {
		one.inherit(k.First.Entry)
	}
	return nil
}

// inherit takes over what an entry has of the card.
func (k *Key) inherit(e *cache.Entry) {
	k.Entry.APT, k.Entry.Discovery, k.Entry.PINMetadata = e.APT, e.Discovery, e.PINMetadata
	k.Entry.Serial, k.Entry.MostTries = e.Serial, e.MostTries
}

// keyMetadata asks a card that may tell them for the policies of a key (Yubico's extension).
func (r *Reader) keyMetadata(ctx context.Context, k *Card, one *Key) error {
	if !k.Kind.Metadata || !one.Present {
		return nil
	}
	a, err := r.metadata(ctx, one.Ref)
	if err != nil || a.SW != iso7816.StatusOK || len(a.Data) == 0 {
		return err
	}
	one.Entry.Metadata = a.Data
	one.takeMetadata()
	return nil
}

// pinMetadata asks for the state of the PIN, which tells its tries, too. Whether another program
// has unlocked the card it does not tell: it counts as locked, and is left so.
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
	k.First.News = k.First.News || !bytes.Equal(k.First.Entry.PINMetadata, a.Data)
	k.First.Entry.PINMetadata = a.Data
	if !meta.TriesKnown {
		return nil
	}
	k.First.Entry.MostTries = max(k.First.Entry.MostTries, meta.Tries)
	k.PIN = data.JudgePIN(iso7816.StatusTries(meta.Left))
	if meta.Left == 0 {
		k.PIN = data.JudgePIN(iso7816.StatusBlocked)
	}
	k.PIN.Left, k.PIN.Counted = meta.Left, true
	return nil
}

// PUK asks for the state of the PUK, in a transaction. It spends no try: a card without metadata
// does not tell, and has nil.
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

func (r *Reader) metadata(ctx context.Context, ref byte) (channel.Answer, error) {
	return r.Channel.Send(ctx, channel.Command{
		Name:    fmt.Sprintf("GET METADATA %02X", ref),
		INS:     data.INSMetadata,
		P2:      ref,
		Answers: true,
	})
}

// notDefault is metadata of a PIN that is not its maker's (tag 05).
var notDefault = []byte{0x05, 0x01, 0x00}

// PINChanged has what was known of the old PIN forgotten.
func (r *Reader) PINChanged(k *Card) {
	k.standard = false
	for _, one := range k.Keys {
		if one.Entry != nil && len(one.Entry.PINMetadata) > 0 {
			one.Entry.PINMetadata, one.News = notDefault, true
			r.Remember(one)
		}
	}
}
