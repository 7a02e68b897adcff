package ccid_test

import (
	"context"
	"encoding/binary"
	"errors"
	"testing"

	"pam_pkcs11/ccid"
	"pam_pkcs11/ccid/ccidtest"
	"pam_pkcs11/ccid/device"
	"pam_pkcs11/ccid/message"
	"pam_pkcs11/ccid/plan"
	"pam_pkcs11/internal/iso7816"
)

// instant is a Transport with a card that answers at once with bytes made before, so that what is measured is the
// driver: TPDU level, T=1, IFSC and IFSD of 254.
type instant struct {
	card    *iso7816.T1Card
	answer  []byte // what the card answers to everything
	reply   []byte // the message for BulkIn
	waiting bool
	wire    int // bytes on the line between reader and card
}

func (i *instant) BulkOut(_ context.Context, m []byte) error {
	i.reply = append(i.reply[:0], m[:10]...)
	i.reply[7], i.reply[8], i.reply[9] = 0, 0, 0
	var data []byte
	switch message.Type(m[0]) {
	case message.TypePowerOn:
		i.card = iso7816.NewT1Card(iso7816.T1Config{IFSC: 254, IFSD: 254})
		i.reply[0], data = byte(message.TypeDataBlock), atrT1
	case message.TypeSetParameters:
		i.reply[0], data = byte(message.TypeParameters), m[10:]
	case message.TypeXfrBlock:
		i.reply[0] = byte(message.TypeDataBlock)
		step := i.card.Receive(m[10:])
		if step.Command != nil {
			step = i.card.Respond(i.answer)
		}
		data = step.Send
		i.wire += len(m) - 10 + len(data)
	default:
		i.reply[0] = byte(message.TypeSlotStatus)
	}
	binary.LittleEndian.PutUint32(i.reply[1:], uint32(len(data)))
	i.reply = append(i.reply, data...)
	i.waiting = true
	return nil
}

func (i *instant) BulkIn(_ context.Context, p []byte) (int, error) {
	if !i.waiting {
		return 0, errors.New("nothing to read")
	}
	i.waiting = false
	return copy(p, i.reply), nil
}

func (i *instant) Interrupt(context.Context, []byte) (int, error) { return 0, errors.ErrUnsupported }

func (i *instant) Control(context.Context, device.Setup, []byte) (int, error) {
	return 0, device.ErrStall
}

func (i *instant) Close() error { return nil }

// exchanges are what is measured, by name: bytes of command and of answer.
var exchanges = []struct {
	name   string
	nc, ne int
}{{"256 bytes", 0, 256}, {"64 KiB", 0, 65536}, {"64 KiB sent", 65535, 0}}

// newInstant opens a reader over an instant transport.
func newInstant(b testing.TB, ne int) (*instant, *ccid.Slot) {
	b.Helper()
	p := profile(descriptor(device.FeatureTPDU | device.FeatureIFSD | 0xBA))
	p.Interfaces[0].Interrupt = false
	d := ccidtest.New(p)
	i := &instant{answer: append(make([]byte, ne), 0x90, 0x00)}
	r, err := ccid.Open(b.Context(), i, d.Info(), interfaceOf(b, d, 0), plan.Options{}, nil)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { r.Close() })
	s := r.Slots()[0]
	ready(b, s, t1)
	return i, s
}

// BenchmarkT1 measures the time of driver and simulated card for one APDU in T=1. BenchmarkT1Card is that of the card
// alone.
func BenchmarkT1(b *testing.B) {
	for _, x := range exchanges {
		b.Run(x.name, func(b *testing.B) {
			_, s := newInstant(b, x.ne)
			command, reply := apdu(x.nc, x.ne), make([]byte, 0, 70000)
			b.SetBytes(int64(x.nc + x.ne))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := s.Transmit(b.Context(), t1, command, reply); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkT1Card plays the same blocks without the driver.
func BenchmarkT1Card(b *testing.B) {
	for _, x := range exchanges {
		b.Run(x.name, func(b *testing.B) {
			card := iso7816.NewT1Card(iso7816.T1Config{IFSC: 254, IFSD: 254})
			host := iso7816.NewT1(iso7816.T1Config{IFSC: 254, IFSD: 254})
			command, answer := apdu(x.nc, x.ne), append(make([]byte, x.ne), 0x90, 0x00)
			for b.Loop() {
				for step := host.Transmit(command); !step.Done; {
					got := card.Receive(step.Send)
					if got.Command != nil {
						got = card.Respond(answer)
					}
					step = host.Receive(got.Send)
				}
			}
		})
	}
}
