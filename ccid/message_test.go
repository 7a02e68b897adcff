package ccid_test

import (
	"bytes"
	"pam_pkcs11/ccid"
	"testing"
)

// FuzzMessages: what decodes encodes to the same bytes.
func FuzzMessages(f *testing.F) {
	for _, c := range []ccid.Command{ccid.PowerOn{Voltage: 1}, ccid.PowerOff{}, ccid.GetSlotStatus{}, ccid.XfrBlock{BWI: 1, Level: 0x10, Data: []byte{1, 2}},
		ccid.GetParameters{}, ccid.ResetParameters{}, ccid.SetParameters{Protocol: 1, Data: make([]byte, 7)}, ccid.Escape{Data: []byte{2}}, ccid.IccClock{Stop: true},
		ccid.T0APDU{Changes: 3}, ccid.Secure{Data: []byte{0}}, ccid.Mechanical{Function: 2}, ccid.Abort{}, ccid.SetRateAndClock{Clock: 4000, Rate: 9600}} {
		f.Add(ccid.AppendCommand(nil, c, 1, 2))
	}
	for _, kind := range []ccid.MessageType{ccid.TypeDataBlock, ccid.TypeSlotStatus, ccid.TypeParameters, ccid.TypeEscapeAnswer, ccid.TypeRateAndClock} {
		a := ccid.Answer{Type: kind, Slot: 1, Sequence: 2, Status: 0x41, Error: 0xFE, Special: 1, Data: []byte{1, 2, 3}}
		f.Add(a.Append(nil))
	}
	f.Add([]byte{0x50, 0x0D, 0x01})
	f.Add([]byte{0x51, 0, 1, 1})
	f.Fuzz(func(t *testing.T, raw []byte) {
		if c, slot, sequence, err := ccid.ParseCommand(raw); err == nil && !bytes.Equal(ccid.AppendCommand(nil, c, slot, sequence), raw) {
			t.Errorf("%#v is not % X", c, raw)
		}
		if a, err := ccid.ParseAnswer(raw); err == nil && !bytes.Equal(a.Append(nil), raw) {
			t.Errorf("%#v is not % X", a, raw)
		}
		if n, err := ccid.ParseNotification(raw); err == nil && !bytes.Equal(n.Append(nil), raw) {
			t.Errorf("%#v is not % X", n, raw)
		}
	})
}
