//go:build !linux

package ccid

import "fmt"

// noUSB stands where USB would be: the driver speaks to the USB stack of Linux.
type noUSB struct{}

func newUSB() opener { return noUSB{} }

func (noUSB) open(*usbDevice, *Interface, func()) (Transport, error) {
	return nil, fmt.Errorf("%w: USB readers need Linux", errNever)
}
