// Package device is a simulated USB device as the host's side of the bus sees it: descriptors, endpoints that take
// transfers, and the packets they are made of. It knows no bus: test/usb/usbfs and test/usb/usbip carry its transfers.
//
// What the device does is a Function, which speaks in whole messages. The cutting into packets, the zero-length packet
// after a message that fills its last one, the halting of an endpoint and the order of transfers are done here, once
// for all functions and buses.
package device

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync"
)

// Function is what a device does. Its methods may be called at the same time for different endpoints, never for one
// endpoint.
type Function interface {
	// Control answers a class or vendor request on endpoint 0. data is what the host sent with it; the answer counts
	// for requests to the host only.
	Control(ctx context.Context, setup Setup, data []byte) ([]byte, error)

	// Out takes one transfer to an OUT endpoint. It may wait, which is a device that does not accept data; when ctx ends
	// it gives up.
	Out(ctx context.Context, endpoint byte, data []byte) error

	// In waits for the next message on an IN endpoint. It is called only while the host asks for one. When ctx ends it
	// gives up and must lose nothing.
	In(ctx context.Context, endpoint byte) ([]byte, error)

	// ClearHalt is told when the host clears the halt of an endpoint, whether it was halted or not.
	ClearHalt(endpoint byte)

	// Reset is a reset of the bus, or power lost: the function begins anew.
	Reset()
}

// Errors of a Function that have a meaning on the bus. Any other one is seen by the host as a broken transfer (EPROTO).
var (
	ErrStall  = errors.New("stall")               // the endpoint halts until the host clears it; on endpoint 0 the request is refused
	ErrBabble = errors.New("more than asked for") // the device sent more than fits
)

// Speed is the speed of a device, by the numbers that Linux and USB/IP use.
type Speed int

// The speeds of USB 1 and 2.
const (
	Low  Speed = 1
	Full Speed = 2
	High Speed = 3
)

// Megabits is the speed as sysfs writes it.
func (s Speed) Megabits() string {
	return map[Speed]string{Low: "1.5", Full: "12", High: "480"}[s]
}

// Description is what a device says of itself.
type Description struct {
	Device        []byte          // device descriptor, 18 bytes (USB 2.0, table 9-8)
	Configuration []byte          // the one configuration descriptor with all that follows it
	Strings       map[byte]string // string descriptors, in English
	Speed         Speed           // 0 is Full
	// Raw is what the node and sysfs show in place of Device and Configuration, for a device whose descriptors are
	// not as they should be; nil: those two. Linux itself would refuse some: only the bus in user space has them.
	Raw []byte
	// NoZeroPacket is a device that does not end a message of whole packets by an empty one, as it should.
	NoZeroPacket bool
}

// Device is a device that is plugged in, once: a device that comes back is a new one with the same Function.
type Device struct {
	Description
	Interfaces []Interface // as the configuration lists them, alternate setting 0 only
	function   Function

	mu    sync.Mutex
	gone  bool
	ctx   context.Context
	end   context.CancelFunc
	pipes map[byte]*pipe
	work  sync.WaitGroup
}

// Interface is an interface descriptor (USB 2.0, table 9-12) with its endpoints.
type Interface struct {
	Number, Class, SubClass, Protocol, StringIndex byte
	Endpoints                                      []Endpoint
}

// Endpoint is an endpoint descriptor (USB 2.0, table 9-13).
type Endpoint struct {
	Address, Attributes byte
	MaxPacket           int // bytes
}

const (
	typeDevice, typeConfiguration, typeString = 1, 2, 3
	typeInterface, typeEndpoint               = 4, 5

	toHost       = 0x80 // bit of an endpoint's address and of bmRequestType
	controlPipe  = 0    // the pipe of endpoint 0, for both directions
	deviceLength = 18
)

