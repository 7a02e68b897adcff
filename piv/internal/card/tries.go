package card

import (
	"context"

	"pam_pkcs11/piv/internal/channel"
	"pam_pkcs11/piv/internal/data"
)

// AskTries asks the card how many tries are left, with VERIFY without a PIN, which costs none (SP
// 800-73-4 part 2, section 3.2.1). ref is the key reference of the PIN.
func (r *Reader) AskTries(ctx context.Context, ref byte) (data.PINAnswer, error) {
	a, err := r.Channel.Send(ctx, channel.Command{Name: "VERIFY (tries)", INS: 0x20, P2: ref})
	if err != nil {
		return data.PINAnswer{}, err
	}
	return data.InterpretPIN(a.SW), nil
}

// pinState asks for the tries that are left. It does so only with PIV selected, where VERIFY
// without a PIN is harmless, and never where the card's answer would be of no use.
func (r *Reader) pinState(ctx context.Context, k *Card) error {
	if k.PIN.Word != 0 || k.Kind.NoEmptyVerify {
		return nil
	}

	pin, err := r.AskTries(ctx, k.PINRef)
	if err != nil {
		return err
	}

	// The same two references as for the PIN itself: what is asked here is sent there.
	if pin.Result == data.PINNoReference && k.MayBeGlobal() {
		other, err := r.AskTries(ctx, data.GlobalPIN)
		if err != nil {
			return err
		}
		if other.Result != data.PINNoReference {
			pin = other
			k.PINRef = data.GlobalPIN
		}
	}

	k.PIN = pin
	return nil
}

// MayBeGlobal reports whether a card that does not know the PIN by its usual key reference may have
// it as the global one. SP 800-73-1 had no discovery object to say so.
func (k *Card) MayBeGlobal() bool {
	return k.Discovery == nil && k.PINRef == data.ApplicationPIN
}

// noteMost keeps the highest number of tries that the card has shown: a login warns when there are
// fewer.
func (k *Card) noteMost() {
	if k.First == nil || !k.PIN.Counted {
		return
	}
	left := min(k.PIN.Left, 0xFF)
	if left > k.First.Entry.MostTries {
		k.First.Entry.MostTries = left
		k.First.Changed = true
	}
}
