package pcsc_test

import (
	"bytes"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"pam_pkcs11/internal/slowtest"
	"pam_pkcs11/pcsc"
	"pam_pkcs11/pcsc/pcsctest"
	"pam_pkcs11/pcsc/resmgr"
)

// rule is one rule of the resource manager; the number is the section of the reference it is from, "G" is the list of
// bugs once seen on macOS. stock says how Debian's pcscd 1.9.9 fails it, when it does, or why it cannot be asked: with
// PCSCD_UNDER_TEST=system the rules are asked of it, over the same simulated readers, and of ours else.
// PCSCD_ASK_ALL=1 asks also those that it is known to fail.
type rule struct {
	section, name string
	stock         string
	check         func(t *testing.T, w *world)
}

// cannotAsk begins the reason of a rule that pcscd cannot be asked.
const cannotAsk = "cannot be asked: "

var (
	selectCommand = []byte{0x00, 0xA4, 0x04, 0x00, 0x00}
	selectAnswer  = []byte{0x00, 0xA4, 0x04, 0x00, 0x00, 0x90, 0x00}
)

func TestConformance(t *testing.T) {
	s := settings{options: resmgr.Options{PowerDelay: 300 * time.Millisecond}}
	askRules(t, s, slices.Concat(connectRules, shareRules, eventRules, exchangeRules, powerRules, waitRules))
	s.polled = true
	askRules(t, s, unavailableRules)
}

func askRules(t *testing.T, s settings, rules []rule) {
	for _, r := range rules {
		t.Run(r.section+" "+r.name, func(t *testing.T) {
			if r.stock != "" && stockIsTested() && (os.Getenv("PCSCD_ASK_ALL") == "" || strings.HasPrefix(r.stock, cannotAsk)) {
				t.Logf("Debian's pcscd: %s", r.stock)
				return
			}
			inBothForms(t, s, r.check)
		})
	}
}

