package usb

import (
	"bytes"
	"os"
	"strings"
	"testing"

	"pam_pkcs11/pcsc"
)

// qemuReader finds QEMU's own reader, whose card is a CAC that libcacard plays.
func qemuReader(t *testing.T, c *pcsc.Context) string {
	t.Helper()
	var name string
	eventually(t, "QEMU's reader", func() error {
		names, err := c.ListReaders()
		for _, n := range names {
			if strings.Contains(n, "QEMU") || strings.Contains(n, "433-Swap") {
				name = n
				return nil
			}
		}
		return err
	})
	return name
}

// qemuCommands are what a CAC understands, of cases 1, 2 and 3: SELECT of the card manager, of the applet of the first
// certificate and of nothing, and GET RESPONSE.
func qemuCommands() [][]byte {
	return [][]byte{
		{0x00, 0xA4, 0x04, 0x00, 0x07, 0xA0, 0x00, 0x00, 0x00, 0x79, 0x01, 0x00},
		{0x00, 0xC0, 0x00, 0x00, 0x0D},
		{0x00, 0xA4, 0x04, 0x00, 0x05, 0x01, 0x02, 0x03, 0x04, 0x05},
		{0x80, 0x36, 0x00, 0x00, 0x02, 0x02, 0x64},
	}
}

func TestQEMUsReader(t *testing.T) {
	if !inMachine() {
		t.Skip("QEMU's reader is in the virtual machine only: make test-usb")
	}
	said := &capture{path: os.Getenv("PAM_PKCS11_TEST_USB_CAPTURE")}
	for _, s := range stacks() {
		t.Run(s.name, func(t *testing.T) {
			c := s.start(t)
			card, err := c.Connect(qemuReader(t, c), pcsc.ShareShared, pcsc.ProtocolAny)
			if err != nil {
				t.Fatal(err)
			}
			status, err := card.Status()
			if want := []byte{0x3B, 0x7A, 0x18, 0, 0, 0x73, 0x66, 0x74, 0x65, 0x20, 0x63, 0x64, 0x31, 0x34, 0x34}; err != nil || !bytes.Equal(status.Atr, want) {
				t.Errorf("status: %+v, %v", status, err)
			}
			for _, command := range qemuCommands() {
				answer, err := card.Transmit(command)
				if err != nil || len(answer) < 2 {
					t.Errorf("% X: % X, %v", command, answer, err)
				}
				t.Logf("% X: % X", command, answer)
			}
			if err := card.Disconnect(pcsc.UnpowerCard); err != nil {
				t.Error(err)
			}
			lines, err := said.take()
			if err != nil {
				t.Error(err)
			}
			t.Log(strings.Join(lines, "\n"))
		})
	}
}
