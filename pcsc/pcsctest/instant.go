package pcsctest

import (
	"context"
	"errors"
)

// InstantSlot is a slot without faults and without bounds, with a card in it that answers every
// command with 9000 at once.
type InstantSlot struct{}

// Events never reports a movement.
func (*InstantSlot) Events() <-chan bool { return make(chan bool) }

// Present reports that a card is there.
func (*InstantSlot) Present(context.Context) (bool, error) { return true, nil }

// PowerUp returns the ATR.
func (*InstantSlot) PowerUp(context.Context) ([]byte, error) {
	return []byte{0x3B, 0x80, 0x80, 0x01, 0x01}, nil
}

// Reset returns the ATR.
func (*InstantSlot) Reset(context.Context) ([]byte, error) {
	return []byte{0x3B, 0x80, 0x80, 0x01, 0x01}, nil
}

// PowerDown does nothing.
func (*InstantSlot) PowerDown(context.Context) error { return nil }

// SetProtocol does nothing.
func (*InstantSlot) SetProtocol(context.Context, uint32) error { return nil }

// Attribute knows none.
func (*InstantSlot) Attribute(context.Context, uint32) ([]byte, error) {
	return nil, errors.ErrUnsupported
}

// SetAttribute knows none.
func (*InstantSlot) SetAttribute(context.Context, uint32, []byte) error {
	return errors.ErrUnsupported
}

// Control knows none.
func (*InstantSlot) Control(context.Context, uint32, []byte, int) ([]byte, error) {
	return nil, errors.ErrUnsupported
}

// Transmit answers 9000.
func (*InstantSlot) Transmit(_ context.Context, _ uint32, command, reply []byte) ([]byte, error) {
	return append(reply[:0], 0x90, 0x00), nil
}

// InstantDriver has one reader, "R 00 00", with an InstantSlot.
type InstantDriver struct{}

// Run shows the reader until ctx ends.
func (InstantDriver) Run(
	ctx context.Context, attach func(id, product, iface, serial string, slots []*InstantSlot),
	_ func(string), settled func(),
) error {
	attach("1", "R", "", "", []*InstantSlot{{}})
	settled()
	<-ctx.Done()
	return nil
}