var connectRules = []rule{
	{"B.7", "connect with no protocol is PROTO_MISMATCH, before anything else is looked at", "", func(t *testing.T, w *world) {
		_, err := w.establish().Connect("no such reader", pcsc.ShareShared, 0)
		expect(t, "connect", err, pcsc.ErrProtoMismatch)
	}},
	{"B.7", "connect with a share mode that does not exist is INVALID_VALUE", "", func(t *testing.T, w *world) {
		_, err := w.establish().Connect("no such reader", 7, pcsc.ProtocolAny)
		expect(t, "connect", err, pcsc.ErrInvalidValue)
	}},
	{"B.7", "connect to a name that no reader has is UNKNOWN_READER", "", func(t *testing.T, w *world) {
		_, err := w.establish().Connect("no such reader", pcsc.ShareShared, pcsc.ProtocolAny)
		expect(t, "connect", err, pcsc.ErrUnknownReader)
	}},
	{"B.7", "connect without a card is NO_SMARTCARD", "", func(t *testing.T, w *world) {
		_, err := w.establish().Connect(w.reader, pcsc.ShareShared, pcsc.ProtocolAny)
		expect(t, "connect", err, pcsc.ErrNoSmartcard)
	}},
	{"G", "direct connect and control without a card", "", func(t *testing.T, w *world) {
		card := w.connect(pcsc.ShareDirect)
		if card.ActiveProtocol() != 0 {
			t.Errorf("protocol %v", card.ActiveProtocol())
		}
		_, err := card.Control(pcsc.CtlCode(2), nil)
		expect(t, "unknown control code", err, pcsc.ErrUnsupportedFeature)
	}},
	{"B.7", "T=1 is preferred", "", func(t *testing.T, w *world) {
		w.insert(&pcsctest.EchoCard{})
		if p := w.connect(pcsc.ShareShared).ActiveProtocol(); p != pcsc.ProtocolT1 {
			t.Errorf("protocol %v", p)
		}
	}},
	{"G", "a protocol that the card does not speak is PROTO_MISMATCH", "", func(t *testing.T, w *world) {
		w.insert(&pcsctest.EchoCard{Bytes: pcsctest.EchoATRT0})
		_, err := w.establish().Connect(w.reader, pcsc.ShareShared, pcsc.ProtocolT1)
		expect(t, "connect", err, pcsc.ErrProtoMismatch)
	}},
	{"B.7", "a later connect must allow the protocol that is active", "", func(t *testing.T, w *world) {
		w.insert(&pcsctest.EchoCard{})
		w.connect(pcsc.ShareShared)
		_, err := w.establish().Connect(w.reader, pcsc.ShareShared, pcsc.ProtocolT0)
		expect(t, "connect", err, pcsc.ErrProtoMismatch)
	}},
	{"B.7", "raw needs no negotiation", "", func(t *testing.T, w *world) {
		w.insert(&pcsctest.EchoCard{})
		card, err := w.establish().Connect(w.reader, pcsc.ShareShared, pcsc.ProtocolRaw)
		expect(t, "connect", err, 0)
		if err == nil && card.ActiveProtocol() != pcsc.ProtocolRaw {
			t.Errorf("protocol %v", card.ActiveProtocol())
		}
	}},
	{"G", "two shared connections coexist", "", func(t *testing.T, w *world) {
		w.insert(&pcsctest.EchoCard{})
		for range 2 {
			card := w.connect(pcsc.ShareShared)
			got, err := card.Transmit(selectCommand)
			expect(t, "transmit", err, 0)
			if !bytes.Equal(got, selectAnswer) {
				t.Errorf("answer %X", got)
			}
		}
	}},
	{"B.7", "exclusive beside another connection is SHARING_VIOLATION, and so is any beside exclusive", "", func(t *testing.T, w *world) {
		w.insert(&pcsctest.EchoCard{})
		shared := w.connect(pcsc.ShareShared)
		_, err := w.establish().Connect(w.reader, pcsc.ShareExclusive, pcsc.ProtocolAny)
		expect(t, "exclusive beside shared", err, pcsc.ErrSharingViolation)
		expect(t, "disconnect", shared.Disconnect(pcsc.LeaveCard), 0)
		exclusive := w.connect(pcsc.ShareExclusive)
		for _, mode := range []pcsc.ShareMode{pcsc.ShareShared, pcsc.ShareDirect, pcsc.ShareExclusive} {
			_, err := w.establish().Connect(w.reader, mode, pcsc.ProtocolAny)
			expect(t, "connect beside exclusive", err, pcsc.ErrSharingViolation)
		}
		expect(t, "end of a transaction that was not begun", exclusive.EndTransaction(pcsc.LeaveCard), pcsc.ErrNotTransacted)
		expect(t, "begin", exclusive.BeginTransaction(), 0)
		expect(t, "end", exclusive.EndTransaction(pcsc.LeaveCard), 0)
	}},
	{"G", "a program that ends without a word leaves no connection behind", "", func(t *testing.T, w *world) {
		w.insert(&pcsctest.EchoCard{})
		c := w.context()
		if _, err := c.Connect(w.reader, pcsc.ShareExclusive, pcsc.ProtocolAny); err != nil {
			t.Fatal(err)
		}
		expect(t, "release", c.Release(), 0)
		var err error
		slowtest.Until(t, "the reader to be free for a second program", func() bool {
			_, err = w.establish().Connect(w.reader, pcsc.ShareExclusive, pcsc.ProtocolAny)
			return err == nil
		})
		expect(t, "second program", err, 0)
	}},
	{"B.7", "a disposition that does not exist is INVALID_VALUE", "", func(t *testing.T, w *world) {
		w.insert(&pcsctest.EchoCard{})
		card := w.connect(pcsc.ShareShared)
		expect(t, "disconnect", card.Disconnect(9), pcsc.ErrInvalidValue)
		expect(t, "reconnect", card.Reconnect(pcsc.ShareShared, pcsc.ProtocolAny, 9), pcsc.ErrInvalidValue)
		expect(t, "begin", card.BeginTransaction(), 0)
		expect(t, "end", card.EndTransaction(9), pcsc.ErrInvalidValue)
	}},
	{"B.7", "reconnect cannot eject", "", func(t *testing.T, w *world) {
		w.insert(&pcsctest.EchoCard{})
		card := w.connect(pcsc.ShareShared)
		expect(t, "reconnect", card.Reconnect(pcsc.ShareShared, pcsc.ProtocolAny, pcsc.EjectCard), pcsc.ErrInvalidValue)
	}},
	{"B.7", "no reader ejects: UNSUPPORTED_FEATURE, but the transaction has ended; disconnect minds it not", "", func(t *testing.T, w *world) {
		w.insert(&pcsctest.EchoCard{})
		card := w.connect(pcsc.ShareShared)
		expect(t, "begin", card.BeginTransaction(), 0)
		expect(t, "end", card.EndTransaction(pcsc.EjectCard), pcsc.ErrUnsupportedFeature)
		expect(t, "end again", card.EndTransaction(pcsc.LeaveCard), pcsc.ErrNotTransacted)
		expect(t, "disconnect", card.Disconnect(pcsc.EjectCard), 0)
		w.connect(pcsc.ShareExclusive)
	}},
	{"B.7", "reconnect checks share mode and protocol", "", func(t *testing.T, w *world) {
		w.insert(&pcsctest.EchoCard{})
		card := w.connect(pcsc.ShareShared)
		expect(t, "share mode", card.Reconnect(9, pcsc.ProtocolAny, pcsc.LeaveCard), pcsc.ErrInvalidValue)
		expect(t, "no protocol", card.Reconnect(pcsc.ShareShared, 0, pcsc.LeaveCard), pcsc.ErrProtoMismatch)
	}},
	{"B.7", "reconnect makes exclusive only when nobody else is connected, and shared again", "keeps the lock after exclusive has become shared: the next connect waits for ever", func(t *testing.T, w *world) {
		w.insert(&pcsctest.EchoCard{})
		one, two := w.connect(pcsc.ShareShared), w.connect(pcsc.ShareShared)
		expect(t, "beside another", one.Reconnect(pcsc.ShareExclusive, pcsc.ProtocolAny, pcsc.LeaveCard), pcsc.ErrSharingViolation)
		expect(t, "disconnect", two.Disconnect(pcsc.LeaveCard), 0)
		expect(t, "alone", one.Reconnect(pcsc.ShareExclusive, pcsc.ProtocolAny, pcsc.LeaveCard), 0)
		_, err := w.establish().Connect(w.reader, pcsc.ShareShared, pcsc.ProtocolAny)
		expect(t, "beside exclusive", err, pcsc.ErrSharingViolation)
		expect(t, "shared again", one.Reconnect(pcsc.ShareShared, pcsc.ProtocolAny, pcsc.LeaveCard), 0)
		w.connect(pcsc.ShareShared)
	}},
	{"B.6", "contexts and handles that are not there are INVALID_HANDLE", "", func(t *testing.T, w *world) {
		sc := w.raw()
		expect(t, "valid", w.service.IsValidContext(sc), 0)
		expect(t, "release", w.service.ReleaseContext(sc), 0)
		expect(t, "valid after release", w.service.IsValidContext(sc), pcsc.ErrInvalidHandle)
		expect(t, "release again", w.service.ReleaseContext(sc), pcsc.ErrInvalidHandle)
		expect(t, "cancel", w.service.Cancel(sc), pcsc.ErrInvalidHandle)
		_, err := w.service.ListReaders(sc)
		expect(t, "list", err, pcsc.ErrInvalidHandle)
		_, err = w.service.Status(12345)
		expect(t, "status", err, pcsc.ErrInvalidHandle)
		_, err = w.service.Transmit(12345, pcsc.ProtocolT1, selectCommand, 300)
		expect(t, "transmit", err, pcsc.ErrInvalidHandle)
	}},
	{"G", "many contexts at the same time", "", func(t *testing.T, w *world) {
		for range 150 {
			w.establish()
		}
		if names, err := w.establish().ListReaders(); err != nil || len(names) == 0 {
			t.Errorf("%v %v", names, err)
		}
	}},
	{"B.6", "one reader group", "", func(t *testing.T, w *world) {
		groups, err := w.establish().ListReaderGroups()
		if err != nil || !slices.Equal(groups, []string{"SCard$DefaultReaders"}) {
			t.Errorf("%q %v", groups, err)
		}
	}},
}

