package data_test

import (
	"bytes"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"pam_pkcs11/ccid"
	"pam_pkcs11/internal/iso7816"
	"pam_pkcs11/piv/internal/data"
)

func TestJudgePIN(t *testing.T) {
	for _, tt := range []struct {
		word    iso7816.Status
		result  data.PINResult
		left    int
		counted bool
		text    string
	}{
		{0x9000, data.PINGood, 0, false, "9000, the PIN is right"},
		{0x63C2, data.PINWrong, 2, true, "63C2, the PIN is wrong, 2 tries left"},
		{0x63C1, data.PINWrong, 1, true, "63C1, the PIN is wrong, 1 try left"},
		{0x63C0, data.PINWrong, 0, true, "63C0, the PIN is wrong, no try left"},
		{0x63CF, data.PINWrong, 15, true, "63CF, the PIN is wrong, 15 tries left"},
		{0x6302, data.PINWrong, 2, true, "6302, the PIN is wrong, 2 tries left"}, // YubiKey NEO
		{0x6300, data.PINWrong, 0, false, "6300, the PIN is wrong"},              // and Nitrokey 3
		{0x6310, data.PINWrong, 0, false, "6310, the PIN is wrong"},
		{0x6983, data.PINLocked, 0, false, "6983, the PIN is locked"},
		{0x6A80, data.PINFormat, 0, false, "6A80, no PIN of this card has this length or these characters"},
		{0x6700, data.PINFormat, 0, false, "6700, no PIN of this card has this length or these characters"},
		{0x6A86, data.PINNoReference, 0, false, "6A86, the card has no such PIN"},
		{0x6A88, data.PINNoReference, 0, false, "6A88, the card has no such PIN"},
		{0x6982, data.PINNotHere, 0, false, "6982, the card takes no PIN through this interface"},
		{0x6D00, data.PINNotPIV, 0, false, "6D00, the PIV application is not selected"},
		{0x6E00, data.PINNotPIV, 0, false, "6E00, the PIV application is not selected"},
		{0x6581, data.PINFault, 0, false, "6581, the card failed: memory failure"},
		{0x6F00, data.PINFault, 0, false, "6F00, the card failed: no precise diagnosis"},
		{0x6984, data.PINFault, 0, false, "6984, the card failed: reference data not usable"},
		{0x6401, data.PINFault, 0, false, "6401, the card failed: immediate response required by the card"},
		{0x6110, data.PINFault, 0, false, "6110, the card failed: success, 16 bytes wait"},
		{0x0000, data.PINFault, 0, false, "0000, the card failed: not a status word"},
	} {
		got := data.InterpretPIN(tt.word)
		want := data.PINAnswer{Word: tt.word, Result: tt.result, Left: tt.left, Counted: tt.counted}
		if diff := cmp.Diff(want, got); diff != "" || got.String() != tt.text {
			t.Errorf("%s %q", diff, got.String())
		}
	}
}

// TestOnlySuccessIsGood: of all status words, one.
func TestOnlySuccessIsGood(t *testing.T) {
	for word := range 0x10000 {
		sw := iso7816.Status(word)
		for _, judge := range []func(iso7816.Status) data.PINAnswer{data.InterpretPIN, data.InterpretPad} {
			a := judge(sw)
			if (a.Result == data.PINGood) != (sw == 0x9000) || a.String() == "" || a.Left > 15 || a.Counted && a.Result != data.PINWrong {
				t.Errorf("%04X: %+v", word, a)
			}
		}
	}
}

func TestJudgePad(t *testing.T) {
	for word, want := range map[iso7816.Status]data.PINResult{
		0x6400: data.PadTimeout, 0x6401: data.PadCancelled, 0x6402: data.PadMismatch, 0x6403: data.PINFormat, 0x6B80: data.PadUnable,
		0x9000: data.PINGood, 0x63C1: data.PINWrong, 0x6983: data.PINLocked, 0x6A80: data.PINFormat, 0x6F00: data.PINFault,
	} {
		if got := data.InterpretPad(word); got.Result != want {
			t.Errorf("%v: %v", word, got)
		}
	}
}

