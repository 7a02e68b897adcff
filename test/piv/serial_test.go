package piv

import (
	"strings"
	"testing"

	"pam_pkcs11/ccid/ccidtest"
	"pam_pkcs11/internal/simcard"
	"pam_pkcs11/internal/testca"
)

// gemPCTwin makes a simulated GemPC Twin with a card in it, at a pseudo-terminal of that name.
func gemPCTwin(t *testing.T, card ccidtest.Card) (device *ccidtest.Device, line string) {
	t.Helper()
	terminal, err := ccidtest.NewTerminal()
	if err != nil {
		t.Fatal(err)
	}
	device = ccidtest.SerialReader(1, 0x10230, "GemTwin-V2.00-GM02")
	device.Insert(0, 0, card)
	wait := terminal.Serve(&ccidtest.SerialLine{Device: device, Echo: true})
	t.Cleanup(func() {
		terminal.Close()
		wait()
	})
	return device, terminal.Name
}

// TestTheCardBehindASerialReader is the whole way of an APDU but the cable: OpenSC, libpcsclite, our pcscd, our driver with its
// T=0 or T=1 engine, a pseudo-terminal, and a simulated reader that holds the card.
func TestTheCardBehindASerialReader(t *testing.T) {
	key := testca.RSA(2048, "alice")
	leaf := testca.NewRoot("Example CA").Leaf("alice", testca.WithKey(key))
	for name, atr := range map[string][]byte{"T=0": simcard.ATRT0, "T=1": simcard.ATRT1, "either": simcard.ATRBoth} {
		t.Run(name, func(t *testing.T) {
			card, err := simcard.New(simcard.Options{ATR: atr})
			if err != nil {
				t.Fatal(err)
			}
			if err := card.SetKey(simcard.KeyAuthentication, key.Private, leaf.DER); err != nil {
				t.Fatal(err)
			}
			device, line := gemPCTwin(t, card)
			w := newWorld(t, daemon, "serial:"+line+":GemPCTwin")
			w.says("Gemalto GemPC Twin (serial) 00 00", "opensc-tool", "--list-readers")
			w.says("Personal Identity Verification Card", "opensc-tool", "--name")
			if out := w.run("pkcs11-tool", "--login", "--pin", "123456", "--test"); !strings.Contains(out, "No errors") {
				t.Error(out)
			}
			w.signs("01", "SHA256-RSA-PKCS")
			if n := device.Counts().Violations; n != 0 {
				t.Errorf("%d messages that the reader must not get", n)
			}
			if pin, _ := card.Tries(); pin != 3 {
				t.Errorf("%d tries of the PIN left", pin)
			}
		})
	}
}
