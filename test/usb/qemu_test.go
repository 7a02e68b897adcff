package usb

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"pam_pkcs11/pcsc"
)

// qemuReader finds QEMU's own reader, whose card is a CAC that libcacard plays.
func qemuReader(t *testing.T, c *pcsc.Context) string {
	t.Helper()
	var name string
	eventually(t, "the card in QEMU's reader", func() error {
		names, err := c.ListReaders()
		i := slices.IndexFunc(names, isQEMUs)
		if i < 0 {
			return fmt.Errorf("there are %q (%v)", names, err)
		}
		name = names[i]
		states := []pcsc.ReaderState{{Reader: name}}
		if err := c.GetStatusChange(states, 0); err != nil {
			return err
		}
		if len(states[0].ATR) == 0 {
			return errors.New("it has no ATR")
		}
		return nil
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

// TestQEMUsReader compares, at a reader that is not ours, both drivers' answers and what they said for them.
func TestQEMUsReader(t *testing.T) {
	if !inMachine() {
		t.Skip("QEMU's reader is in the virtual machine only: make test-usb")
	}
	said := &capture{path: os.Getenv("PAM_PKCS11_TEST_USB_CAPTURE")}
	answers, dialogues := make(map[string][][]byte), make(map[string][]string)
	for _, s := range stacks() {
		if _, err := said.take(); err != nil {
			t.Fatal(err)
		}
		t.Run(s.name, func(t *testing.T) {
			answers[s.name] = playQEMU(t, s.start(t))
			var err error
			if dialogues[s.name], err = said.take(); err != nil {
				t.Error(err)
			}
		})
	}
	if diff := cmp.Diff(answers["Debian"], answers["ours"]); diff != "" {
		t.Errorf("answers of the card (-libccid +ours):\n%s", diff)
	}
	if diff := unexplained("QEMU", dialogues["Debian"], dialogues["ours"]); diff != "" {
		t.Errorf("(-libccid +ours):\n%s", diff)
	}
}

// playQEMU goes through what an application does with QEMU's card and gives its answers.
func playQEMU(t *testing.T, c *pcsc.Context) [][]byte {
	t.Helper()
	card, err := c.Connect(qemuReader(t, c), pcsc.ShareShared, pcsc.ProtocolAny)
	if err != nil {
		t.Fatal(err)
	}
	status, err := card.Status()
	if want := []byte{0x3B, 0x7A, 0x18, 0, 0, 0x73, 0x66, 0x74, 0x65, 0x20, 0x63, 0x64, 0x31, 0x34, 0x34}; err != nil || !bytes.Equal(status.ATR, want) {
		t.Errorf("status: %+v, %v", status, err)
	}
	var answers [][]byte
	for _, command := range qemuCommands() {
		answer, err := card.Transmit(command)
		if err != nil || len(answer) < 2 {
			t.Errorf("% X: % X, %v", command, answer, err)
		}
		answers = append(answers, answer)
	}
	if err := card.Disconnect(pcsc.UnpowerCard); err != nil {
		t.Error(err)
	}
	return answers
}

// TestQEMUsReaderManyCommands is the long run with that reader.
func TestQEMUsReaderManyCommands(t *testing.T) {
	if !inMachine() {
		t.Skip("QEMU's reader is in the virtual machine only: make test-usb")
	}
	c := startOurs(t)
	card, err := c.Connect(qemuReader(t, c), pcsc.ShareShared, pcsc.ProtocolAny)
	if err != nil {
		t.Fatal(err)
	}
	commands := qemuCommands()
	first := make([][]byte, len(commands))
	for n := range many() {
		i := n % len(commands)
		answer, err := card.Transmit(commands[i])
		if err != nil {
			t.Fatalf("command %d: % X: %v", n, commands[i], err)
		}
		if first[i] == nil {
			first[i] = answer
		}
		if !bytes.Equal(answer, first[i]) {
			t.Fatalf("command %d: % X: % X, and before % X", n, commands[i], answer, first[i])
		}
	}
}