var shareRules = []rule{
	{"B.7", "a transaction keeps others off: transmit, status, attributes and control are SHARING_VIOLATION", "", func(t *testing.T, w *world) {
		w.insert(&pcsctest.EchoCard{})
		holder, other := w.connect(pcsc.ShareShared), w.connect(pcsc.ShareShared)
		expect(t, "begin", holder.BeginTransaction(), 0)
		_, err := w.service.Transmit(other.Handle(), other.ActiveProtocol(), selectCommand, 300)
		expect(t, "transmit", err, pcsc.ErrSharingViolation)
		_, err = w.service.Status(other.Handle())
		expect(t, "status", err, pcsc.ErrSharingViolation)
		_, err = w.service.GetAttrib(other.Handle(), pcsc.AttrATRString)
		expect(t, "attribute", err, pcsc.ErrSharingViolation)
		_, err = w.service.Control(other.Handle(), pcsc.CtlCode(1), nil, 300)
		expect(t, "control", err, pcsc.ErrSharingViolation)
		_, err = w.service.Reconnect(other.Handle(), pcsc.ShareShared, pcsc.ProtocolAny, pcsc.LeaveCard)
		expect(t, "reconnect", err, pcsc.ErrSharingViolation)
		expect(t, "end by another", other.EndTransaction(pcsc.LeaveCard), pcsc.ErrSharingViolation)
		_, err = holder.Transmit(selectCommand)
		expect(t, "the holder's transmit", err, 0)
		expect(t, "end", holder.EndTransaction(pcsc.LeaveCard), 0)
		_, err = other.Transmit(selectCommand)
		expect(t, "transmit afterwards", err, 0)
	}},
	{"B.7", "transactions nest", "", func(t *testing.T, w *world) {
		w.insert(&pcsctest.EchoCard{})
		holder, other := w.connect(pcsc.ShareShared), w.connect(pcsc.ShareShared)
		for range 2 {
			expect(t, "begin", holder.BeginTransaction(), 0)
		}
		expect(t, "first end", holder.EndTransaction(pcsc.LeaveCard), 0)
		_, err := w.service.Status(other.Handle())
		expect(t, "still locked", err, pcsc.ErrSharingViolation)
		expect(t, "second end", holder.EndTransaction(pcsc.LeaveCard), 0)
		_, err = w.service.Status(other.Handle())
		expect(t, "free", err, 0)
		expect(t, "third end", holder.EndTransaction(pcsc.LeaveCard), pcsc.ErrNotTransacted)
	}},
	{"B.7", "begin waits its turn", "", func(t *testing.T, w *world) {
		w.insert(&pcsctest.EchoCard{})
		holder, other := w.connect(pcsc.ShareShared), w.connect(pcsc.ShareShared)
		expect(t, "begin", holder.BeginTransaction(), 0)
		begun := make(chan error, 1)
		go func() { begun <- other.BeginTransaction() }()
		select {
		case err := <-begun:
			t.Fatalf("begun beside another: %v", err)
		case <-time.After(30 * time.Millisecond):
		}
		expect(t, "end", holder.EndTransaction(pcsc.LeaveCard), 0)
		soon(t, "begin", func() { expect(t, "begin", <-begun, 0) })
		expect(t, "end", other.EndTransaction(pcsc.LeaveCard), 0)
	}},
	{"B.7", "connect waits for the end of a transaction", "", func(t *testing.T, w *world) {
		w.insert(&pcsctest.EchoCard{})
		holder := w.connect(pcsc.ShareShared)
		expect(t, "begin", holder.BeginTransaction(), 0)
		c := w.establish()
		connected := make(chan error, 1)
		go func() {
			_, err := c.Connect(w.reader, pcsc.ShareShared, pcsc.ProtocolAny)
			connected <- err
		}()
		select {
		case err := <-connected:
			t.Fatalf("connected: %v", err)
		case <-time.After(30 * time.Millisecond):
		}
		expect(t, "end", holder.EndTransaction(pcsc.LeaveCard), 0)
		soon(t, "connect", func() { expect(t, "connect", <-connected, 0) })
	}},
	{"B.7", "disconnect with a reset waits for the end of another's transaction, without one it does not", "", func(t *testing.T, w *world) {
		w.insert(&pcsctest.EchoCard{})
		holder, other, third := w.connect(pcsc.ShareShared), w.connect(pcsc.ShareShared), w.connect(pcsc.ShareShared)
		expect(t, "begin", holder.BeginTransaction(), 0)
		expect(t, "disconnect", third.Disconnect(pcsc.LeaveCard), 0)
		ended := make(chan error, 1)
		go func() { ended <- other.Disconnect(pcsc.ResetCard) }()
		select {
		case err := <-ended:
			t.Errorf("disconnected: %v", err)
		case <-time.After(30 * time.Millisecond):
		}
		_, err := holder.Transmit(selectCommand)
		expect(t, "transmit in the transaction", err, 0)
		expect(t, "end", holder.EndTransaction(pcsc.LeaveCard), 0)
		soon(t, "disconnect", func() { expect(t, "disconnect", <-ended, 0) })
	}},
	{"B.7", "disconnect gives up the lock, however deep", "", func(t *testing.T, w *world) {
		w.insert(&pcsctest.EchoCard{})
		holder, other := w.connect(pcsc.ShareShared), w.connect(pcsc.ShareShared)
		for range 3 {
			expect(t, "begin", holder.BeginTransaction(), 0)
		}
		expect(t, "disconnect", holder.Disconnect(pcsc.LeaveCard), 0)
		soon(t, "begin", func() { expect(t, "begin", other.BeginTransaction(), 0) })
	}},
	{"B.7", "a client that goes with the card locked: the card is reset and free", "", func(t *testing.T, w *world) {
		w.insert(&pcsctest.EchoCard{})
		other := w.connect(pcsc.ShareShared)
		c := w.context()
		holder, err := c.Connect(w.reader, pcsc.ShareShared, pcsc.ProtocolAny)
		expect(t, "connect", err, 0)
		expect(t, "begin", holder.BeginTransaction(), 0)
		expect(t, "release", c.Release(), 0)
		slowtest.Until(t, "the end of the lock", func() bool {
			_, err = w.service.Transmit(other.Handle(), other.ActiveProtocol(), selectCommand, 300)
			return err != pcsc.ErrSharingViolation && err != nil
		})
		expect(t, "transmit", err, pcsc.ErrResetCard)
	}},
	{"B.7", "a client that goes without a lock leaves the card as it is", "", func(t *testing.T, w *world) {
		card := &pcsctest.EchoCard{}
		w.insert(card)
		other := w.connect(pcsc.ShareShared)
		c := w.context()
		_, err := c.Connect(w.reader, pcsc.ShareShared, pcsc.ProtocolAny)
		expect(t, "connect", err, 0)
		expect(t, "release", c.Release(), 0)
		_, err = other.Transmit(selectCommand)
		expect(t, "transmit", err, 0)
	}},
}

