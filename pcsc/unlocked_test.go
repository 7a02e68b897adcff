package pcsc_test

import (
	"encoding/binary"
	"slices"
	"testing"

	"pam_pkcs11/internal/slowtest"
	"pam_pkcs11/pcsc"
	"pam_pkcs11/pcsc/pcsctest"
)

// A card that a program has opened with a PIN is not left open when the program dies.

var (
	verifyCommand = []byte{0x00, 0x20, 0x00, 0x80, 0x08, '1', '2', '3', '4', '5', '6', 0xFF, 0xFF}
	askTries      = []byte{0x00, 0x20, 0x00, 0x80}
	lockCommand   = []byte{0x00, 0x20, 0xFF, 0x80}
	lockAnother   = []byte{0x00, 0x20, 0xFF, 0x00}
)

// pinCard accepts one PIN and tells whether it is open.
type pinCard struct {
	pcsctest.EchoCard
	refuse bool // every PIN
}

// Transmit answers 63C2 to a PIN that is refused, and 9000 to all else.
func (c *pinCard) Transmit(command []byte) ([]byte, error) {
	if c.refuse && len(command) > 5 && command[1] == 0x20 {
		return []byte{0x63, 0xC2}, nil
	}
	return []byte{0x90, 0x00}, nil
}

// stockLeavesOpen is what pcscd 1.9.9 does when a client is gone: it resets the card only if the client held a transaction
// at that moment, and else leaves it, so that the next program finds the PIN verified.
const stockLeavesOpen = "the card stays unlocked when the program that verified the PIN is gone, unless it held a transaction"

// leaves has a client send commands and go away without a disconnect.
func (w *world) leaves(commands ...[]byte) {
	w.t.Helper()
	c := w.context()
	card, err := c.Connect(w.reader, pcsc.ShareShared, pcsc.ProtocolAny)
	expect(w.t, "connect", err, 0)
	for _, command := range commands {
		_, err := card.Transmit(command)
		expect(w.t, "transmit", err, 0)
	}
	expect(w.t, "release", c.Release(), 0)
}

// wasReset tells whether the card of another program's connection was reset.
func wasReset(t *testing.T, other *pcsc.Card) bool {
	t.Helper()
	_, err := other.Transmit(selectCommand)
	if err == nil {
		return false
	}
	expect(t, "another program", err, pcsc.ErrResetCard)
	return true
}

// awaitReset waits until the card was reset: a client's end may take a moment.
func awaitReset(t *testing.T, other *pcsc.Card) {
	t.Helper()
	slowtest.Until(t, "the reset of the card", func() bool {
		_, err := other.Transmit(selectCommand)
		if err != nil && err != pcsc.ErrResetCard && err != pcsc.ErrSharingViolation {
			t.Fatalf("another program: %v", err)
		}
		return err == pcsc.ErrResetCard
	})
}

