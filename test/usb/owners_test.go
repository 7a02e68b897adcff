package usb

import (
	"fmt"
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"

	"pam_pkcs11/ccid/plan"
	"pam_pkcs11/ccid/usb"
	"pam_pkcs11/internal/slowtest"
	"pam_pkcs11/pcsc"
	"pam_pkcs11/test/usb/usbfs"
)

// listenTo starts our stack with a log that can be read.
func listenTo(t *testing.T) (*pcsc.Context, *slowtest.Buffer) {
	t.Helper()
	said := &slowtest.Buffer{}
	return startDriver(t, usb.NewDriver(plan.Options{}, slog.New(slog.NewTextHandler(said, nil)))), said
}

// awaitWords waits until the log has said something.
func awaitWords(t *testing.T, said *slowtest.Buffer, words string) {
	t.Helper()
	eventually(t, "the log to say "+words, func() error {
		if text := said.String(); !strings.Contains(text, words) {
			return fmt.Errorf("it says\n%s", text)
		}
		return nil
	})
}

// TestInUseByAProgram: a reader that another program has is named with that program, and taken when it is free.
func TestInUseByAProgram(t *testing.T) {
	m := models()[0]
	b := newBench(t, m)
	other, c := startDebian(t)
	b.insert(c, m.slots[0])
	ours, said := listenTo(t)
	awaitWords(t, said, "(pcscd)")
	if names := simulated(ours); len(names) != 0 {
		t.Errorf("there are %q", names)
	}
	other.stop()
	readers(t, ours, 1)
}

// inUserSpace gives the bus in user space, whose parts can be made to behave as a machine seldom does.
func inUserSpace(t *testing.T) *usbfs.Bus {
	t.Helper()
	b, ok := theBus.(fuseBus)
	if !ok {
		t.Skip("the kernel's bus cannot be told to do this")
	}
	return b.Bus
}

// TestInUseByTheKernel: the same with a driver of the kernel.
func TestInUseByTheKernel(t *testing.T) {
	inUserSpace(t)
	b := newBench(t, models()[0])
	p := b.port.(*usbfs.Port)
	if err := p.Hold(0, "pn533_usb"); err != nil {
		t.Fatal(err)
	}
	c, said := listenTo(t)
	awaitWords(t, said, "the kernel's driver pn533_usb")
	if err := p.Hold(0, ""); err != nil {
		t.Fatal(err)
	}
	readers(t, c, 1)
}

// TestDeniedAtFirst: udev gives a node to its group a moment after the device has come.
func TestDeniedAtFirst(t *testing.T) {
	bus := inUserSpace(t)
	c := startOurs(t)
	bus.DenyNew(true)
	defer bus.DenyNew(false)
	b := newBench(t, models()[0])
	time.AfterFunc(300*time.Millisecond, func() { b.port.(*usbfs.Port).Deny(false) })
	readers(t, c, 1)
}

// TestWithoutUdevd: in a container nobody but the kernel tells of devices.
func TestWithoutUdevd(t *testing.T) {
	inUserSpace(t)
	if err := os.Remove(usbfs.UdevControl); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := os.WriteFile(usbfs.UdevControl, nil, 0o644); err != nil {
			t.Error(err)
		}
	}()
	c := startOurs(t)
	for i, m := range models()[:3] {
		b := newBench(t, m)
		readers(t, c, i+1)
		b.card(m.slots[0])
	}
	for _, name := range simulated(c) {
		if err := transmit(connect(t, c, name), commands(models()[1])[1]); err != nil {
			t.Error(err)
		}
	}
}

// connect waits for the card in a reader and connects to it.
func connect(t *testing.T, c *pcsc.Context, name string) *pcsc.Card {
	t.Helper()
	var card *pcsc.Card
	eventually(t, "the card in "+name, func() (err error) {
		card, err = c.Connect(name, pcsc.ShareShared, pcsc.ProtocolAny)
		return err
	})
	return card
}

// TestManyReaders: 64 readers at once, each with a card.
func TestManyReaders(t *testing.T) {
	inUserSpace(t)
	const count = 64
	c := startOurs(t)
	m := models()[2]
	for range count {
		newBench(t, m).card(m.slots[0])
	}
	for _, name := range readers(t, c, count) {
		if err := transmit(connect(t, c, name), commands(m)[1]); err != nil {
			t.Error(name, err)
		}
	}
}
