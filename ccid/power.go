package ccid

import (
	"context"
	"errors"
	"time"

	"pam_pkcs11/ccid/device"
	"pam_pkcs11/ccid/internal/ifd"
	"pam_pkcs11/ccid/message"
	"pam_pkcs11/internal/iso7816"
)

// powerTimeout bounds a PowerOn: the slowest ATR allowed takes 29 s at 4 MHz.
const powerTimeout = 60 * time.Second

// codeEMVError is what readers of Gemalto answer when a card does not suit their EMV mode.
const codeEMVError = 0xBB

// PowerUp switches the card on and returns its ATR, 2 to 33 bytes.
func (s *Slot) PowerUp(ctx context.Context) ([]byte, error) {
	ctx, end, err := s.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer end()
	return s.powerUp(ctx)
}

// Reset is PowerUp: a reader that is told to power on a card that has power resets it.
func (s *Slot) Reset(ctx context.Context) ([]byte, error) { return s.PowerUp(ctx) }

// powerUp tries the voltages in the order of the plan.
func (s *Slot) powerUp(ctx context.Context) ([]byte, error) {
	s.forget()
	s.lost.Store(false)
	if s.reader.plan.OffBeforeOn {
		if _, err := s.retry(ctx, message.PowerOff{}, s.reader.plan.Timeout); err != nil && !ifd.Absent(err) {
			return nil, err
		}
	}
	var err error
	for _, v := range s.reader.plan.Voltages {
		var a message.Answer
		if a, err = s.powerOn(ctx, v); err == nil {
			return s.poweredUp(a.Data)
		}
		var failed *message.Error
		if ifd.Absent(err) || !errors.As(err, &failed) {
			break
		}
	}
	switch {
	case ifd.Absent(err):
		s.missing()
		return nil, err
	case device.IsGone(err):
		return nil, err
	case s.reader.plan.AlwaysThere:
		return nil, &ifd.Fault{Code: ifd.NotPresent, Text: "no card"}
	}
	return nil, &ifd.Fault{Code: ifd.PowerAction, Text: "switching the card on", Cause: err}
}

// powerOn tries one voltage. A reader in EMV mode is brought out of it, once.
func (s *Slot) powerOn(ctx context.Context, v message.Voltage) (message.Answer, error) {
	a, err := s.retry(ctx, message.PowerOn{Voltage: v}, powerTimeout)
	var failed *message.Error
	if !s.reader.plan.ISOMode || !errors.As(err, &failed) || failed.Code != codeEMVError {
		return a, err
	}
	if _, err := s.command(ctx, message.Escape{Data: []byte{0x1F, 0x01}}, s.reader.plan.Timeout); err != nil {
		return a, err
	}
	return s.retry(ctx, message.PowerOn{Voltage: v}, powerTimeout)
}

// poweredUp takes the ATR in. One that cannot be understood is passed on all the same: what comes of it is seen when a
// protocol is asked for.
func (s *Slot) poweredUp(atr []byte) ([]byte, error) {
	if len(atr) < 2 {
		return nil, ifd.Errorf(ifd.PowerAction, "the card's ATR has %d bytes", len(atr))
	}
	if len(atr) > iso7816.MaxATR {
		s.reader.log.Info("the ATR is longer than 33 bytes, the rest is dropped", "bytes", len(atr))
		atr = atr[:iso7816.MaxATR]
	}
	s.powered, s.atr = true, append([]byte(nil), atr...)
	if card, err := iso7816.ParseATR(s.atr); err == nil {
		s.card = card
	} else {
		s.reader.log.Info("the ATR cannot be read", "err", err)
	}
	return append([]byte(nil), s.atr...), nil
}

// missing is told that a command found no card. Its caller takes the card for gone, so one that is there all the same
// has to be told anew.
func (s *Slot) missing() {
	s.forget()
	s.lost.Store(true)
	s.hint(message.SlotChange{Changed: true})
}
