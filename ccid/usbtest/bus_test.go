package usbtest_test

import (
	"context"
	"testing"
	"time"

	"go.uber.org/goleak"

	"pam_pkcs11/ccid/ccidtest"
	"pam_pkcs11/ccid/usbtest"
	"pam_pkcs11/internal/slowtest"
	"pam_pkcs11/pcsc"
	"pam_pkcs11/pcsc/resmgr"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience bounds every wait of these tests: reaching it is a failure.
const patience = time.Minute

// start has a resource manager drive a bus, and gives a client of it.
func start(t *testing.T) (*usbtest.Bus, *pcsc.Context) {
	t.Helper()
	b := usbtest.New(nil)
	m := resmgr.New(resmgr.Options{})
	ctx, cancel := context.WithCancel(context.Background())
	ended := resmgr.Plug(ctx, m, b)
	m.Ready()
	c, err := pcsc.NewContext(m)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Release(); err != nil {
			t.Error(err)
		}
		cancel()
		<-ended
		m.Close()
	})
	return b, c
}

// simulated is a reader of a level with an echoing card in it.
func simulated(t *testing.T, level ccidtest.Level) *ccidtest.Device {
	t.Helper()
	p, ok := ccidtest.Model(level)
	if !ok {
		t.Fatalf("no reader of level %s", level)
	}
	d := ccidtest.New(p)
	d.Insert(0, 0, &ccidtest.EchoCard{})
	return d
}

// awaitReaders waits until there are so many readers.
func awaitReaders(t *testing.T, c *pcsc.Context, want int) []string {
	t.Helper()
	var names []string
	if !slowtest.Poll(patience, time.Millisecond, func() bool {
		var err error
		names, err = c.ListReaders()
		return len(names) == want && (err == nil || want == 0)
	}) {
		t.Fatalf("the readers are %q, %d are wanted", names, want)
	}
	return names
}

func TestReadersOfEachLevelAreDrivenAndUnplugged(t *testing.T) {
	for _, level := range ccidtest.Levels {
		t.Run(string(level), func(t *testing.T) {
			b, c := start(t)
			d := simulated(t, level)
			b.Plug("Reader of "+string(level), d)
			name := awaitReaders(t, c, 1)[0]
			if want := "Reader of " + string(level) + " 00 00"; name != want {
				t.Errorf("the reader is called %q, not %q", name, want)
			}

			card, err := c.Connect(name, pcsc.ShareShared, pcsc.ProtocolAny)
			if err != nil {
				t.Fatal(err)
			}
			if answer, err := card.Transmit([]byte{0, 0xB0, 0, 0}); err != nil || len(answer) < 2 {
				t.Errorf("the card answered % X, %v", answer, err)
			}

			b.Unplug(d)
			awaitReaders(t, c, 0)
			if _, err := card.Transmit([]byte{0, 0xB0, 0, 0}); err == nil {
				t.Error("the card answered in a reader that is unplugged")
			}
		})
	}
}

// slowCard answers when it is let.
type slowCard struct {
	ccidtest.EchoCard
	came, answer chan struct{}
}

func (c *slowCard) Transmit(command []byte) ([]byte, error) {
	c.came <- struct{}{}
	<-c.answer
	return c.EchoCard.Transmit(command)
}

func TestACardIsPulledWhileItWorks(t *testing.T) {
	for _, level := range ccidtest.Levels {
		t.Run(string(level), func(t *testing.T) {
			b, c := start(t)
			d := simulated(t, level)
			slow := &slowCard{came: make(chan struct{}), answer: make(chan struct{})}
			d.Habits(0, 0, func(h *ccidtest.Habits) { h.Slow = true })
			d.Insert(0, 0, slow)
			b.Plug("Reader", d)
			card, err := c.Connect(awaitReaders(t, c, 1)[0], pcsc.ShareShared, pcsc.ProtocolAny)
			if err != nil {
				t.Fatal(err)
			}

			go func() {
				<-slow.came
				d.Remove(0, 0)
				close(slow.answer)
			}()
			if answer, err := card.Transmit([]byte{0, 0xB0, 0, 0}); err == nil {
				t.Errorf("a card that was pulled answered % X", answer)
			}

			d.Insert(0, 0, &ccidtest.EchoCard{})
			if card, err = connect(c); err != nil {
				t.Fatal(err)
			}
			if _, err := card.Transmit([]byte{0, 0xB0, 0, 0}); err != nil {
				t.Error(err)
			}
		})
	}
}

// connect waits for the card that was put in.
func connect(c *pcsc.Context) (card *pcsc.Card, err error) {
	slowtest.Poll(patience, time.Millisecond, func() bool {
		card, err = c.Connect("Reader 00 00", pcsc.ShareShared, pcsc.ProtocolAny)
		return err == nil
	})
	return card, err
}
