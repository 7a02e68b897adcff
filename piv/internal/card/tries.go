package card

import (
	"context"

	"pam_pkcs11/piv/internal/channel"
	"pam_pkcs11/piv/internal/data"
)

// AskTries asks the card how many tries are left, without a PIN, which costs none (VERIFY, SP
// 800-73-4 part 2, section 3.2.1). ref is the key reference of the PIN.
func (r *Reader) AskTries(ctx context.Context, ref byte) (data.PINAnswer, error) {
	a, err := r.Channel.Send(ctx, channel.Command{Name: "VERIFY (tries)", INS: 0x20, P2: ref})
	if err != nil {
		return data.PINAnswer{}, err
	}
	return data.JudgePIN(a.SW), nil
}

// pinState finds out the tries that are left: only now, with PIV selected, and never of a card for
// which that is useless.
func (r *Reader) pinState(ctx context.Context, k *Card) error {
	if k.PIN.Word != 0 || k.Kind.NoEmptyVerify {
		return nil
	}
	pin, err := r.AskTries(ctx, k.PINRef)
	if err != nil {
		return err
	}
	if pin.Result == data.PINNoReference && k.MayBeGlobal() {
		other, err := r.AskTries(ctx, data.GlobalPIN)
		if err != nil {
			return err
		}
		if other.Result != data.PINNoReference {
			pin, k.PINRef = other, data.GlobalPIN
		}
	}
	k.PIN = pin
	return nil
}

// MayBeGlobal reports whether a card that does not know the PIN by its usual key reference may have
// it as the global one: SP 800-73-1 knew no other, and had no discovery object.
func (k *Card) MayBeGlobal() bool {
	return k.Discovery == nil && k.PINRef == data.ApplicationPIN
}

// noteMost keeps the highest number of tries that the card has shown.
func (k *Card) noteMost() {
	if k.First == nil || !k.PIN.Counted {
		return
	}
	if left := min(k.PIN.Left, 0xFF); left > k.First.Entry.MostTries {
		k.First.Entry.MostTries, k.First.News = left, true
	}
}
