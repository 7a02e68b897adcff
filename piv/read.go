package piv

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"pam_pkcs11/internal/iso7816"
	"pam_pkcs11/piv/internal/data"
	"pam_pkcs11/token"
)

// read reads what a login has to know of a card before its prompt, in one transaction. For a card
// that the cache knows that is the beginning of one certificate, and the tries that are left.
func (c *connection) read(ctx context.Context, atr []byte) (*card, error) {
	var k *card
	err := c.transaction(ctx, func(ctx context.Context, selected answer) error {
		var err error
		k, err = c.readCard(ctx, atr, selected)
		return err
	})
	if errors.Is(err, errNotPIV) {
		return nil, &token.Error{Kind: token.ErrForeign, Err: err}
	}
	if err != nil {
		return nil, err
	}
	return k, nil
}

// readCard is read inside the transaction.
func (c *connection) readCard(ctx context.Context, atr []byte, selected answer) (*card, error) {
	k := &card{keys: map[KeyRef]*key{}}
	for _, ref := range c.module.keys {
		if ref.retired() {
			continue // nobody knows which places are taken; they are no way to know a card again
		}
		one, err := c.readKey(ctx, ref, false)
		if err != nil {
			return nil, err
		}
		k.keys[ref] = one
		if one.entry != nil {
			k.first = one
			break
		}
	}

	k.known = k.first != nil && k.first.cached
	var err error
	if k.known {
		err = c.recall(ctx, k, atr)
	} else {
		err = c.learn(ctx, k, atr, selected)
	}
	if err != nil {
		return nil, err
	}
	if err := c.labelFrom(ctx, k); err != nil {
		return nil, err
	}
	if err := c.readSerial(ctx, k); err != nil {
		return nil, err
	}
	if err := c.askTries(ctx, k); err != nil {
		return nil, err
	}
	c.askReader(ctx, k)
	if k.first != nil {
		c.noteTries(k)
	}
	return k, nil
}

// recall takes what the cache knows of the card.
func (c *connection) recall(ctx context.Context, k *card, atr []byte) error {
	e := k.first.entry
	k.apt = parsedAPT(e.APT)
	k.kind = data.FindKind(atr, k.apt)
	k.discovery = parsedDiscovery(e.Discovery)
	k.pinRef = k.discovery.PIN()
	k.serial = e.Serial
	if len(e.PINMetadata) == 0 {
		return nil
	}

	meta, err := data.ParseMetadata(e.PINMetadata)
	if err != nil || !meta.Default {
		return nil
	}
	// Only such a card is asked each time, until its PIN is another one.
	return c.readPINMetadata(ctx, k)
}

// learn reads what the cache does not know.
func (c *connection) learn(ctx context.Context, k *card, atr []byte, selected answer) error {
	if _, waits := selected.sw.More(); waits && len(selected.data) == 0 { // T=0
		again, err := c.selectPIV(ctx)
		if err != nil {
			return err
		}
		if selected, err = c.rest(ctx, "SELECT", again); err != nil {
			return err
		}
	}
	k.apt = parsedAPT(selected.data)
	k.kind = data.FindKind(atr, k.apt)

	discovery, err := c.readDiscovery(ctx, k)
	if err != nil {
		return err
	}
	k.discovery = parsedDiscovery(discovery)
	k.pinRef = k.discovery.PIN()
	if k.first == nil {
		return nil
	}

	k.first.entry.APT = selected.data
	k.first.entry.Discovery = discovery
	if err := c.readMetadata(ctx, k, k.first); err != nil {
		return err
	}
	if k.first.meta == nil {
		return nil
	}
	return c.readPINMetadata(ctx, k)
}

