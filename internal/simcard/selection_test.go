package simcard

import (
	"bytes"
	"errors"
	"testing"

	"pam_pkcs11/internal/iso7816"
)

const (
	selectPIV     = "00A40400 09 A00000030800001000 00"
	selectForeign = "00A40400 08 F053494D43415244 00"
	selectAbsent  = "00A40400 07 A0000001510000 00"
	getCHUID      = "00CB3FFF 05 5C035FC102 00"
	signNothing   = "00871182 0A 7C08 8200 8104 01020304 00" // with the first retired key
)

// TestSelectionMoves: the selection is the card's, and a VERIFY goes to whatever applet is there.
func TestSelectionMoves(t *testing.T) {
	c := newCard(t, Options{Foreign: true})
	dialogue{
		{goodVerify, 0x9000},
		{selectForeign, 0x9000},
		{getCHUID, 0x6D00},
		{"00200080", 0x63C3},
		{goodVerify, 0x63C2}, // the other applet got the PIN of PIV, and counts it
		{badVerify, 0x63C1},
		{badVerify, 0x63C0},
		{badVerify, 0x6983},
		{selectAbsent, 0x6A82},
		{"00200080", 0x63C0},
		{selectPIV, 0x9000},
		{"00200080", 0x63C3}, // what PIV had granted is gone
		{goodVerify, 0x9000},
	}.run(t, c)
	n := c.Counters()
	if n.Verifies != 2 || n.Stray != 4 || n.ForeignVerifies != 4 || n.ForeignEmpty != 2 || n.Empty != 1 {
		t.Errorf("%+v", n)
	}
	if n.APDUs != 14 || n.ByINS[insSelect] != 4 || n.ByINS[insVerify] != 9 {
		t.Errorf("%+v", n)
	}
}

func TestSelectRules(t *testing.T) {
	tests := map[string]struct {
		rules SelectRules
		dialogue
	}{
		"PIV is the default": {SelectRules{AfterReset: PIV}, dialogue{{"reset", 0}, {getCHUID, 0x9000}}},
		"the other applet is the default": {SelectRules{AfterReset: Foreign}, dialogue{
			{"reset", 0}, {"00200080", 0x63C3}, {getCHUID, 0x6D00},
		}},
		"selecting again forgets": {SelectRules{ReselectLoses: true}, dialogue{
			{goodVerify, 0x9000}, {selectPIV, 0x9000}, {"00200080", 0x63C3}, {signNothing, 0x6982},
		}},
		"an absent applet deselects": {SelectRules{AbsentDeselects: true}, dialogue{
			{goodVerify, 0x9000}, {selectAbsent, 0x6A82}, {goodVerify, 0x6D00}, {selectPIV, 0x9000}, {"00200080", 0x63C3},
		}},
		"a warning with data": {SelectRules{Word: 0x6285}, dialogue{{selectPIV, 0x6285}, {goodVerify, 0x9000}}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			c := newCard(t, Options{})
			c.o.Select, c.o.Foreign = tt.rules, true
			tt.run(t, c)
		})
	}
}

func TestFormsOfTheTemplate(t *testing.T) {
	for form, want := range map[APT]string{
		APTBare:      "6111 4F06 000010000100 7907 4F05 A000000308",
		APTWholeAID:  "6144 4F0B A000000308000010000100",
		APTOrder:     "613F 4F06 001000010000",
		APTLengths:   "614A 4F06 000010000100",
		APTAlgorithm: "6142 4F06 000010000100",
	} {
		c := newCard(t, Options{Select: SelectRules{Template: form}})
		data, _ := send(t, c, selectPIV)
		if !bytes.HasPrefix(data, unhex(want)) {
			t.Errorf("%d: %X", form, data)
		}
		_, body, rest, ok := iso7816.ReadTLV(data)
		for ok && len(body) > 0 {
			_, _, body, ok = iso7816.ReadTLV(body)
		}
		if !ok || len(rest) > 0 {
			t.Errorf("%d: not a template: %X", form, data)
		}
	}
}

// TestHooks: a card is pulled out before a command, which it then does not execute, and after it,
// which costs the try but tells nobody.
func TestHooks(t *testing.T) {
	c := newCard(t, Options{})
	gone := errors.New("gone")
	var seen []byte
	c.Watch(func(n int, header [4]byte) error {
		seen = append(seen, byte(n), header[1])
		if n == 2 {
			return gone
		}
		if n == 3 {
			c.Reset()
		}
		return nil
	}, nil)
	for n, want := range []error{gone, ErrPower} {
		if _, err := c.Transmit(unhex(badVerify)); err != want {
			t.Errorf("%d: %v", n, err)
		}
	}
	if pin, _ := c.Tries(); pin != 3 || c.Verifies() != 0 {
		t.Error("a command that never came was executed")
	}
	c.Watch(nil, func(int, [4]byte) error { return gone })
	if _, err := c.Transmit(unhex(selectPIV)); err != gone {
		t.Error(err)
	}
	if _, err := c.Transmit(unhex(badVerify)); err != gone {
		t.Error(err)
	}
	if pin, _ := c.Tries(); pin != 2 || c.Verifies() != 1 {
		t.Error("a command whose answer was lost was not executed")
	}
	if !bytes.Equal(seen, []byte{2, insVerify, 3, insVerify}) {
		t.Errorf("% X", seen)
	}
}
