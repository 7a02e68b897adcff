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

// Reset is PowerUp: a PowerOn resets a card that has power.
func (s *Slot) Reset(ctx context.Context) ([]byte, error) { return s.PowerUp(ctx) }

// powerUp tries the voltages in the order of the plan, until the card answers.
func (s *Slot) powerUp(ctx context.Context) ([]byte, error) {
	// Whatever comes of it, the card does not go on where it was.
	s.forget()
	s.lost.Store(false)

	if s.reader.plan.OffBeforeOn {
		_, err := s.retry(ctx, message.PowerOff{}, s.reader.plan.Timeout)
		if err != nil && !ifd.Absent(err) {
			return nil, err
		}
	}

	var err error
	for _, v := range s.reader.plan.Voltages {
		var a message.Answer
		if a, err = s.powerOn(ctx, v); err == nil {
			return s.poweredUp(a.Data)
		}

		// Only a command that failed asks for another voltage. Where the reader did not answer, or
		// there is no card, the next one would fail in the same way, after the same wait.
		var failed *message.Error
		if ifd.Absent(err) || !errors.As(err, &failed) {
			break
		}
	}

	switch {
	case ifd.Absent(err):
		s.noteAbsent()
		return nil, err
	case device.IsGone(err):
		return nil, err
	case s.reader.plan.AlwaysThere:
		// Such a reader calls an empty slot present, so that a failed PowerOn is how it shows.
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

	toISOMode := message.Escape{Data: []byte{0x1F, 0x01}}
	if _, err := s.command(ctx, toISOMode, s.reader.plan.Timeout); err != nil {
		return a, err
	}
	return s.retry(ctx, message.PowerOn{Voltage: v}, powerTimeout)
}

// poweredUp stores the ATR. One that cannot be parsed is passed on as well: applications show it,
// and SetProtocol fails.
func (s *Slot) poweredUp(atr []byte) ([]byte, error) {
	if len(atr) < 2 {
		return nil, ifd.Errorf(ifd.PowerAction, "the card's ATR has %d bytes", len(atr))
	}

	// PC/SC has room for 33 bytes (MAX_ATR_SIZE); no card is refused for bytes behind its ATR.
	if len(atr) > iso7816.MaxATR {
		s.reader.log.Info("the ATR is longer than 33 bytes, the rest is dropped", "bytes", len(atr))
		atr = atr[:iso7816.MaxATR]
	}

	s.powered = true
	s.atr = append([]byte(nil), atr...)
	if card, err := iso7816.ParseATR(s.atr); err == nil {
		s.card = card
	} else {
		s.reader.log.Info("the ATR cannot be read", "err", err)
	}

	// A copy: the caller may keep or change what it gets.
	return append([]byte(nil), s.atr...), nil
}

// noteAbsent records that a command found no card. The caller takes the card for gone, so that one
// which is there all the same has to be reported as new.
func (s *Slot) noteAbsent() {
	s.forget()
	s.lost.Store(true)
	s.notify(message.SlotChange{Changed: true})
}
