package usb

import (
	"context"
	"encoding/binary"

	"pam_pkcs11/test/usb/device"
)

// loop is a device that sends on bulk IN, as messages, what it gets on bulk OUT. Its interrupt endpoint says nothing.
// What a message begins with can have another meaning: see the constants.
type loop struct {
	messages chan []byte
	resets   chan struct{}
}

const (
	loopOut       = 0x01
	loopIn        = 0x82
	loopInterrupt = 0x83

	sayStall  = 'S' // bulk IN stalls
	sayBabble = 'B' // bulk IN sends more than a packet is long
	sayHold   = 'H' // the OUT transfer is never taken

	vendorEcho  = 1 // control request that gives back wValue and wIndex
	vendorStall = 2
)

func newLoop() (*loop, *device.Device, error) {
	l := &loop{messages: make(chan []byte, 100), resets: make(chan struct{}, 100)}
	endpoint := func(address, kind byte, size byte) []byte { return []byte{7, 5, address, kind, size, 0, 16} }
	configuration := []byte{9, 2, 0, 0, 2, 1, 0, 0x80, 50}
	configuration = append(configuration, 9, 4, 0, 0, 3, 0xFF, 0, 0, 0)
	for _, e := range [][]byte{endpoint(loopOut, 2, 64), endpoint(loopIn, 2, 64), endpoint(loopInterrupt, 3, 8)} {
		configuration = append(configuration, e...)
	}
	configuration = append(configuration, 9, 4, 5, 0, 0, 0xFF, 0, 0, 0) // a second interface, of another number than its place
	binary.LittleEndian.PutUint16(configuration[2:], uint16(len(configuration)))
	d, err := device.New(device.Description{
		Device:        []byte{18, 1, 0, 2, 0, 0, 0, 64, 0x09, 0x12, 0x01, 0x00, 0x00, 0x01, 0, 1, 0, 1},
		Configuration: configuration, Strings: map[byte]string{1: "Loop"},
	}, l)
	return l, d, err
}

func (l *loop) Control(_ context.Context, s device.Setup, _ []byte) ([]byte, error) {
	if s.Request == vendorStall {
		return nil, device.ErrStall
	}
	b := binary.LittleEndian.AppendUint16(nil, s.Value)
	return binary.LittleEndian.AppendUint16(b, s.Index), nil
}

func (l *loop) Out(ctx context.Context, _ byte, data []byte) error {
	if len(data) > 0 && data[0] == sayHold {
		<-ctx.Done()
		return ctx.Err()
	}
	l.messages <- append([]byte(nil), data...)
	return nil
}

func (l *loop) In(ctx context.Context, endpoint byte) ([]byte, error) {
	var messages chan []byte
	if endpoint == loopIn {
		messages = l.messages
	}
	select {
	case m := <-messages:
		if len(m) > 0 && m[0] == sayStall {
			return nil, device.ErrStall
		}
		if len(m) > 0 && m[0] == sayBabble {
			return nil, device.ErrBabble
		}
		return m, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (l *loop) ClearHalt(byte) {}

func (l *loop) Reset() {
	select {
	case l.resets <- struct{}{}:
	default:
	}
}