// readDiscovery reads the discovery object; nil is none.
func (c *connection) readDiscovery(ctx context.Context, k *card) ([]byte, error) {
	if k.kind.NoDiscovery {
		return nil, nil
	}
	content, present, err := c.object(ctx, data.TagDiscovery)
	var one *unreadable
	switch {
	case errors.As(err, &one), errors.Is(err, data.ErrObject):
		c.module.log.Info("discovery object cannot be read", "reader", c.reader, "error", err)
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

// readMetadata asks a card that may tell them for the policies of a key (Yubico's extension).
func (c *connection) readMetadata(ctx context.Context, k *card, one *key) error {
	if !k.kind.Metadata || one.entry == nil || one.cached {
		return nil
	}
	a, err := c.metadata(ctx, byte(one.ref))
	if err != nil || a.sw != iso7816.StatusOK || len(a.data) == 0 {
		return err
	}
	one.entry.Metadata = a.data
	one.takeMetadata()
	return nil
}

// readPINMetadata asks for the state of the PIN, which tells its tries, too.
func (c *connection) readPINMetadata(ctx context.Context, k *card) error {
	a, err := c.metadata(ctx, k.pinRef)
	if err != nil || a.sw != iso7816.StatusOK || len(a.data) == 0 {
		return err
	}
	meta, err := data.ParseMetadata(a.data)
	if err != nil {
		c.module.log.Info("metadata of the PIN cannot be read", "reader", c.reader, "error", err)
		return nil
	}

	k.standard = meta.Default
	k.first.entry.PINMetadata = a.data
	if !meta.TriesKnown {
		return nil
	}
	k.first.entry.MostTries = max(k.first.entry.MostTries, meta.Tries)
	k.pin = data.JudgePIN(iso7816.StatusTries(meta.Left))
	if meta.Left == 0 {
		k.pin = data.JudgePIN(iso7816.StatusBlocked)
	}
	k.pin.Left, k.pin.Counted = meta.Left, true
	return nil
}

func (c *connection) metadata(ctx context.Context, ref byte) (answer, error) {
	return c.send(ctx, command{
		name:    fmt.Sprintf("GET METADATA %02X", ref),
		ins:     data.INSMetadata,
		p2:      ref,
		answers: true,
	})
}

// readSerial reads the number of the card, where it is wanted and not known.
func (c *connection) readSerial(ctx context.Context, k *card) error {
	if !c.module.options.Serial || k.serial != "" {
		return nil
	}
	content, present, err := c.object(ctx, data.TagCHUID)
	var one *unreadable
	if err != nil && !errors.As(err, &one) && !errors.Is(err, data.ErrObject) {
		return err
	}

	var chuid *data.CHUID
	if err == nil && present {
		if chuid, err = data.ParseCHUID(content); err != nil {
			c.module.log.Info("CHUID cannot be read", "reader", c.reader, "error", err)
		}
	}
	k.serial = chuid.Serial()
	if k.first != nil {
		k.first.entry.Serial = k.serial
		c.module.remember(k.first)
	}
	return nil
}

// askTries asks for the tries that are left, without a PIN: only now, with PIV selected, and never a
// card for which that is useless.
func (c *connection) askTries(ctx context.Context, k *card) error {
	if k.pin.Word != 0 || k.kind.NoEmptyVerify {
		return nil
	}
	pin, err := c.emptyVerify(ctx, k.pinRef)
	if err != nil {
		return err
	}
	if pin.Result == data.PINNoReference && k.discovery == nil && k.pinRef == data.ApplicationPIN {
		// Cards of SP 800-73-1 have one PIN, the global one, and no discovery object.
		other, err := c.emptyVerify(ctx, data.GlobalPIN)
		if err != nil {
			return err
		}
		if other.Result != data.PINNoReference {
			pin, k.pinRef = other, data.GlobalPIN
		}
	}
	k.pin = pin
	return nil
}

// emptyVerify is VERIFY without a PIN (SP 800-73-4 part 2, section 3.2.1), which costs no try.
func (c *connection) emptyVerify(ctx context.Context, ref byte) (data.PINAnswer, error) {
	a, err := c.send(ctx, command{name: "VERIFY (tries)", ins: 0x20, p2: ref})
	if err != nil {
		return data.PINAnswer{}, err
	}
	return data.JudgePIN(a.sw), nil
}

// noteTries gives the cache what is new in the entry of the card.
func (c *connection) noteTries(k *card) {
	e := k.first.entry
	more := k.pin.Counted && k.pin.Left > e.MostTries
	if more {
		e.MostTries = k.pin.Left
	}
	if more || !k.known || k.standard {
		c.module.remember(k.first)
	}
}