var unlockedRules = []rule{
	{"D", "a client that goes after a VERIFY leaves a card that was reset", stockLeavesOpen, func(t *testing.T, w *world) {
		w.insert(&pinCard{})
		other := w.connect(pcsc.ShareShared)
		w.leaves(verifyCommand)
		awaitReset(t, other)
	}},
	{"D", "and so when it reconnected to the card as it was", stockLeavesOpen, func(t *testing.T, w *world) {
		w.insert(&pinCard{})
		other := w.connect(pcsc.ShareShared)
		c := w.context()
		card, err := c.Connect(w.reader, pcsc.ShareShared, pcsc.ProtocolAny)
		expect(t, "connect", err, 0)
		_, err = card.Transmit(verifyCommand)
		expect(t, "transmit", err, 0)
		expect(t, "reconnect", card.Reconnect(pcsc.ShareShared, pcsc.ProtocolAny, pcsc.LeaveCard), 0)
		expect(t, "release", c.Release(), 0)
		awaitReset(t, other)
	}},
	{"D", "a PIN other than the one that was locked again counts", stockLeavesOpen, func(t *testing.T, w *world) {
		w.insert(&pinCard{})
		other := w.connect(pcsc.ShareShared)
		w.leaves(verifyCommand, lockAnother)
		awaitReset(t, other)
	}},
	{"D", "no reset after a disconnect that leaves the card", "", func(t *testing.T, w *world) {
		w.insert(&pinCard{})
		other, first := w.connect(pcsc.ShareShared), w.connect(pcsc.ShareShared)
		_, err := first.Transmit(verifyCommand)
		expect(t, "transmit", err, 0)
		expect(t, "disconnect", first.Disconnect(pcsc.LeaveCard), 0)
		w.leaves()
		if wasReset(t, other) {
			t.Error("the card was reset")
		}
	}},
	{"D", "no reset after the card was locked again, by whomever", "", func(t *testing.T, w *world) {
		w.insert(&pinCard{})
		other := w.connect(pcsc.ShareShared)
		w.leaves(verifyCommand, lockCommand)
		c := w.context()
		first, err := c.Connect(w.reader, pcsc.ShareShared, pcsc.ProtocolAny)
		expect(t, "connect", err, 0)
		_, err = first.Transmit(verifyCommand)
		expect(t, "transmit", err, 0)
		_, err = other.Transmit(lockCommand)
		expect(t, "transmit", err, 0)
		expect(t, "release", c.Release(), 0)
		if wasReset(t, other) {
			t.Error("the card was reset")
		}
	}},
	{"D", "no reset after a PIN that was refused, and after a question for the tries left", "", func(t *testing.T, w *world) {
		w.insert(&pinCard{refuse: true})
		other := w.connect(pcsc.ShareShared)
		w.leaves(verifyCommand, askTries, append(slices.Clone(askTries), 0), append(slices.Clone(askTries), 0, 0, 0))
		if wasReset(t, other) {
			t.Error("the card was reset")
		}
	}},
	{"D", "no second reset where the card was reset since", "", func(t *testing.T, w *world) {
		w.insert(&pinCard{})
		c := w.context()
		first, err := c.Connect(w.reader, pcsc.ShareShared, pcsc.ProtocolAny)
		expect(t, "connect", err, 0)
		_, err = first.Transmit(verifyCommand)
		expect(t, "transmit", err, 0)
		expect(t, "reset", first.Reconnect(pcsc.ShareShared, pcsc.ProtocolAny, pcsc.ResetCard), 0)
		other := w.connect(pcsc.ShareShared)
		expect(t, "release", c.Release(), 0)
		if wasReset(t, other) {
			t.Error("the card was reset")
		}
	}},
	{"D", "another's transaction is not disturbed: the reset comes behind it", stockLeavesOpen, func(t *testing.T, w *world) {
		w.insert(&pinCard{})
		c := w.context()
		first, err := c.Connect(w.reader, pcsc.ShareShared, pcsc.ProtocolAny)
		expect(t, "connect", err, 0)
		_, err = first.Transmit(verifyCommand)
		expect(t, "transmit", err, 0)
		other := w.connect(pcsc.ShareShared)
		expect(t, "begin", other.BeginTransaction(), 0)
		released := make(chan error, 1)
		go func() { released <- c.Release() }()
		letWait()
		_, err = other.Transmit(selectCommand)
		expect(t, "in the transaction", err, 0)
		expect(t, "end", other.EndTransaction(pcsc.LeaveCard), 0)
		awaitReset(t, other)
		soon(t, "release", func() { expect(t, "release", <-released, 0) })
	}},
	{"D", "no reset where another locked the card in the transaction that the reset waited for", "", func(t *testing.T, w *world) {
		w.insert(&pinCard{})
		c := w.context()
		first, err := c.Connect(w.reader, pcsc.ShareShared, pcsc.ProtocolAny)
		expect(t, "connect", err, 0)
		_, err = first.Transmit(verifyCommand)
		expect(t, "transmit", err, 0)

		other := w.connect(pcsc.ShareShared)
		expect(t, "begin", other.BeginTransaction(), 0)
		released := make(chan error, 1)
		go func() { released <- c.Release() }()
		letWait()
		_, err = other.Transmit(lockCommand)
		expect(t, "in the transaction", err, 0)
		expect(t, "end", other.EndTransaction(pcsc.LeaveCard), 0)

		soon(t, "release", func() { expect(t, "release", <-released, 0) })
		if wasReset(t, other) {
			t.Error("the card was reset")
		}
	}},
	{"D", "a reset after a VERIFY whose answer was lost", stockLeavesOpen, func(t *testing.T, w *world) {
		w.insert(&pinCard{})
		other := w.connect(pcsc.ShareShared)
		c := w.context()
		card, err := c.Connect(w.reader, pcsc.ShareShared, pcsc.ProtocolAny)
		expect(t, "connect", err, 0)
		w.fail("Transmit", pcsc.ErrorCodeCommunication)
		_, err = card.Transmit(verifyCommand)
		expect(t, "transmit", err, pcsc.ErrNotTransacted)
		w.fail("Transmit", 0)
		expect(t, "release", c.Release(), 0)
		awaitReset(t, other)
	}},
}

