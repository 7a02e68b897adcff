//go:build !cgo

package ccid

import "fmt"

// noUSB stands where USB would be: libusb needs cgo.
type noUSB struct{}

func newUSB() opener { return noUSB{} }

func (noUSB) open(*usbDevice, *Interface) (Transport, error) {
	return nil, fmt.Errorf("%w: this program was built without cgo, and so without USB", errNever)
}
