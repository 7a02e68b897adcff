package usb

import (
	"context"
	"encoding/binary"
	"errors"
	"unicode/utf16"

	"pam_pkcs11/ccid/ccidtest"
	ccidevice "pam_pkcs11/ccid/device"
	"pam_pkcs11/test/usb/device"
)

// function lets a simulated reader be a device on a bus.
type function struct{ reader *ccidtest.Device }

// NewDevice makes a device to plug in. The reader outlives it: it can be plugged in again.
func NewDevice(r *ccidtest.Device, wrap ...func(device.Function) device.Function) (*device.Device, error) {
	var f device.Function = function{r}
	for _, w := range wrap {
		f = w(f)
	}
	return device.New(device.Description{
		Device: r.Descriptor(), Configuration: r.Configuration(), Strings: stringsOf(r), Speed: device.Full,
	}, f)
}

// stringsOf asks a reader for its strings.
func stringsOf(r *ccidtest.Device) map[byte]string {
	const getDescriptor, typeString = 6, 3
	all := make(map[byte]string)
	for i := byte(1); i < 16; i++ {
		b := make([]byte, 255)
		n, err := r.Control(context.Background(), ccidevice.Setup{RequestType: 0x80, Request: getDescriptor, Value: typeString<<8 | uint16(i)}, b)
		if err != nil || n < 2 {
			continue
		}
		var units []uint16
		for b = b[2:n]; len(b) >= 2; b = b[2:] {
			units = append(units, binary.LittleEndian.Uint16(b))
		}
		all[i] = string(utf16.Decode(units))
	}
	return all
}

func (f function) Control(ctx context.Context, s device.Setup, data []byte) ([]byte, error) {
	if s.ToHost() {
		data = make([]byte, s.Length)
	}
	n, err := f.reader.Control(ctx, ccidevice.Setup{RequestType: s.RequestType, Request: s.Request, Value: s.Value, Index: s.Index}, data)
	return data[:n], onTheBus(err)
}

func (f function) Out(ctx context.Context, endpoint byte, data []byte) error {
	_, err := f.reader.Out(ctx, endpoint, data)
	return onTheBus(err)
}

// longest is more than any message of a reader: an extended APDU with its header.
const longest = 1 << 17

func (f function) In(ctx context.Context, endpoint byte) ([]byte, error) {
	b := make([]byte, longest)
	n, err := f.reader.In(ctx, endpoint, b)
	return append([]byte(nil), b[:n]...), onTheBus(err)
}

func (f function) ClearHalt(endpoint byte) {
	const clearFeature = 1
	// It cannot refuse.
	_, _ = f.reader.Control(context.Background(), ccidevice.Setup{RequestType: 0x02, Request: clearFeature, Index: uint16(endpoint)}, nil)
}

func (f function) Reset() { f.reader.Reset() }

// onTheBus says a reader's error in the words of a device.
func onTheBus(err error) error {
	switch {
	case errors.Is(err, ccidevice.ErrStall):
		return device.ErrStall
	case errors.Is(err, ccidevice.ErrOverflow):
		return device.ErrBabble
	}
	return err
}
