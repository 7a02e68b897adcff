package usb

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"testing"

	"pam_pkcs11/ccid/ccidtest"
	"pam_pkcs11/pcsc"
	"pam_pkcs11/test/usb/device"
)

// stack is what stands between an application and the bus: PC/SC in both cases.
type stack struct {
	name  string
	start func(t *testing.T) *pcsc.Context
}

// bench is a model that is plugged in, with its cards and what was said.
type bench struct {
	model
	t      *testing.T
	reader *ccidtest.Device
	said   *recorder
	port   port
	device *device.Device
}

// newBench plugs a model in, without cards but for those that are their own readers.
func newBench(t *testing.T, m model) *bench {
	t.Helper()
	b := &bench{model: m, t: t, reader: ccidtest.New(m.profile), said: &recorder{}}
	if m.isItsOwnReader() {
		b.insert()
	}
	b.plug()
	t.Cleanup(b.unplug)
	return b
}

// insert puts a card into every place.
func (b *bench) insert() {
	for _, s := range b.slots {
		b.reader.Insert(s.number, s.slot, &ccidtest.PatternCard{Bytes: b.atr})
	}
}

// insertAndWait puts the cards in, if they are not there, and waits until the stack has seen them.
func (b *bench) insertAndWait(c *pcsc.Context) []string {
	b.t.Helper()
	names := readers(b.t, c, len(b.slots))
	if !b.isItsOwnReader() {
		b.insert()
	}
	for _, name := range names {
		eventually(b.t, "the card in "+name, func() error {
			states := []pcsc.ReaderState{{Reader: name}}
			if err := c.GetStatusChange(states, 0); err != nil {
				return err
			}
			if !bytes.Equal(states[0].Atr, b.atr) {
				return fmt.Errorf("ATR % X", states[0].Atr)
			}
			return nil
		})
	}
	return names
}

func (b *bench) plug() {
	b.t.Helper()
	d, err := newDevice(b.reader, func(f device.Function) device.Function { return b.said.record(f) })
	if err != nil {
		b.t.Fatal(err)
	}
	b.device = d
	if b.port, err = theBus.Plug(d); err != nil {
		b.t.Fatal(err)
	}
}

func (b *bench) unplug() {
	if err := b.port.Unplug(); err != nil {
		b.t.Error(err)
	}
}

// readers waits until the stack shows as many readers as the model has places, and gives their names. QEMU's own reader,
// which is there too in the virtual machine, does not count.
func readers(t *testing.T, c *pcsc.Context, count int) []string {
	t.Helper()
	var found []string
	eventually(t, fmt.Sprintf("%d readers", count), func() error {
		found = nil
		names, err := c.ListReaders()
		for _, n := range names {
			if !strings.Contains(n, "QEMU") && !strings.Contains(n, "433-Swap") {
				found = append(found, n)
			}
		}
		if len(found) != count {
			return fmt.Errorf("there are %q (%v)", names, err)
		}
		return nil
	})
	return found
}

// commands of all cases of ISO 7816-4; t0 leaves out what a T=0 card cannot take in one piece.
func commands(m model) [][]byte {
	all := [][]byte{
		{0x80, 0x00, 0x01, 0x02},                      // case 1
		{0x80, 0x04, 0x00, 0x01, 0x01},                // case 2
		{0x80, 0x04, 0x00, 0x36, 0x36},                // an answer that fills a packet with its header
		{0x80, 0x04, 0x01, 0x00, 0x00},                // the longest
		withData([]byte{0x80, 0x00, 0x03, 0x04}, 1),   // case 3
		withData([]byte{0x80, 0x00, 0x03, 0x05}, 49),  // a command that fills a packet with its header
		withData([]byte{0x80, 0x00, 0x03, 0x06}, 255), // the longest
		withData([]byte{0x80, 0x00, 0x03, 0x07}, 100),
	}
	if m.isT0() {
		return all
	}
	all = append(all,
		append(withData([]byte{0x80, 0x04, 0x00, 0x10}, 16), 0x10), // case 4
		append(withData([]byte{0x80, 0x04, 0x01, 0x00}, 255), 0x00),
	)
	if m.longest > shortAPDU {
		all = append(all, extended([]byte{0x80, 0x04, 0x08, 0x00}, m.longest, 2048), extended([]byte{0x80, 0x04, 0x0F, 0xA0}, 300, m.longest))
	}
	return all
}