var eventRules = []rule{
	{"G", "the first transmit after another's reset says RESET_CARD, and reconnect clears it", "", func(t *testing.T, w *world) {
		w.insert(&pcsctest.EchoCard{})
		one, two := w.connect(pcsc.ShareShared), w.connect(pcsc.ShareShared)
		expect(t, "reset", two.Reconnect(pcsc.ShareShared, pcsc.ProtocolAny, pcsc.ResetCard), 0)
		_, err := one.Transmit(selectCommand)
		expect(t, "transmit", err, pcsc.ErrResetCard)
		_, err = one.Status()
		expect(t, "status", err, pcsc.ErrResetCard)
		expect(t, "begin", one.BeginTransaction(), pcsc.ErrResetCard)
		_, err = two.Transmit(selectCommand)
		expect(t, "transmit of who reset", err, 0)
		expect(t, "reconnect", one.Reconnect(pcsc.ShareShared, pcsc.ProtocolAny, pcsc.LeaveCard), 0)
		_, err = one.Transmit(selectCommand)
		expect(t, "transmit afterwards", err, 0)
	}},
	{"B.7", "end with reset: the caller too must reconnect", "", func(t *testing.T, w *world) {
		w.insert(&pcsctest.EchoCard{})
		card := w.connect(pcsc.ShareShared)
		expect(t, "begin", card.BeginTransaction(), 0)
		expect(t, "end", card.EndTransaction(pcsc.ResetCard), 0)
		_, err := card.Transmit(selectCommand)
		expect(t, "transmit", err, pcsc.ErrResetCard)
		expect(t, "reconnect", card.Reconnect(pcsc.ShareShared, pcsc.ProtocolAny, pcsc.LeaveCard), 0)
	}},
	{"B.7", "disconnect with reset is told to the others", "", func(t *testing.T, w *world) {
		w.insert(&pcsctest.EchoCard{})
		one, two := w.connect(pcsc.ShareShared), w.connect(pcsc.ShareShared)
		expect(t, "disconnect", two.Disconnect(pcsc.ResetCard), 0)
		_, err := one.Transmit(selectCommand)
		expect(t, "transmit", err, pcsc.ErrResetCard)
	}},
	{"G", "begin after another's disconnect with unpower says RESET_CARD", "", func(t *testing.T, w *world) {
		w.insert(&pcsctest.EchoCard{})
		one, two := w.connect(pcsc.ShareShared), w.connect(pcsc.ShareShared)
		expect(t, "disconnect", two.Disconnect(pcsc.UnpowerCard), 0)
		expect(t, "begin", one.BeginTransaction(), pcsc.ErrResetCard)
		expect(t, "reconnect", one.Reconnect(pcsc.ShareShared, pcsc.ProtocolAny, pcsc.ResetCard), 0)
		_, err := one.Transmit(selectCommand)
		expect(t, "transmit", err, 0)
	}},
	{"B.7", "removal: everything says REMOVED_CARD", "", func(t *testing.T, w *world) {
		w.insert(&pcsctest.EchoCard{})
		card := w.connect(pcsc.ShareShared)
		w.remove()
		_, err := card.Transmit(selectCommand)
		expect(t, "transmit", err, pcsc.ErrRemovedCard)
		expect(t, "begin", card.BeginTransaction(), pcsc.ErrRemovedCard)
		_, err = card.Status()
		expect(t, "status", err, pcsc.ErrRemovedCard)
		expect(t, "reconnect", card.Reconnect(pcsc.ShareShared, pcsc.ProtocolAny, pcsc.LeaveCard), pcsc.ErrNoSmartcard)
		expect(t, "disconnect", card.Disconnect(pcsc.LeaveCard), 0)
	}},
	{"G", "after a swap transmit, begin and end say REMOVED_CARD, also within a transaction", "", func(t *testing.T, w *world) {
		w.insert(&pcsctest.EchoCard{})
		one, two := w.connect(pcsc.ShareShared), w.connect(pcsc.ShareShared)
		expect(t, "begin", one.BeginTransaction(), 0)
		w.swap(&pcsctest.EchoCard{})
		_, err := one.Transmit(selectCommand)
		expect(t, "transmit", err, pcsc.ErrRemovedCard)
		expect(t, "end", one.EndTransaction(pcsc.LeaveCard), pcsc.ErrRemovedCard)
		expect(t, "begin", two.BeginTransaction(), pcsc.ErrRemovedCard)
		expect(t, "reconnect to the new card", two.Reconnect(pcsc.ShareShared, pcsc.ProtocolAny, pcsc.LeaveCard), 0)
		_, err = two.Transmit(selectCommand)
		expect(t, "transmit", err, 0)
	}},
	{"B.7", "removal clears the lock: after reconnect there is no transaction", "", func(t *testing.T, w *world) {
		w.insert(&pcsctest.EchoCard{})
		card := w.connect(pcsc.ShareShared)
		expect(t, "begin", card.BeginTransaction(), 0)
		w.swap(&pcsctest.EchoCard{})
		expect(t, "reconnect", card.Reconnect(pcsc.ShareShared, pcsc.ProtocolAny, pcsc.LeaveCard), 0)
		expect(t, "end", card.EndTransaction(pcsc.LeaveCard), pcsc.ErrNotTransacted)
	}},
	{"B.7", "of two events the last is told", "", func(t *testing.T, w *world) {
		w.insert(&pcsctest.EchoCard{})
		one := w.connect(pcsc.ShareShared)
		w.swap(&pcsctest.EchoCard{})
		two := w.connect(pcsc.ShareShared)
		expect(t, "reset", two.Reconnect(pcsc.ShareShared, pcsc.ProtocolAny, pcsc.ResetCard), 0)
		_, err := one.Transmit(selectCommand)
		expect(t, "transmit", err, pcsc.ErrResetCard)
	}},
	{"B.7", "removal frees the lock and ends the waits for it", "", func(t *testing.T, w *world) {
		w.insert(&pcsctest.EchoCard{})
		holder, other := w.connect(pcsc.ShareShared), w.connect(pcsc.ShareShared)
		expect(t, "begin", holder.BeginTransaction(), 0)
		waited := make(chan error, 1)
		go func() { waited <- other.BeginTransaction() }()
		letWait()
		w.remove()
		soon(t, "begin", func() { expect(t, "begin", <-waited, pcsc.ErrRemovedCard) })
	}},
	{"B.7", "control does not mind events", "", func(t *testing.T, w *world) {
		w.insert(&pcsctest.EchoCard{})
		card := w.connect(pcsc.ShareShared)
		w.remove()
		got, err := card.Control(pcsc.CtlCode(1), []byte{1, 2})
		expect(t, "control", err, 0)
		if !bytes.Equal(got, []byte{1, 2}) {
			t.Errorf("%X", got)
		}
	}},
	{"B.7", "reconnect does not drop the lock", "", func(t *testing.T, w *world) {
		w.insert(&pcsctest.EchoCard{})
		holder, other := w.connect(pcsc.ShareShared), w.connect(pcsc.ShareShared)
		expect(t, "begin", holder.BeginTransaction(), 0)
		expect(t, "reconnect", holder.Reconnect(pcsc.ShareShared, pcsc.ProtocolAny, pcsc.ResetCard), 0)
		_, err := w.service.Status(other.Handle())
		expect(t, "another", err, pcsc.ErrSharingViolation)
		expect(t, "end", holder.EndTransaction(pcsc.LeaveCard), 0)
	}},
	{"B.8", "a mute card is there, and cannot be connected to", "", func(t *testing.T, w *world) {
		w.slot.Mute = true
		w.slot.Insert(&pcsctest.EchoCard{})
		state := w.await(pcsc.StatePresent)
		if state.EventState&pcsc.StateMute == 0 || len(state.ATR) != 0 {
			t.Errorf("state %X, ATR %X", state.EventState, state.ATR)
		}
		_, err := w.establish().Connect(w.reader, pcsc.ShareShared, pcsc.ProtocolAny)
		expect(t, "connect", err, pcsc.ErrUnpoweredCard)
		card := w.connect(pcsc.ShareDirect)
		expect(t, "reconnect", card.Reconnect(pcsc.ShareShared, pcsc.ProtocolAny, pcsc.LeaveCard), pcsc.ErrUnresponsiveCard)
	}},
}

