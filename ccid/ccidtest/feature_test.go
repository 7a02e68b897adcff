package ccidtest

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"strings"
	"testing"

	"pam_pkcs11/internal/simcard"
)

// The structures are those of a host that wants 6 to 8 digits, filled up with FF (PC/SC part 10).
const (
	pinVerify = "00 00 82 08 00 0806 02 FF 0000 00 000000 0D000000" + "00200080 08 FFFFFFFFFFFFFFFF"
	pinModify = "00 00 82 08 00 00 08 0806 03 02 03 0000 000102 000000 15000000" +
		"00240080 10 FFFFFFFFFFFFFFFF FFFFFFFFFFFFFFFF"
)

// TestPadFeatures: the card gets what is typed, and the reader answers for itself when nothing is.
func TestPadFeatures(t *testing.T) {
	card, err := simcard.New(simcard.Options{})
	if err != nil {
		t.Fatal(err)
	}
	structure := func(text string) []byte {
		b, err := hex.DecodeString(strings.ReplaceAll(text, " ", ""))
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	card.Transmit(structure("00A40400 05 A000000308 00"))
	for _, tt := range []struct {
		pad    Pad
		modify bool
		want   string
		tries  int
	}{
		{Pad{Old: "123456"}, false, "9000", 3},
		{Pad{Old: "654321"}, false, "63C2", 2},
		{Pad{Old: "12345"}, false, "6403", 2},
		{Pad{Cancel: true}, false, "6401", 2},
		{Pad{Idle: true}, false, "6400", 2},
		{Pad{Old: "123456", New: "87654321", Again: "87654322"}, true, "6402", 2},
		{Pad{Old: "123456", New: "87654321", Again: "87654321"}, true, "9000", 3},
		{Pad{Old: "87654321"}, false, "9000", 3},
	} {
		operate, block := tt.pad.Verify, pinVerify
		if tt.modify {
			operate, block = tt.pad.Modify, pinModify
		}
		answer, err := operate(structure(block), card.Transmit)
		tries, _ := card.Tries()
		if err != nil || fmt.Sprintf("%X", answer) != tt.want || tries != tt.tries {
			t.Errorf("%+v: %X %v, %d tries", tt.pad, answer, err, tries)
		}
	}
	for _, operate := range []func([]byte, func([]byte) ([]byte, error)) ([]byte, error){Pad{}.Verify, Pad{}.Modify} {
		if answer, _ := operate(nil, card.Transmit); !bytes.Equal(answer, swPINBlock) {
			t.Errorf("%X", answer)
		}
	}
}