// TestConformanceOfUnlockedCards asks the rules above.
func TestConformanceOfUnlockedCards(t *testing.T) { askRules(t, settings{}, unlockedRules) }

// TestPadUnlocks: a PIN typed at the reader opens the card as one that was sent to it.
func TestPadUnlocks(t *testing.T) {
	const padCode = 0x42330006
	structure := func(head int, command ...byte) []byte {
		b := make([]byte, head, head+len(command))
		binary.LittleEndian.PutUint32(b[head-4:], uint32(len(command)))
		return append(b, command...)
	}
	for _, row := range []struct {
		name  string
		in    []byte
		out   []byte
		reset bool
	}{
		{"verify", structure(19, verifyCommand...), []byte{0x90, 0x00}, true},
		{"verify without room for the PIN", structure(19, 0, 0x20, 0, 0x80), []byte{0x90, 0x00}, true},
		{"change", structure(24, 0, 0x24, 0, 0x80, 16), []byte{0x90, 0x00}, true},
		{"refused", structure(19, verifyCommand...), []byte{0x63, 0xC2}, false},
		{"another command", structure(19, selectCommand...), []byte{0x90, 0x00}, false},
		{"no such structure", verifyCommand, []byte{0x90, 0x00}, false},
		{"a wrong length", structure(19, verifyCommand...)[:20], []byte{0x90, 0x00}, false},
	} {
		t.Run(row.name, func(t *testing.T) {
			w := newServerWorld(t, settings{notify: true})
			w.insert(&pinCard{})
			w.slot.Answer(padCode, row.out)
			other := w.connect(pcsc.ShareShared)
			c := w.context()
			card, err := c.Connect(w.reader, pcsc.ShareShared, pcsc.ProtocolAny)
			expect(t, "connect", err, 0)
			_, err = card.Control(padCode, row.in)
			expect(t, "control", err, 0)
			expect(t, "release", c.Release(), 0)
			if row.reset {
				awaitReset(t, other)
			} else if wasReset(t, other) {
				t.Error("the card was reset")
			}
		})
	}
}

// TestUnlockedCardOfADeadClient: a program that is killed closes its socket, and no more.
func TestUnlockedCardOfADeadClient(t *testing.T) {
	w := newServerWorld(t, settings{notify: true})
	w.insert(&pinCard{})
	other := w.connect(pcsc.ShareShared)
	dying := w.script(4)
	h, result := dying.connect(reader, 2)
	if result != 0 {
		t.Fatalf("%X", result)
	}
	dying.askWith(0x09, dying.words(h, 2, 16, uint32(len(verifyCommand)), 3, 16, 300, 0), verifyCommand, 32+2)
	dying.conn.Close()
	awaitReset(t, other)
}
