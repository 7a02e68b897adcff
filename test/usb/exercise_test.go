package usb

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
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
	told   []string // what the application learnt of PIN pads
}

// bareBench is a model that is not plugged in.
func bareBench(t *testing.T, m model) *bench {
	t.Helper()
	return &bench{model: m, t: t, reader: ccidtest.New(m.profile), said: &recorder{}}
}

// newBench plugs a model in until the test ends, without cards but for those that are their own readers.
func newBench(t *testing.T, m model) *bench {
	t.Helper()
	b := bareBench(t, m)
	if m.isItsOwnReader() {
		b.card(m.slots[0])
	}
	b.plug(b.said.record)
	t.Cleanup(b.unplug)
	return b
}

// card puts a card into a place.
func (b *bench) card(p place) { b.reader.Insert(p.number, p.slot, &ccidtest.PatternCard{Bytes: b.atr}) }

// insert puts a card into a place, if it can be taken out, and waits until the stack shows it, in the reader of the
// name that it returns.
func (b *bench) insert(c *pcsc.Context, p place) string {
	b.t.Helper()
	names := readers(b.t, c, len(b.slots))
	before := b.withCard(c, names)
	if b.isItsOwnReader() {
		before = nil
	} else {
		b.card(p)
	}
	var name string
	eventually(b.t, "a card to be seen", func() error {
		for _, n := range b.withCard(c, names) {
			if !slices.Contains(before, n) {
				name = n
				return nil
			}
		}
		return fmt.Errorf("cards are in %q", before)
	})
	return name
}

// withCard lists the readers that have a card, with the ATR that it should have.
func (b *bench) withCard(c *pcsc.Context, names []string) []string {
	b.t.Helper()
	states := make([]pcsc.ReaderState, len(names))
	for i, n := range names {
		states[i].Reader = n
	}
	if err := c.GetStatusChange(states, 0); err != nil {
		b.t.Fatal(err)
	}
	var all []string
	for _, s := range states {
		if bytes.Equal(s.ATR, b.atr) {
			all = append(all, s.Reader)
		}
	}
	return all
}

// plug plugs the reader in, with something between it and the bus.
func (b *bench) plug(between func(device.Function) device.Function) {
	b.t.Helper()
	d, err := NewDevice(b.reader, between)
	if err != nil {
		b.t.Fatal(err)
	}
	b.said.attach(d)
	if b.port, err = theBus.Plug(d); err != nil {
		b.t.Fatal(err)
	}
}

func (b *bench) unplug() {
	if b.port == nil {
		return
	}
	if err := b.port.Unplug(); err != nil {
		b.t.Error(err)
	}
}

// readers waits until the stack shows as many readers as the model has places, and gives their names.
func readers(t *testing.T, c *pcsc.Context, count int) []string {
	t.Helper()
	var found []string
	eventually(t, fmt.Sprintf("%d readers", count), func() error {
		if found = simulated(c); len(found) != count {
			return fmt.Errorf("there are %q", found)
		}
		return nil
	})
	return found
}

// simulated lists the readers, without QEMU's own, which is there too in the virtual machine.
func simulated(c *pcsc.Context) []string {
	names, _ := c.ListReaders() // none is an error
	return slices.DeleteFunc(names, isQEMUs)
}

func isQEMUs(name string) bool {
	return strings.Contains(name, "QEMU") || strings.Contains(name, "433-Swap")
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
	if m.t0 {
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
	if r.IntN(2) == 0 && (n == 0 || !m.t0) {
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

// play goes through what an application does with each card, from putting it in to switching it off.
func (b *bench) play(c *pcsc.Context, played func(place)) {
	b.t.Helper()
	for _, p := range b.slots {
		name := b.insert(c, p)
		card, err := c.Connect(name, pcsc.ShareShared, pcsc.ProtocolAny)
		if err != nil {
			b.t.Fatalf("connecting to %s: %v", name, err)
		}
		b.converse(card, name)
		b.told = append(b.told, b.keys(card, p)...)
		if err := card.Disconnect(pcsc.UnpowerCard); err != nil {
			b.t.Errorf("disconnecting from %s: %v", name, err)
		}
		if played != nil {
			played(p)
		}
	}
}

// converse sends commands of all kinds, resets the card and goes on.
func (b *bench) converse(card *pcsc.Card, name string) {
	b.t.Helper()
	if status, err := card.Status(); err != nil || !bytes.Equal(status.ATR, b.atr) {
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
}

// many is how many commands a model is given: enough to notice, or 10,000 in the virtual machine, whose run is not part
// of every commit, or what the environment says.
func many() int {
	if n, err := strconv.Atoi(os.Getenv("PAM_PKCS11_TEST_USB_COMMANDS")); err == nil {
		return n
	}
	if inMachine() {
		return 10000
	}
	return 200
}

// endure sends many commands of all kinds to all places at once.
func (b *bench) endure(c *pcsc.Context) {
	b.t.Helper()
	var names []string
	for _, p := range b.slots {
		names = append(names, b.insert(c, p))
	}
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
