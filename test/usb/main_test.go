package usb

import (
	"fmt"
	"log/slog"
	"os"
	"testing"

	"pam_pkcs11/test/usb/usbfs"
	"pam_pkcs11/test/usb/usbip"
)

// theBus is made once by TestMain: a process has one /dev/bus/usb.
var theBus bus

// inMachine tells whether the tests run in the virtual machine of test/usb/vm, on the kernel's own USB stack.
func inMachine() bool { return os.Getenv("PAM_PKCS11_TEST_USB_VM") != "" }

func TestMain(m *testing.M) {
	code, err := run(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, "test/usb:", err)
		code = 1
	}
	os.Exit(code)
}

// run makes the bus, runs the tests and looks whether the bus can be taken away again.
func run(m *testing.M) (int, error) {
	if inMachine() {
		b, err := usbip.New()
		if err != nil {
			return 1, err
		}
		theBus = kernelBus{b}
	} else {
		code, done, err := usbfs.Enter()
		if done || err != nil {
			return code, err
		}
		b, err := usbfs.New()
		if err != nil {
			return 1, err
		}
		b.Log = slog.New(slog.NewTextHandler(os.Stderr, nil))
		theBus = fuseBus{b}
	}
	code := m.Run()
	return code, theBus.Close()
}