var exchangeRules = []rule{
	{"B.7", "the protocol of a transmit must be the active one", "", func(t *testing.T, w *world) {
		w.insert(&pcsctest.EchoCard{})
		card := w.connect(pcsc.ShareShared)
		wrong := pcsc.ProtocolAny &^ card.ActiveProtocol()
		_, err := w.service.Transmit(card.Handle(), wrong, selectCommand, 300)
		expect(t, "wrong protocol", err, pcsc.ErrProtoMismatch)
		_, err = w.service.Transmit(card.Handle(), pcsc.ProtocolAnyOld, selectCommand, 300)
		expect(t, "whatever is active", err, 0)
	}},
	{"B.7", "an answer longer than the room is INSUFFICIENT_BUFFER, and the connection goes on", "", func(t *testing.T, w *world) {
		w.insert(&pcsctest.EchoCard{})
		card := w.connect(pcsc.ShareShared)
		_, err := w.service.Transmit(card.Handle(), card.ActiveProtocol(), selectCommand, 4)
		expect(t, "transmit", err, pcsc.ErrInsufficientBuffer)
		_, err = card.Transmit(selectCommand)
		expect(t, "transmit", err, 0)
	}},
	{"B.1", "commands of 64 KiB", "", func(t *testing.T, w *world) {
		w.insert(&pcsctest.EchoCard{})
		card := w.connect(pcsc.ShareShared)
		command := bytes.Repeat([]byte{0xA5}, 65544)
		got, err := card.Transmit(command)
		if err != nil || len(got) != len(command)+2 || !bytes.Equal(got[:len(command)], command) {
			t.Errorf("%d bytes, %v", len(got), err)
		}
	}},
	{"G", "an attribute that is not there is UNSUPPORTED_FEATURE; names are answered", "", func(t *testing.T, w *world) {
		w.insert(&pcsctest.EchoCard{})
		card := w.connect(pcsc.ShareShared)
		_, err := card.GetAttrib(0x12345)
		expect(t, "unknown attribute", err, pcsc.ErrUnsupportedFeature)
		for _, id := range []pcsc.Attrib{pcsc.AttrDeviceFriendlyName, pcsc.AttrDeviceSystemName} {
			name, err := card.GetAttrib(id)
			if err != nil || string(name) != w.reader+"\x00" {
				t.Errorf("attribute %X: %q %v", id, name, err)
			}
		}
		atr, err := card.GetAttrib(pcsc.AttrATRString)
		if err != nil || !bytes.Equal(atr, pcsctest.EchoATR) {
			t.Errorf("ATR %X %v", atr, err)
		}
		expect(t, "set", card.SetAttrib(0x12345, []byte{1}), pcsc.ErrUnsupportedFeature)
	}},
	{"B.6", "status", "", func(t *testing.T, w *world) {
		w.insert(&pcsctest.EchoCard{})
		card := w.connect(pcsc.ShareShared)
		s, err := card.Status()
		if err != nil {
			t.Fatal(err)
		}
		if s.Reader != w.reader || s.State != pcsc.Present|pcsc.Powered|pcsc.Negotiable || s.ActiveProtocol != card.ActiveProtocol() ||
			!bytes.Equal(s.ATR, pcsctest.EchoATR) {
			t.Errorf("%+v", s)
		}
	}},
}
