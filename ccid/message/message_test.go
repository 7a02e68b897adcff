package message_test

import (
	"bytes"
	"testing"

	"pam_pkcs11/ccid/message"
)

// FuzzMessages: what decodes encodes to the same bytes.
func FuzzMessages(f *testing.F) {
	for _, c := range []message.Command{message.PowerOn{Voltage: 1}, message.PowerOff{}, message.GetSlotStatus{}, message.XfrBlock{BWI: 1, Level: 0x10, Data: []byte{1, 2}},
		message.GetParameters{}, message.ResetParameters{}, message.SetParameters{Protocol: 1, Data: make([]byte, 7)}, message.Escape{Data: []byte{2}}, message.IccClock{Stop: true},
		message.T0APDU{Changes: 3}, message.Secure{Data: []byte{0}}, message.Mechanical{Function: 2}, message.Abort{}, message.SetRateAndClock{Clock: 4000, Rate: 9600}} {
		f.Add(message.AppendCommand(nil, c, 1, 2))
	}
	for _, kind := range []message.Type{message.TypeDataBlock, message.TypeSlotStatus, message.TypeParameters, message.TypeEscapeAnswer, message.TypeRateAndClock} {
		a := message.Answer{Type: kind, Slot: 1, Sequence: 2, Status: 0x41, Error: 0xFE, Special: 1, Data: []byte{1, 2, 3}}
		f.Add(a.Append(nil))
	}
	f.Add([]byte{0x50, 0x0D, 0x01})
	f.Add([]byte{0x51, 0, 1, 1})
	f.Fuzz(func(t *testing.T, raw []byte) {
		if c, slot, sequence, err := message.ParseCommand(raw); err == nil && !bytes.Equal(message.AppendCommand(nil, c, slot, sequence), raw) {
			t.Errorf("%#v is not % X", c, raw)
		}
		if a, err := message.ParseAnswer(raw); err == nil && !bytes.Equal(a.Append(nil), raw) {
			t.Errorf("%#v is not % X", a, raw)
		}
		if n, err := message.ParseNotification(raw); err == nil && !bytes.Equal(n.Append(nil), raw) {
			t.Errorf("%#v is not % X", n, raw)
		}
	})
}
