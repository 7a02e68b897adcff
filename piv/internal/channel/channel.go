// Package channel exchanges commands with the card in one reader, over a PC/SC service:
// connections, transactions that begin with SELECT of PIV (NIST SP 800-73-4), command APDUs in
// their short form, and commands with a PIN. It knows how commands are sent, and not what they are
// for.
//
// Every wait ends with its context, also where the service has no way to cancel a call.
package channel

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"pam_pkcs11/pcsc"
	"pam_pkcs11/token"
)

// endTime bounds what is done to leave a card as it was found, also after the context has ended.
const endTime = 5 * time.Second

// Options are what all channels of a module have in common. None is nil.
type Options struct {
	Service pcsc.Service
	Log     *slog.Logger

	// Trace gets the name of each command before it is sent, and "" when it has returned. Several
	// channels may call it at the same time.
	Trace func(command string)
}

// Channel is a connection to the card in one reader, with a PC/SC context of its own: a reader that
// hangs blocks no other. One goroutine at a time may use it.
type Channel struct {
	Reader string

	// Dirty is set while the card may have taken a PIN, and nothing has locked it since. A channel
	// that ends so resets the card.
	Dirty bool

	// Fresh is set while nothing was sent to the card since it took the PIN. Whoever sends the PIN
	// sets it.
	Fresh bool

	// Unsure is set after a command that failed without an answer, until the next SELECT. The card
	// may have lost its power meanwhile, and have another application selected.
	Unsure bool

	options *Options
	context *pcsc.Context
	card    *pcsc.Card
	moves   uint16 // the reader's count of cards that came and went
	busy    *Busy  // nil where nobody looks at several channels

	long time.Time // when the card last sent a long answer (see Settle)

	lost   error // why nothing can be asked any more
	closed bool
	began  bool // in a transaction
}

var errClosed = errors.New("the session is closed")

// Dial connects to the card in a reader. moves is the reader's count of cards that came and went.
// b, which may be nil, gets what the channel waits for.
func Dial(ctx context.Context, o *Options, reader string, moves uint16, b *Busy) (*Channel, error) {
	c := &Channel{
		Reader:  reader,
		options: o,
		moves:   moves,
		busy:    b,
	}

	pc, err := await(ctx, c, "SCardEstablishContext", func() (*pcsc.Context, error) {
		return pcsc.NewContext(o.Service)
	})
	if err != nil {
		return nil, err
	}
	c.context = pc

	for {
		card, err := await(ctx, c, "SCardConnect", func() (*pcsc.Card, error) {
			return pc.ConnectContext(ctx, reader, pcsc.ShareShared, pcsc.ProtocolAny)
		})
		if err == nil {
			c.card = card
			b.reach(queueing)
			return c, nil
		}

		// Another program may have the reader for itself for a moment only.
		if !errors.Is(err, pcsc.ErrSharingViolation) || b == nil {
			c.Close()
			return nil, err
		}
		b.reach(refused)
		if pause(ctx) != nil {
			c.Close()
			return nil, err
		}
	}
}

// pause waits a little before a reader that is taken is asked again.
func pause(ctx context.Context) error {
	t := time.NewTimer(50 * time.Millisecond)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// ClearBusy ends the reports of what the channel waits for.
func (c *Channel) ClearBusy() { c.busy = nil }

// ATR returns the card's answer to reset.
func (c *Channel) ATR(ctx context.Context) ([]byte, error) {
	status, err := await(ctx, c, "SCardStatus", func() (*pcsc.CardStatus, error) {
		return c.card.StatusContext(ctx)
	})
	if err != nil {
		return nil, err
	}
	return status.ATR, nil
}

// Lost reports whether nothing can be asked any more.
func (c *Channel) Lost() bool { return c.lost != nil }

// ready returns why nothing can be asked of the card; nil where it can.
func (c *Channel) ready(ctx context.Context) error {
	if c.lost != nil {
		return c.lost
	}
	return ctx.Err()
}

// Close ends the connection, and a transaction that is still open: with a reset where the card may
// have taken a PIN. It may be called again. It takes a few seconds at most.
func (c *Channel) Close() {
	if c.context == nil || c.closed {
		return
	}
	c.closed = true
	if c.lost == nil {
		c.lost = errClosed
	}

	// A service that hangs must not hold the login up: a copy of the channel cleans up beside it.
	ended := make(chan struct{})
	left := *c
	go func() {
		defer close(ended)
		left.cleanUp()
	}()

	t := time.NewTimer(endTime)
	defer t.Stop()
	select {
	case <-ended:
	case <-t.C:
	}
}

// cleanUp leaves reader and card to other programs.
func (c *Channel) cleanUp() {
	d := pcsc.LeaveCard
	if c.Dirty {
		d = pcsc.ResetCard
	}

	if c.began {
		_ = c.card.EndTransaction(d)
	}

	// The context of the channel may have ended long ago.
	if c.card != nil {
		ctx, cancel := context.WithTimeout(context.Background(), endTime)
		defer cancel()
		_ = c.card.DisconnectContext(ctx, d)
	}
	_ = c.context.Release()
}

// GiveUp ends a channel whose card is no longer the one that was read. It returns err.
func (c *Channel) GiveUp(err error) error {
	if c.lost == nil {
		c.lost = err
	}
	c.Close()
	return err
}

// Control sends a command to the reader.
func (c *Channel) Control(
	ctx context.Context, name string, code uint32, in []byte,
) ([]byte, error) {
	c.options.Trace(name)
	defer c.options.Trace("")
	out, err := await(ctx, c, name, func() ([]byte, error) {
		return c.options.Service.Control(c.card.Handle(), code, in, maxControl)
	})

	// Features of the reader can send commands to the card, such as VERIFY.
	c.Unsure = c.Unsure || err != nil
	return out, err
}

// maxControl bounds the answer of a reader, in bytes.
const maxControl = 1024

// reconnect connects again after another program has reset the card, unless a card has come or
// gone: then nobody knows which card it is.
func (c *Channel) reconnect(ctx context.Context) error {
	_, err := await(ctx, c, "SCardReconnect", func() (struct{}, error) {
		err := c.card.ReconnectContext(ctx, pcsc.ShareShared, pcsc.ProtocolAny, pcsc.LeaveCard)
		return struct{}{}, err
	})
	if err != nil {
		return err
	}

	status, err := await(ctx, c, "SCardStatus", func() (*pcsc.CardStatus, error) {
		return c.card.StatusContext(ctx)
	})
	if err != nil {
		return err
	}

	// The count, and not the presence of a card, shows that it is the same one.
	if status.EventCounter != c.moves {
		err := errors.New("a card came or went in the reader")
		return c.GiveUp(&token.Error{Kind: token.ErrRemoved, Err: err})
	}
	return nil
}
