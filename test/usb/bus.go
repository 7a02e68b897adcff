package usb

import (
	"pam_pkcs11/test/usb/device"
	"pam_pkcs11/test/usb/usbfs"
	"pam_pkcs11/test/usb/usbip"
)

// bus is a USB bus on which devices can be plugged in.
type bus interface {
	Plug(*device.Device) (port, error)
	// Close unplugs everything.
	Close() error
}

// port is a device that is plugged in.
type port interface {
	Unplug() error
	// Reset resets the port behind the back of who uses the device.
	Reset() error
	Node() string // path below /dev/bus/usb
	Name() string // in sysfs: "1-1"
}

// fuseBus is the bus in user space.
type fuseBus struct{ *usbfs.Bus }

func (b fuseBus) Plug(d *device.Device) (port, error) {
	p, err := b.Bus.Plug(d)
	if err != nil {
		return nil, err
	}
	return p, nil
}

// kernelBus is the bus of a real kernel.
type kernelBus struct{ *usbip.Bus }

func (b kernelBus) Plug(d *device.Device) (port, error) {
	p, err := b.Bus.Plug(d)
	if err != nil {
		return nil, err
	}
	return p, nil
}
