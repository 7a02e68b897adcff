package pcsc_test

import (
	"testing"

	"pam_pkcs11/pcsc"
	"pam_pkcs11/pcsc/pcsctest"
)

// TestStoppedCard: a card that has stopped while a program stays connected is powered anew for the next that connects,
// outside of a transaction, and the first is told.
func TestStoppedCard(t *testing.T) {
	inBothForms(t, settings{notify: true}, func(t *testing.T, w *world) {
		w.insert(&pcsctest.EchoCard{})
		first := w.connect(pcsc.ShareShared)
		w.slot.Stop()
		_, err := first.Transmit(selectCommand)
		expect(t, "a card that has stopped", err, pcsc.ErrNotTransacted)

		direct := w.connect(pcsc.ShareDirect)
		if !w.slot.Stopped() {
			t.Error("who wants the reader alone has powered the card")
		}
		expect(t, "disconnect", direct.Disconnect(pcsc.LeaveCard), 0)

		second := w.connect(pcsc.ShareShared)
		_, err = second.Transmit(selectCommand)
		expect(t, "the next program", err, 0)
		_, err = first.Transmit(selectCommand)
		expect(t, "the first one", err, pcsc.ErrResetCard)
		expect(t, "reconnect", first.Reconnect(pcsc.ShareShared, pcsc.ProtocolAny, pcsc.LeaveCard), 0)
		_, err = first.Transmit(selectCommand)
		expect(t, "after it", err, 0)
		_, err = second.Transmit(selectCommand)
		expect(t, "which the other does not notice", err, 0)
	})
}

// TestStoppedCardReconnect: who is connected may bring the card back without asking for a reset.
func TestStoppedCardReconnect(t *testing.T) {
	inBothForms(t, settings{notify: true}, func(t *testing.T, w *world) {
		w.insert(&pcsctest.EchoCard{})
		card := w.connect(pcsc.ShareShared)
		w.slot.Stop()
		expect(t, "reconnect", card.Reconnect(pcsc.ShareShared, pcsc.ProtocolAny, pcsc.LeaveCard), 0)
		_, err := card.Transmit(selectCommand)
		expect(t, "transmit", err, 0)
	})
}

// TestStoppedCardInATransaction: nobody but its owner touches the card.
func TestStoppedCardInATransaction(t *testing.T) {
	inBothForms(t, settings{notify: true}, func(t *testing.T, w *world) {
		w.insert(&pcsctest.EchoCard{})
		first := w.connect(pcsc.ShareShared)
		expect(t, "begin", first.BeginTransaction(), 0)
		w.slot.Stop()
		connected := make(chan error, 1)
		go func() {
			card, err := w.establish().Connect(w.reader, pcsc.ShareShared, pcsc.ProtocolAny)
			if err == nil {
				_, err = card.Transmit(selectCommand)
			}
			connected <- err
		}()
		_, err := first.Transmit(selectCommand)
		expect(t, "in the transaction", err, pcsc.ErrNotTransacted)
		if !w.slot.Stopped() {
			t.Error("the card was powered anew in the middle of a transaction")
		}
		expect(t, "end", first.EndTransaction(pcsc.LeaveCard), 0)
		expect(t, "who has waited", <-connected, 0)
	})
}

// TestStoppedCardForGood: a card that does not come back is unresponsive, and each that connects tries it again.
func TestStoppedCardForGood(t *testing.T) {
	inBothForms(t, settings{notify: true}, func(t *testing.T, w *world) {
		w.insert(&pcsctest.EchoCard{})
		w.connect(pcsc.ShareShared)
		w.slot.Stop()
		w.fail("PowerUp", 608)
		for _, want := range []pcsc.Error{pcsc.ErrUnresponsiveCard, pcsc.ErrUnpoweredCard} {
			_, err := w.establish().Connect(w.reader, pcsc.ShareShared, pcsc.ProtocolAny)
			expect(t, "connect", err, want)
		}
		w.fail("PowerUp", 0)
		card := w.connect(pcsc.ShareShared)
		_, err := card.Transmit(selectCommand)
		expect(t, "transmit", err, 0)
	})
}
