//go:build !linux

package usb

import (
	"fmt"

	"pam_pkcs11/ccid"
	"pam_pkcs11/ccid/device"
)

// noUSB replaces USB where there is no usbfs: the driver needs Linux.
type noUSB struct{}

func newUSB() opener { return noUSB{} }

func (noUSB) open(*usbDevice, *device.Interface, func()) (device.Transport, error) {
	return nil, fmt.Errorf("%w: USB readers need Linux", ccid.ErrNotSupported)
}
