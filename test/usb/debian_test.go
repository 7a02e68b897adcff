package usb

import (
	"bytes"
	"errors"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"pam_pkcs11/ccid/ccidtest"
	"pam_pkcs11/ccid/device"
	"pam_pkcs11/internal/slowtest"
)

// shortReader is a reader that libccid knows by its numbers, of the simplest kind: it takes short APDUs.
func shortReader() *ccidtest.Device {
	return ccidtest.New(ccidtest.Profile{
		Info: device.Info{Vendor: 0x076B, Product: 0x3821, Release: 0x0200, Manufacturer: "OMNIKEY", Name: "Smart Card Reader USB"},
		Interfaces: []ccidtest.Interface{{
			Interrupt: true,
			CCID: device.ClassDescriptor{
				Release: 0x0110, VoltageSupport: 7, Protocols: 3, DefaultClock: 4000, MaximumClock: 8000,
				DataRate: 10753, MaxDataRate: 412903, MaxIFSD: 254, Features: 0x000204B2 | 0x40, MaxMessageLength: 271, MaxBusySlots: 1,
			},
		}},
	})
}

func TestLibusbSeesTheDevice(t *testing.T) {
	plug(t, shortReader())
	out, err := exec.Command("lsusb", "-v", "-d", "076b:3821").CombinedOutput()
	if err != nil {
		t.Fatalf("lsusb (Debian package usbutils): %v: %s", err, out)
	}
	said := strings.Join(strings.Fields(string(out)), " ")
	for _, want := range []string{"iProduct 2 Smart Card Reader USB", "dwMaxCCIDMsgLen 271", "bInterfaceClass 11"} {
		if !strings.Contains(said, want) {
			t.Errorf("lsusb does not say %q:\n%s", want, out)
		}
	}
}

func TestDebiansDriver(t *testing.T) {
	r := shortReader()
	r.Insert(0, 0, &ccidtest.EchoCard{})
	_, c := startDebian(t)
	// pcscd answers before it listens for devices: one that comes meanwhile is not seen.
	var p port
	eventually(t, "pcscd to see a reader come", func() error {
		p = plug(t, r)
		if slowtest.Poll(3*time.Second, 10*time.Millisecond, func() bool {
			names, err := c.ListReaders()
			return err == nil && slices.ContainsFunc(names, isOmnikey)
		}) {
			return nil
		}
		return errors.Join(errors.New("it did not"), p.Unplug())
	})
	card := connect(t, c, readerNamed(t, c, "OMNIKEY"))
	command := []byte{0, 0xA4, 4, 0, 2, 0x3F, 0}
	for range 100 {
		answer, err := card.Transmit(command)
		if err != nil || !bytes.Equal(answer, append(command, 0x90, 0)) {
			t.Fatalf("%x, %v", answer, err)
		}
	}
	if err := p.Unplug(); err != nil {
		t.Error(err)
	}
	noReader(t, c, "OMNIKEY")
	plug(t, r)
	readerNamed(t, c, "OMNIKEY")
}

func isOmnikey(name string) bool { return strings.HasPrefix(name, "OMNIKEY") }

// plug plugs a reader in until the test ends.
func plug(t *testing.T, r *ccidtest.Device) port {
	t.Helper()
	d, err := NewDevice(r)
	if err != nil {
		t.Fatal(err)
	}
	p, err := theBus.Plug(d)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Unplug(); err != nil {
			t.Error(err)
		}
	})
	return p
}
