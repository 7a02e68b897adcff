package usb_test

import (
	"testing"

	"pam_pkcs11/ccid/usb"
)

// TestContained: a panic over one device's descriptors is said, and is nobody else's affair.
func TestContained(t *testing.T) {
	ok, said := usb.Contained("3-1", func() bool { panic("index out of range") })
	if ok || said != "WARN 3-1: reading its descriptors failed: index out of range" {
		t.Errorf("%v, %q", ok, said)
	}
	if ok, said := usb.Contained("3-1", func() bool { return true }); !ok || said != "" {
		t.Errorf("%v, %q", ok, said)
	}
}
