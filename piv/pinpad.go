package piv

import (
	"context"

	"pam_pkcs11/internal/iso7816"
	"pam_pkcs11/piv/internal/data"
	"pam_pkcs11/token"
)

// askReader asks the reader whether a PIN can be typed at it. One that does not answer has no keys.
func (c *connection) askReader(ctx context.Context, k *card) {
	list, err := c.control(ctx, "CM_IOCTL_GET_FEATURE_REQUEST", data.ControlFeatures, nil)
	if err != nil {
		return
	}
	if k.features, err = data.ParseFeatures(list); err != nil {
		c.module.log.Info("features of the reader cannot be read", "reader", c.reader, "error", err)
		k.features = data.Features{}
		return
	}
	if k.features.VerifyPIN == 0 {
		return
	}

	if k.features.PINProperties != 0 {
		if b, err := c.control(ctx, "FEATURE_IFD_PIN_PROPERTIES", k.features.PINProperties, nil); err == nil {
			if pad, err := data.ParsePINProperties(b); err == nil {
				k.pad = pad
			}
		}
	}
	if k.features.TLVProperties != 0 {
		if b, err := c.control(ctx, "FEATURE_GET_TLV_PROPERTIES", k.features.TLVProperties, nil); err == nil {
			if pad, err := data.ParseTLVProperties(b); err == nil {
				pad.Display = max(pad.Display, k.pad.Display)
				k.pad = pad
			}
		}
	}
}

// maxControl bounds what a reader answers, in bytes.
const maxControl = 1024

// control performs a command of the reader.
func (c *connection) control(ctx context.Context, name string, code uint32, in []byte) ([]byte, error) {
	c.module.trace(name)
	defer c.module.trace("")
	return await(ctx, c, name, func() ([]byte, error) {
		return c.module.service.Control(c.card.Handle(), code, in, maxControl)
	})
}

// enterPIN has a PIN typed at the reader, which sends it to the card, and returns the answer.
func (c *connection) enterPIN(ctx context.Context, name string, code uint32, block []byte) (data.PINAnswer, error) {
	c.dirty = true
	b, err := c.control(ctx, name, code, block)
	if err != nil {
		return data.PINAnswer{}, err
	}
	_, sw, err := iso7816.ParseResponse(b)
	if err != nil {
		return data.PINAnswer{}, malformed(name, "%w", err)
	}
	return data.JudgePad(sw), nil
}

// padError is the meaning of what only a reader with keys answers; nil for the words of cards.
func padError(name string, a data.PINAnswer) error {
	kind := map[data.PINResult]error{
		data.PadTimeout:   token.ErrCancelled,
		data.PadCancelled: token.ErrCancelled,
		data.PadMismatch:  token.ErrPINFormat,
		data.PadUnable:    token.ErrNotSupported,
	}[a.Result]
	if kind == nil {
		return nil
	}
	return pinError(kind, name, a)
}
