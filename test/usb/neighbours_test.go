package usb

import (
	"context"
	"encoding/binary"
	"slices"
	"strings"
	"testing"

	"pam_pkcs11/ccid/ccidtest"
	"pam_pkcs11/pcsc"
	"pam_pkcs11/test/usb/device"
)

// silent is a function that does nothing: a device that only stands beside a reader.
type silent struct{}

func (silent) Control(context.Context, device.Setup, []byte) ([]byte, error) {
	return nil, device.ErrStall
}
func (silent) Out(context.Context, byte, []byte) error { return nil }
func (silent) In(ctx context.Context, _ byte) ([]byte, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}
func (silent) ClearHalt(byte) {}
func (silent) Reset()         {}

// neighbour is a device that is no reader.
type neighbour struct {
	name          string
	configuration []byte // nil: a plain one
	raw           []byte // see device.Description
	problem       string // what the log says of it
}

// Pieces of descriptors.
func deviceOf(configurations byte) []byte {
	return []byte{18, 1, 0, 2, 0, 0, 0, 64, 0x09, 0x12, 0x02, 0x00, 0x00, 0x01, 0, 0, 0, configurations}
}

func interfaceOf(number, setting, endpoints byte) []byte {
	return []byte{9, 4, number, setting, endpoints, 0x08, 6, 80, 0}
}

func configurationOf(interfaces byte, parts ...[]byte) []byte {
	c := append([]byte{9, 2, 0, 0, interfaces, 1, 0, 0x80, 50}, slices.Concat(parts...)...)
	binary.LittleEndian.PutUint16(c[2:], uint16(len(c)))
	return c
}

// neighbours are devices with configurations that no standard allows.
func neighbours() []neighbour {
	endpoint := []byte{7, 5, 0x81, 2, 64, 0, 0}
	plain := configurationOf(1, interfaceOf(0, 0, 1), endpoint)
	return []neighbour{
		{
			name: "an interface twice, with another between",
			configuration: configurationOf(2, interfaceOf(0, 0, 1), endpoint, interfaceOf(1, 0, 0),
				interfaceOf(0, 0, 1), endpoint),
			problem: "interface 0 is described twice",
		},
		{
			name:          "numbers and settings with gaps",
			configuration: configurationOf(2, interfaceOf(200, 0, 0), interfaceOf(7, 0, 0), interfaceOf(7, 250, 0)),
		},
		{
			name: "absurd counts",
			raw: slices.Concat(deviceOf(255),
				[]byte{9, 2, 0xFF, 0xFF, 255, 1, 0, 0x80, 50}, interfaceOf(0, 0, 255), endpoint),
			problem: "it has 255 configurations and describes 1",
		},
		{
			name:    "a descriptor without length",
			raw:     slices.Concat(deviceOf(1), configurationOf(1, interfaceOf(0, 0, 0)), []byte{0, 0, 0, 0}),
			problem: "says that it has 0 bytes",
		},
		{
			name: "many configurations",
			raw:  slices.Concat(append([][]byte{deviceOf(60)}, slices.Repeat([][]byte{plain}, 60)...)...),
		},
		{name: "no configuration", raw: deviceOf(0)},
		{name: "half a device descriptor", raw: deviceOf(1)[:9], problem: "cannot be read"},
		{
			name: "a device descriptor that is longer than all",
			raw:  append([]byte{255}, deviceOf(1)[1:]...), problem: "cannot be read",
		},
	}
}

// TestOddNeighbours: no device beside a reader keeps the reader from being used, and each is named in the log once.
func TestOddNeighbours(t *testing.T) {
	for _, n := range neighbours() {
		t.Run(n.name, func(t *testing.T) {
			if n.raw != nil {
				inUserSpace(t)
			}
			plugNeighbour(t, n)
			b := newBench(t, models()[0])
			b.card(b.slots[0])
			c, said := listenTo(t)
			useAll(t, c, b.model)

			another := newBench(t, models()[2]) // the devices are listed again
			another.card(another.slots[0])
			readers(t, c, 2)
			if got := strings.Count(said.String(), n.problem); n.problem != "" && got != 1 {
				t.Errorf("%q is said %d times:\n%s", n.problem, got, said)
			}
		})
	}
}

func plugNeighbour(t *testing.T, n neighbour) {
	t.Helper()
	configuration := n.configuration
	if configuration == nil {
		configuration = configurationOf(1, interfaceOf(0, 0, 0))
	}
	d, err := device.New(device.Description{Device: deviceOf(1), Configuration: configuration, Raw: n.raw}, silent{})
	if err != nil {
		t.Fatal(err)
	}
	p, err := theBus.Plug(d)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Unplug(); err != nil {
			t.Error(err)
		}
	})
}

// useAll sends a command to the card in the one reader there is.
func useAll(t *testing.T, c *pcsc.Context, m model) {
	t.Helper()
	for _, name := range readers(t, c, 1) {
		if err := transmit(connect(t, c, name), commands(m)[1]); err != nil {
			t.Error(name, err)
		}
	}
}

// TestLongMessages: what is longer than the kernel takes at once goes in parts, in both directions.
func TestLongMessages(t *testing.T) {
	m := model{
		name: "long", reader: "OMNIKEY", slots: []place{{0, 0}}, atr: atrT1(), longest: 60000,
		profile: ccidtest.Describe(0x076B, 0x3031, 0x0200, "OMNIKEY", "Smart Card Reader USB",
			ccidtest.Interface{Interrupt: true, CCID: ccidtest.Class(0x000404BE, 65556, nil)}),
	}
	b := newBench(t, m)
	b.card(m.slots[0])
	c := startOurs(t)
	card := connect(t, c, readers(t, c, 1)[0])
	for _, n := range []int{16373, 16374, 16375, 32758, 40000, m.longest} {
		command := extended([]byte{0x80, 0x04, byte(n >> 8), byte(n)}, n, n)
		if err := transmit(card, command); err != nil {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
}
