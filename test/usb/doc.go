// Package usb tests the CCID driver on a real USB stack: usbfs below it, readers simulated at the byte level
// behind that, and Debian's pcscd with libccid beside it on the same devices.
//
// The bus is one of two. In `make test` it is test/usb/usbfs, a /dev/bus/usb in user space, so that the tests run
// everywhere where root is. `make test-usb` runs the same test binary in a virtual machine with Debian's kernel, where
// test/usb/usbip plugs the same readers into the kernel's own USB stack, and so certifies the first one.
//
// PAM_PKCS11_TEST_USB_COMMANDS is the number of commands that each reader is given, in place of 200, or 10,000 in the
// virtual machine.
package usb
