package usb

import (
	"bytes"
	"fmt"

	"pam_pkcs11/ccid"
	"pam_pkcs11/ccid/ccidtest"
	"pam_pkcs11/pcsc"
)

// Control codes of PC/SC part 10.
const (
	controlFeatures   = 0x42000D48
	controlVerify     = 0x42330006
	controlModify     = 0x42330007
	controlProperties = 0x4233000A
)

// keys goes through what an application does with a PIN pad, and gives what it is told.
func (b *bench) keys(card *pcsc.Card, p place) []string {
	b.t.Helper()
	if b.profile.Interfaces[0].CCID.PINSupport == 0 {
		return nil
	}
	verify := ccid.PINVerify{
		TimeOut: 30, FormatString: 0x82, PINBlockString: 0x08, MaxExtraDigit: 0x0408, Condition: 2, NumberMessage: 1, LangID: 0x0409,
		Data: append([]byte{0x80, 0x20, 0, 0x80, 8}, bytes.Repeat([]byte{0xFF}, 8)...),
	}
	modify := ccid.PINModify{
		TimeOut: 30, FormatString: 0x82, PINBlockString: 0x08, InsertionOffsetNew: 8, MaxExtraDigit: 0x0408, ConfirmPIN: 3, Condition: 2,
		NumberMessage: 3, LangID: 0x0409, MsgIndex: [3]byte{0, 1, 2},
		Data: append([]byte{0x80, 0x20, 0, 0x80, 16}, bytes.Repeat([]byte{0xFF}, 16)...),
	}
	var told []string
	for _, step := range []struct {
		what string
		code uint32
		in   []byte
		pad  ccidtest.Pad
	}{
		{"features", controlFeatures, nil, ccidtest.Pad{}},
		{"properties", controlProperties, nil, ccidtest.Pad{}},
		{"verify", controlVerify, verify.Append(nil), ccidtest.Pad{Old: "123456"}},
		{"verify, cancelled", controlVerify, verify.Append(nil), ccidtest.Pad{Cancel: true}},
		{"verify, no key pressed", controlVerify, verify.Append(nil), ccidtest.Pad{Idle: true}},
		{"verify, too short", controlVerify, verify.Append(nil), ccidtest.Pad{Old: "12"}},
		{"change", controlModify, modify.Append(nil), ccidtest.Pad{Old: "123456", New: "654321", Again: "654321"}},
		{"change, not the same twice", controlModify, modify.Append(nil), ccidtest.Pad{Old: "123456", New: "654321", Again: "654322"}},
		{"verify, cut", controlVerify, verify.Append(nil)[:20], ccidtest.Pad{Old: "123456"}},
	} {
		b.reader.Habits(p.number, p.slot, func(h *ccidtest.Habits) { h.Pad = step.pad })
		answer, err := card.Control(step.code, step.in)
		told = append(told, fmt.Sprintf("%s: % X, %v", step.what, answer, err))
		// libccid goes on as if the card had not been asked, we resynchronise T=1 first: after a reset both begin anew.
		if err := card.Reconnect(pcsc.ShareShared, pcsc.ProtocolAny, pcsc.ResetCard); err != nil {
			told = append(told, fmt.Sprintf("resetting after %s: %v", step.what, err))
		}
		if err := transmit(card, commands(b.model)[0]); err != nil {
			told = append(told, fmt.Sprintf("after %s: %v", step.what, err))
		}
	}
	return told
}
