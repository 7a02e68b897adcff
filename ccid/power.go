package ccid

import (
	"context"
	"errors"
	"time"

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
		if _, err := s.retry(ctx, PowerOff{}, s.reader.plan.Timeout); err != nil && !absent(err) {
			return nil, err
		}
	}
	var err error
	for _, v := range s.reader.plan.Voltages {
		var a Answer
		if a, err = s.powerOn(ctx, v); err == nil {
			return s.poweredUp(a.Data)
		}
		var failed *Error
		if absent(err) || !errors.As(err, &failed) {
			break
		}
	}
	switch {
	case absent(err):
		s.missing()
		return nil, err
	case IsGone(err):
		return nil, err
	case s.reader.plan.AlwaysThere:
		return nil, &fault{code: ifdNotPresent, text: "no card"}
	}
	return nil, &fault{code: ifdPowerAction, text: "switching the card on", cause: err}
}

// powerOn tries one voltage. A reader in EMV mode is brought out of it, once.
func (s *Slot) powerOn(ctx context.Context, v Voltage) (Answer, error) {
	a, err := s.retry(ctx, PowerOn{v}, powerTimeout)
	var failed *Error
	if !s.reader.plan.ISOMode || !errors.As(err, &failed) || failed.Code != codeEMVError {
		return a, err
	}
	if _, err := s.command(ctx, Escape{[]byte{0x1F, 0x01}}, s.reader.plan.Timeout); err != nil {
		return a, err
	}
	return s.retry(ctx, PowerOn{v}, powerTimeout)
}

// poweredUp takes the ATR in. One that cannot be understood is passed on all the same: what comes of it is seen when a
// protocol is asked for.
func (s *Slot) poweredUp(atr []byte) ([]byte, error) {
	if len(atr) < 2 {
		return nil, failure(ifdPowerAction, "the card's ATR has %d bytes", len(atr))
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
	s.hint(SlotChange{Changed: true})
}
