package card

import (
	"bytes"
	"context"
	"errors"
	"log/slog"

	"pam_pkcs11/piv/cache"
	"pam_pkcs11/piv/internal/channel"
	"pam_pkcs11/piv/internal/data"
)

// Settings select what is read of cards. Log is not nil.
type Settings struct {
	Keys   []byte         // key references, in the order in which they are used
	Cache  *cache.Cache   // nil: none
	Label  data.LabelMode // how the card is named
	Serial bool           // the serial number is wanted
	Log    *slog.Logger
}

// Reader reads a card. All its methods need a transaction with PIV selected.
type Reader struct {
	*Settings
	Channel *channel.Channel
}

// maxPiece is the length of the piece of a certificate's object, in bytes.
const maxPiece = cache.MaxPiece

// Key reads the certificate of a key: only its beginning where the cache has the rest, and all of
// it where fresh asks for what the card has now. An error is about the card; what is wrong with one
// certificate is in its object.
func (r *Reader) Key(ctx context.Context, ref byte, fresh bool) (*Key, error) {
	k := newKey(ref)
	cmd := getData(data.TagOf(ref))
	a, err := r.Channel.First(ctx, cmd)
	if err != nil {
		return nil, err
	}

	absent, err := checkObject(cmd.Name, a)
	switch {
	case isUnreadable(err):
		k.Present = true
		k.Object.Err = err
		return k, nil
	case err != nil:
		return nil, err
	case absent:
		return k, nil
	}

	k.Piece = bytes.Clone(a.Data[:min(len(a.Data), maxPiece)])

	// The cache holds only keys whose signature was checked: see Remember.
	if !fresh {
		if k.Entry = r.recalled(k.Piece); k.Entry != nil {
			k.Cached = true
			k.Proved = true
			k.takeMetadata()
			k.fill()
			return k, nil
		}
	}

	if a, err = r.Channel.Rest(ctx, cmd.Name, a); errors.Is(err, channel.ErrLong) {
		k.Present = true
		k.Object.Err = &unreadable{errors.New(err.Error())}
		return k, nil
	}
	if err != nil {
		return nil, err
	}

	k.Entry = &cache.Entry{Object: a.Data}
	k.Changed = true
	k.fill()

	// An empty container is a key without a certificate.
	if !k.Present {
		k.Entry = nil
		k.Changed = false
	}
	return k, nil
}

// recalled returns the entry of the cache for the object that begins with piece; nil where there is
// none.
func (r *Reader) recalled(piece []byte) *cache.Entry {
	e, ok := r.Cache.Get(piece)
	if !ok || !bytes.HasPrefix(e.Object, piece) {
		return nil
	}
	return e
}

// Remember puts what is new of a key into the cache, if the key has proved to be the certificate's.
// Nothing else goes there: a card whose object only begins as another one's would otherwise keep
// that one from every login on this machine.
func (r *Reader) Remember(k *Key) {
	hasNews := k.Entry != nil && k.Changed
	if !hasNews || !k.Proved || r.Cache == nil {
		return
	}

	// Also after an error: it would be the same for the next key.
	k.Changed = false
	if err := r.Cache.Put(k.Piece, k.Entry); err != nil {
		r.Log.Debug("the card is not remembered", "reader", r.Channel.Reader, "error", err)
	}
}

// Forget removes a key from the cache.
func (r *Reader) Forget(k *Key) {
	if k.Piece != nil {
		r.Cache.Drop(k.Piece)
	}
}