func TestFeatures(t *testing.T) {
	list := []byte{
		0x06, 4, 0x42, 0x33, 0x00, 0x06, 0x07, 4, 0x42, 0x33, 0x00, 0x07, 0x0A, 4, 0x42, 0x33, 0x00, 0x0A,
		0x12, 4, 0x42, 0x33, 0x00, 0x12, 0x13, 4, 0x42, 0x00, 0x00, 0x01,
	}
	want := data.Features{VerifyPIN: 0x42330006, ModifyPIN: 0x42330007, PINProperties: 0x4233000A, TLVProperties: 0x42330012}
	if got, err := data.ParseFeatures(list); err != nil || got != want {
		t.Errorf("%+v, %v", got, err)
	}
	if got, err := data.ParseFeatures(nil); err != nil || got != (data.Features{}) {
		t.Errorf("%+v, %v", got, err)
	}
	for _, bad := range [][]byte{list[:7], list[:5], {6}, {6, 2, 0, 0}, {6, 0}} {
		if got, err := data.ParseFeatures(bad); !errors.Is(err, data.ErrPad) || got != (data.Features{}) {
			t.Errorf("%X: %+v, %v", bad, got, err)
		}
	}
}

func TestProperties(t *testing.T) {
	list := []byte{0x01, 2, 0x10, 0x02, 0x06, 1, 4, 0x07, 1, 12, 0x08, 3, 'a', 'b', 'c', 0x0A, 4, 0, 0, 1, 0, 0x0B, 2, 0xE6, 0x08}
	want := data.Pad{Display: 0x0210, MinPIN: 4, MaxPIN: 12}
	if got, err := data.ParseTLVProperties(list); err != nil || got != want {
		t.Errorf("%+v, %v", got, err)
	}
	for _, bad := range [][]byte{{1}, {1, 2, 0}, {6, 2, 0, 1}, {7, 0}, {1, 3, 0, 0, 1}} {
		if got, err := data.ParseTLVProperties(bad); !errors.Is(err, data.ErrPad) || got != (data.Pad{}) {
			t.Errorf("%X: %+v, %v", bad, got, err)
		}
	}

	if got, err := data.ParsePINProperties([]byte{0x10, 0x02, 7, 0}); err != nil || got != (data.Pad{Display: 0x0210}) {
		t.Errorf("%+v, %v", got, err)
	}
	if _, err := data.ParsePINProperties([]byte{1}); !errors.Is(err, data.ErrPad) {
		t.Error(err)
	}
}

// TestPINStructures: the driver reads what is written here.
func TestPINStructures(t *testing.T) {
	eightTimes := func(n int) []byte { return bytes.Repeat([]byte{0xFF}, 8*n) }
	for _, tt := range []struct {
		name     string
		pad      data.Pad
		digits   uint16
		messages [2]byte
	}{
		{"no display", data.Pad{}, 0x0608, [2]byte{0, 0}},
		{"a display", data.Pad{Display: 0x0210}, 0x0608, [2]byte{0xFF, 3}},
		{"wide limits", data.Pad{MinPIN: 4, MaxPIN: 16}, 0x0608, [2]byte{0, 0}},
		{"narrow limits", data.Pad{MinPIN: 7, MaxPIN: 7}, 0x0707, [2]byte{0, 0}},
		{"no limits for us", data.Pad{MinPIN: 9, MaxPIN: 5}, 0x0608, [2]byte{0, 0}},
	} {
		verify, err := ccid.ParsePINVerify(data.VerifyPINBlock(data.ApplicationPIN, tt.pad))
		if err != nil {
			t.Fatal(tt.name, err)
		}
		wantVerify := &ccid.PINVerify{
			TimeOut: 30, TimeOut2: 30, FormatString: 0x82, PINBlockString: 8, MaxExtraDigit: tt.digits, Condition: 2,
			NumberMessage: tt.messages[0], Data: append([]byte{0x00, 0x20, 0x00, 0x80, 8}, eightTimes(1)...),
		}
		if diff := cmp.Diff(wantVerify, verify); diff != "" {
			t.Error(tt.name, diff)
		}

		modify, err := ccid.ParsePINModify(data.ModifyPINBlock(data.GlobalPIN, tt.pad))
		if err != nil {
			t.Fatal(tt.name, err)
		}
		wantModify := &ccid.PINModify{
			TimeOut: 30, TimeOut2: 30, FormatString: 0x82, PINBlockString: 8, InsertionOffsetNew: 8, MaxExtraDigit: tt.digits,
			ConfirmPIN: 3, Condition: 2, NumberMessage: tt.messages[1], MsgIndex: [3]byte{0, 1, 2},
			Data: append([]byte{0x00, 0x24, 0x00, 0x00, 16}, eightTimes(2)...),
		}
		if diff := cmp.Diff(wantModify, modify); diff != "" {
			t.Error(tt.name, diff)
		}
	}
}
