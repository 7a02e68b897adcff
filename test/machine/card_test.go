//go:build machine

package machine

import (
	"strings"
	"testing"

	"pam_pkcs11/pcsc"
)

// TestQEMUsCardHasNoPIV is why the card of the logins is not QEMU's: it knows no SELECT of PIV, in
// no form, and its applets none of PIV's commands. It comes before TestLogins, which takes Debian's
// pcscd away.
func TestQEMUsCardHasNoPIV(t *testing.T) {
	defer startDaemon(t)()
	c, err := pcsc.NewContext(pcsc.NewClient(pcsc.DefaultSocket))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Release()
	names, err := c.ListReaders()
	if err != nil {
		t.Fatal(err)
	}
	var card *pcsc.Card
	for _, name := range names {
		// It has the numbers of a reader of Gemalto's, whose name libccid knows.
		if strings.Contains(name, "QEMU") || strings.Contains(name, "433-Swap") {
			if card, err = c.Connect(name, pcsc.ShareShared, pcsc.ProtocolAny); err != nil {
				t.Fatal(err)
			}
		}
	}
	if card == nil {
		t.Fatalf("QEMU's reader is not among %q", names)
	}
	defer card.Disconnect(pcsc.LeaveCard)

	piv := []byte{0xA0, 0x00, 0x00, 0x03, 0x08, 0x00, 0x00, 0x10, 0x00, 0x01, 0x00}
	for _, length := range []int{5, 9, 11} {
		command := append([]byte{0x00, 0xA4, 0x04, 0x00, byte(length)}, piv[:length]...)
		answer, err := card.Transmit(command)
		if err != nil || string(answer) != "\x6A\x82" {
			t.Errorf("SELECT of PIV, %d bytes: % X, %v", length, answer, err)
		}
	}
	for _, command := range [][]byte{
		{0x00, 0xA4, 0x04, 0x00, 0x07, 0xA0, 0x00, 0x00, 0x00, 0x79, 0x01, 0x00},
		{0x00, 0xCB, 0x3F, 0xFF, 0x05, 0x5C, 0x03, 0x5F, 0xC1, 0x05},
		{0x00, 0x87, 0x07, 0x9A, 0x04, 0x7C, 0x02, 0x82, 0x00},
	} {
		answer, err := card.Transmit(command)
		t.Logf("% X: % X, %v", command, answer, err)
		if command[1] != 0xA4 && (err != nil || string(answer) != "\x6D\x00") {
			t.Errorf("% X: % X, %v", command, answer, err)
		}
	}
}