// New makes a device of its description. The descriptors must be well formed as far as Linux looks at them; what a
// class makes of its own ones is not looked at.
func New(d Description, f Function) (*Device, error) {
	if len(d.Device) != deviceLength || d.Device[0] != deviceLength || d.Device[1] != typeDevice {
		return nil, fmt.Errorf("device descriptor of %d bytes, want %d", len(d.Device), deviceLength)
	}
	interfaces, err := parseConfiguration(d.Configuration)
	if err != nil {
		return nil, err
	}
	if d.Speed == 0 {
		d.Speed = Full
	}
	v := &Device{Description: d, Interfaces: interfaces, function: f, pipes: make(map[byte]*pipe)}
	v.ctx, v.end = context.WithCancel(context.Background())
	v.pipes[controlPipe] = &pipe{device: v}
	for _, i := range interfaces {
		for _, e := range i.Endpoints {
			v.pipes[e.Address] = &pipe{device: v, endpoint: e.Address, maxPacket: e.MaxPacket}
		}
	}
	return v, nil
}

// parseConfiguration walks through a configuration descriptor as the kernel does.
func parseConfiguration(b []byte) ([]Interface, error) {
	if len(b) < 9 || b[1] != typeConfiguration || int(binary.LittleEndian.Uint16(b[2:])) != len(b) {
		return nil, fmt.Errorf("configuration descriptor of %d bytes says something else of itself", len(b))
	}
	var all []Interface
	current := -1
	for rest := b; len(rest) > 0; {
		n := int(rest[0])
		if n < 2 || n > len(rest) {
			return nil, fmt.Errorf("descriptor of %d bytes where %d are left", n, len(rest))
		}
		one := rest[:n]
		rest = rest[n:]
		switch {
		case one[1] == typeInterface && n >= 9:
			current = -1
			// Linux skips a second description of a setting.
			again := slices.ContainsFunc(all, func(i Interface) bool { return i.Number == one[2] })
			if one[3] == 0 && !again {
				all = append(all, Interface{Number: one[2], Class: one[5], SubClass: one[6], Protocol: one[7], StringIndex: one[8]})
				current = len(all) - 1
			}
		case one[1] == typeEndpoint && n >= 7 && current >= 0:
			size := int(binary.LittleEndian.Uint16(one[4:])) & 0x7ff
			if size == 0 {
				return nil, fmt.Errorf("endpoint %#02x has packets of no size", one[2])
			}
			all[current].Endpoints = append(all[current].Endpoints, Endpoint{Address: one[2], Attributes: one[3], MaxPacket: size})
		}
	}
	return all, nil
}

// VendorID returns idVendor.
func (d *Device) VendorID() uint16 { return binary.LittleEndian.Uint16(d.Description.Device[8:]) }

// ProductID returns idProduct.
func (d *Device) ProductID() uint16 { return binary.LittleEndian.Uint16(d.Description.Device[10:]) }

// Release returns bcdDevice.
func (d *Device) Release() uint16 { return binary.LittleEndian.Uint16(d.Description.Device[12:]) }

// InterfaceOf returns the number of the interface that an endpoint belongs to.
func (d *Device) InterfaceOf(endpoint byte) (number byte, ok bool) {
	for _, i := range d.Interfaces {
		for _, e := range i.Endpoints {
			if e.Address == endpoint {
				return i.Number, true
			}
		}
	}
	return 0, false
}

// HasInterface tells whether the device has the interface of this number.
func (d *Device) HasInterface(number byte) bool {
	for _, i := range d.Interfaces {
		if i.Number == number {
			return true
		}
	}
	return false
}

// Detach pulls the device out: every transfer ends with ESHUTDOWN, and so does every later one. It returns when the
// function is no longer in use.
func (d *Device) Detach() {
	d.mu.Lock()
	d.gone = true
	d.end()
	ended := d.takeAll()
	d.mu.Unlock()
	finish(ended, statusGone)
	d.work.Wait()
}

// PortReset is what a reset of the port does to a device: its transfers end with ESHUTDOWN, what it had to say is
// forgotten, and it is configured anew.
func (d *Device) PortReset() {
	d.mu.Lock()
	if d.gone {
		d.mu.Unlock()
		return
	}
	ended := d.takeAll()
	d.end()
	d.ctx, d.end = context.WithCancel(context.Background())
	for _, p := range d.pipes {
		p.packets, p.halted = nil, false
	}
	d.mu.Unlock()
	finish(ended, statusGone)
	d.function.Reset()
}
