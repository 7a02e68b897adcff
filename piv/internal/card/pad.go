package card

import (
	"context"

	"pam_pkcs11/piv/internal/data"
)

// askReader asks the reader whether a PIN can be typed at it. A reader that does not answer has no
// keys.
func (r *Reader) askReader(ctx context.Context, k *Card) {
	ch := r.Channel
	list, err := ch.Control(ctx, "CM_IOCTL_GET_FEATURE_REQUEST", data.ControlFeatures, nil)
	if err != nil {
		return
	}

	f, err := data.ParseFeatures(list)
	if err != nil {
		r.Log.Info("features of the reader cannot be read", "reader", ch.Reader, "error", err)
		return
	}

	k.Features = f
	if f.VerifyPIN == 0 {
		return
	}

	// Both are optional: without them the structures of PIN entry use the usual limits.
	if f.PINProperties != 0 {
		b, err := ch.Control(ctx, "FEATURE_IFD_PIN_PROPERTIES", f.PINProperties, nil)
		if err == nil {
			k.Pad, _ = data.ParsePINProperties(b)
		}
	}

	if f.TLVProperties != 0 {
		b, err := ch.Control(ctx, "FEATURE_GET_TLV_PROPERTIES", f.TLVProperties, nil)
		if err != nil {
			return
		}
		if pad, err := data.ParseTLVProperties(b); err == nil {
			// Of two answers about the display the larger one: a reader that says 0 in one may have
			// it in the other.
			pad.Display = max(pad.Display, k.Pad.Display)
			k.Pad = pad
		}
	}
}
