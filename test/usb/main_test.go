package usb

import (
	"fmt"
	"os"
	"testing"

	"pam_pkcs11/test/usb/usbfs"
)

// theBus is made once by TestMain: a process has one /dev/bus/usb.
var theBus bus

func TestMain(m *testing.M) {
	os.Exit(func() int {
		code, done, err := usbfs.Enter()
		if err != nil {
			fmt.Fprintln(os.Stderr, "test/usb:", err)
			return 1
		}
		if done {
			return code
		}
		b, err := usbfs.New()
		if err != nil {
			fmt.Fprintln(os.Stderr, "test/usb:", err)
			return 1
		}
		theBus = fuseBus{b}
		code = m.Run()
		if err := theBus.Close(); err != nil {
			fmt.Fprintln(os.Stderr, "test/usb:", err)
			return 1
		}
		return code
	}())
}