// isT0 tells whether the reader leaves T=0 with all its rules to the application.
func (m model) isT0() bool { return m.name == "TPDU T=0" }

func withData(header []byte, n int) []byte {
	return append(append(header, byte(n)), pattern(n)...)
}

func extended(header []byte, n, le int) []byte {
	c := append(header, 0, byte(n>>8), byte(n))
	return append(append(c, pattern(n)...), byte(le>>8), byte(le))
}

func pattern(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i*13 + n)
	}
	return b
}

// randomCommand is a command of any case and size that the model can carry.
func randomCommand(r *rand.Rand, m model) []byte {
	header := []byte{0x80, 0, 0, byte(r.IntN(256))}
	n, le := 0, 0
	if r.IntN(2) == 0 {
		n = 1 + r.IntN(255)
	}
	if r.IntN(2) == 0 && (n == 0 || !m.isT0()) {
		le = 1 + r.IntN(256)
	}
	if m.longest > shortAPDU && r.IntN(4) == 0 {
		n, le = 1+r.IntN(m.longest), 1+r.IntN(m.longest)
	}
	if le > 0 {
		header[1], header[2], header[3] = 4, byte(le>>8), byte(le)
	}
	switch {
	case n > 255 || le > 256:
		return extended(header, n, le)
	case n > 0 && le > 0:
		return append(withData(header, n), byte(le))
	case n > 0:
		return withData(header, n)
	case le > 0:
		return append(header, byte(le))
	}
	return header
}

// transmit sends a command and looks at the answer.
func transmit(card *pcsc.Card, command []byte) error {
	answer, err := card.Transmit(command)
	if err != nil {
		return fmt.Errorf("% X: %w", command[:min(len(command), 16)], err)
	}
	if want := ccidtest.Pattern(command); !bytes.Equal(answer, want) {
		return fmt.Errorf("% X: %d bytes % X, want %d", command[:min(len(command), 16)], len(answer), answer[:min(len(answer), 16)], len(want))
	}
	return nil
}

// play goes through what an application does with a card, from connecting to switching it off.
func (b *bench) play(c *pcsc.Context) {
	b.t.Helper()
	for _, name := range b.insertAndWait(c) {
		card, err := c.Connect(name, pcsc.ShareShared, pcsc.ProtocolAny)
		if err != nil {
			b.t.Fatalf("connecting to %s: %v", name, err)
		}
		if status, err := card.Status(); err != nil || !bytes.Equal(status.Atr, b.atr) {
			b.t.Errorf("status of %s: %+v, %v", name, status, err)
		}
		for _, command := range commands(b.model) {
			if err := transmit(card, command); err != nil {
				b.t.Error(name, err)
			}
		}
		if err := card.Reconnect(pcsc.ShareShared, pcsc.ProtocolAny, pcsc.ResetCard); err != nil {
			b.t.Errorf("resetting the card in %s: %v", name, err)
		}
		if err := transmit(card, commands(b.model)[0]); err != nil {
			b.t.Error(name, err)
		}
		if err := card.Disconnect(pcsc.UnpowerCard); err != nil {
			b.t.Errorf("disconnecting from %s: %v", name, err)
		}
	}
}

// many is how many commands a model is given: enough to notice, or 10,000 in the virtual machine, whose run is not part
// of every commit.
func many() int {
	if inMachine() {
		return 10000
	}
	return 300
}

// endure sends many commands of all kinds to all places at once.
func (b *bench) endure(c *pcsc.Context) {
	b.t.Helper()
	names := b.insertAndWait(c)
	ended := make(chan error, len(names))
	for i, name := range names {
		go func() {
			r := rand.New(rand.NewPCG(1, uint64(i)))
			card, err := c.Connect(name, pcsc.ShareShared, pcsc.ProtocolAny)
			for n := 0; err == nil && n < many()/len(names); n++ {
				if err = transmit(card, randomCommand(r, b.model)); err != nil {
					err = fmt.Errorf("command %d: %w", n, err)
				}
			}
			ended <- err
		}()
	}
	for range names {
		if err := <-ended; err != nil {
			b.t.Error(err)
		}
	}
}

// openFiles counts the descriptors of this process.
func openFiles(t *testing.T) int {
	t.Helper()
	all, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(all)
}
