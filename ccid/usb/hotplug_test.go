//go:build linux

package usb_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"pam_pkcs11/ccid"
	"pam_pkcs11/ccid/internal/readertest"
	"pam_pkcs11/ccid/plan"
	"pam_pkcs11/ccid/usb"
)

// TestTheRealDriver: with the machine's own netlink, clock and USB the driver settles, and ends when it is told to.
func TestTheRealDriver(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	settled, ended := make(chan struct{}), make(chan error, 1)
	d := usb.NewDriver(plan.Options{}, readertest.Log(t))
	go func() {
		ended <- d.Run(ctx, func(string, string, string, string, []*ccid.Slot) {}, func(string) {}, func() { close(settled) })
	}()
	for _, step := range []func(){d.Rescan, stop} {
		select {
		case <-settled:
		case <-time.After(time.Minute):
			t.Fatal("not settled")
		}
		step()
	}
	select {
	case err := <-ended:
		if !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	case <-time.After(time.Minute):
		t.Fatal("no end")
	}
}
