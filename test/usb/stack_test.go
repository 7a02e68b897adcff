package usb

import (
	"context"
	"errors"
	"testing"

	"pam_pkcs11/ccid/plan"
	"pam_pkcs11/ccid/usb"
	"pam_pkcs11/pcsc"
	"pam_pkcs11/pcsc/resmgr"
)

// stacks are those that the tests go through.
func stacks() []stack {
	return []stack{
		{"ours", startOurs},
		{"Debian", func(t *testing.T) *pcsc.Context { _, c := startDebian(t); return c }},
	}
}

// startOurs starts our resource manager with our driver in this process. It ends with the test.
func startOurs(t *testing.T) *pcsc.Context {
	t.Helper()
	return startDriver(t, usb.NewDriver(plan.Options{}, testLog(t)))
}

func startDriver(t *testing.T, d *usb.Driver) *pcsc.Context {
	t.Helper()
	m := resmgr.New(resmgr.Options{})
	ctx, cancel := context.WithCancel(context.Background())
	ended := resmgr.Plug(ctx, m, d)
	m.Ready()
	c, err := pcsc.NewContext(m)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Release(); err != nil {
			t.Error(err)
		}
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("the driver ended: %v", err)
		}
		m.Close()
	})
	return c
}

func TestApplications(t *testing.T) {
	for _, s := range stacks() {
		for _, m := range models() {
			t.Run(s.name+"/"+m.name, func(t *testing.T) {
				b := newBench(t, m)
				b.play(s.start(t), nil)
			})
		}
	}
}

func TestManyCommands(t *testing.T) {
	for _, m := range models() {
		t.Run(m.name, func(t *testing.T) {
			b := newBench(t, m)
			b.endure(startOurs(t))
		})
	}
}
