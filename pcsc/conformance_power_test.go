package pcsc_test

import (
	"bytes"
	"fmt"
	"testing"

	"pam_pkcs11/internal/slowtest"
	"pam_pkcs11/pcsc"
	"pam_pkcs11/pcsc/pcsctest"
)

// powerRules are about power, protocols and what a driver may answer.
var powerRules = []rule{
	{"B.8", "an unused card is switched off, which nobody sees, and on again for the next", "", func(t *testing.T, w *world) {
		w.insert(&pcsctest.EchoCard{})
		before := w.states()[0]
		w.awaitPower(false)
		after := w.states()[0]
		if after.EventState != before.EventState || !bytes.Equal(after.ATR, before.ATR) {
			t.Errorf("state %X and ATR %X have become %X and %X", before.EventState, before.ATR, after.EventState, after.ATR)
		}
		card := w.connect(pcsc.ShareShared)
		_, err := card.Transmit(selectCommand)
		expect(t, "transmit", err, 0)
		expect(t, "disconnect", card.Disconnect(pcsc.LeaveCard), 0)
		w.awaitPower(false)
	}},
	{"B.8", "resets are no movements: the counter stays", "", func(t *testing.T, w *world) {
		w.insert(&pcsctest.EchoCard{})
		before := w.states()[0].EventState >> 16
		card := w.connect(pcsc.ShareShared)
		expect(t, "reset", card.Reconnect(pcsc.ShareShared, pcsc.ProtocolAny, pcsc.ResetCard), 0)
		expect(t, "unpower", card.Reconnect(pcsc.ShareShared, pcsc.ProtocolAny, pcsc.UnpowerCard), 0)
		if after := w.states()[0].EventState >> 16; after != before || before == 0 {
			t.Errorf("counter %d, then %d", before, after)
		}
	}},
	{"B.7", "reset is a warm reset, unpower is off and on", "", func(t *testing.T, w *world) {
		w.insert(&pcsctest.EchoCard{})
		card := w.connect(pcsc.ShareShared)
		resets, offs := w.slot.Calls("Reset"), w.slot.Calls("PowerDown")
		expect(t, "reset", card.Reconnect(pcsc.ShareShared, pcsc.ProtocolAny, pcsc.ResetCard), 0)
		if w.slot.Calls("Reset") != resets+1 || w.slot.Calls("PowerDown") != offs {
			t.Errorf("%d resets, %d times off", w.slot.Calls("Reset"), w.slot.Calls("PowerDown"))
		}
		expect(t, "unpower", card.Reconnect(pcsc.ShareShared, pcsc.ProtocolAny, pcsc.UnpowerCard), 0)
		if w.slot.Calls("Reset") != resets+1 || w.slot.Calls("PowerDown") != offs+1 {
			t.Errorf("%d resets, %d times off", w.slot.Calls("Reset"), w.slot.Calls("PowerDown"))
		}
	}},
	{"B.7", "disconnect with unpower leaves the card off and there", "", func(t *testing.T, w *world) {
		w.insert(&pcsctest.EchoCard{})
		card := w.connect(pcsc.ShareShared)
		expect(t, "disconnect", card.Disconnect(pcsc.UnpowerCard), 0)
		if w.slot.Powered() {
			t.Error("the card is on")
		}
		if s := w.states()[0]; s.EventState&0xFFFF != pcsc.StatePresent|pcsc.StateChanged {
			t.Errorf("state %X", s.EventState)
		}
		_, err := w.connect(pcsc.ShareShared).Transmit(selectCommand)
		expect(t, "transmit of the next", err, 0)
	}},
	{"B.7", "after a reset the protocol is chosen anew", "", func(t *testing.T, w *world) {
		w.insert(&pcsctest.EchoCard{})
		card := w.connect(pcsc.ShareShared)
		expect(t, "another protocol without reset", card.Reconnect(pcsc.ShareShared, pcsc.ProtocolT0, pcsc.LeaveCard), pcsc.ErrProtoMismatch)
		expect(t, "another protocol with reset", card.Reconnect(pcsc.ShareShared, pcsc.ProtocolT0, pcsc.ResetCard), 0)
		if p := card.ActiveProtocol(); p != pcsc.ProtocolT0 {
			t.Errorf("protocol %v", p)
		}
		_, err := card.Transmit(selectCommand)
		expect(t, "transmit", err, 0)
	}},
	{"B.7", "a direct connection powers nothing, and transmits under raw only", "its reconnect to a card that is off does not switch it on: the next transmit is NOT_TRANSACTED", func(t *testing.T, w *world) {
		w.insert(&pcsctest.EchoCard{})
		w.awaitPower(false)
		card := w.connect(pcsc.ShareDirect)
		if w.slot.Powered() {
			t.Error("the card is on")
		}
		_, err := w.service.Transmit(card.Handle(), pcsc.ProtocolT1, selectCommand, 300)
		expect(t, "transmit", err, pcsc.ErrProtoMismatch)
		if s := w.states()[0]; s.EventState&pcsc.StateInuse == 0 {
			t.Errorf("state %X", s.EventState)
		}
		expect(t, "to the card", card.Reconnect(pcsc.ShareShared, pcsc.ProtocolAny, pcsc.LeaveCard), 0)
		_, err = card.Transmit(selectCommand)
		expect(t, "transmit", err, 0)
	}},
	{"B.7", "raw is possible beside a negotiated protocol", "", func(t *testing.T, w *world) {
		w.insert(&pcsctest.EchoCard{})
		card := w.connect(pcsc.ShareShared)
		_, err := w.service.Transmit(card.Handle(), pcsc.ProtocolRaw, selectCommand, 300)
		expect(t, "transmit", err, 0)
	}},
	{"B.7", "the old constant for any protocol", "", func(t *testing.T, w *world) {
		w.insert(&pcsctest.EchoCard{})
		card, err := w.establish().Connect(w.reader, pcsc.ShareShared, pcsc.ProtocolAnyOld)
		expect(t, "connect", err, 0)
		if err == nil && card.ActiveProtocol() != pcsc.ProtocolT1 {
			t.Errorf("protocol %v", card.ActiveProtocol())
		}
	}},
	{"B.7", "a protocol that the reader refuses: the card's first, if it was asked for", "gives T=0 though T=1 alone was asked for", func(t *testing.T, w *world) {
		w.fail("SetProtocol", pcsc.ErrorCodeProtocolNot)
		w.insert(&pcsctest.EchoCard{}) // T=0 first, then T=1
		_, err := w.establish().Connect(w.reader, pcsc.ShareShared, pcsc.ProtocolT1)
		expect(t, "T=1 alone", err, pcsc.ErrProtoMismatch)
	}},
	{"B.7", "a protocol that cannot be set: UNRESPONSIVE_CARD", "", func(t *testing.T, w *world) {
		w.fail("SetProtocol", pcsc.ErrorCodeCommunication)
		w.insert(&pcsctest.EchoCard{})
		_, err := w.establish().Connect(w.reader, pcsc.ShareShared, pcsc.ProtocolAny)
		expect(t, "connect", err, pcsc.ErrUnresponsiveCard)
	}},
	{"B.7", "a card that goes while the protocol is set: NO_SMARTCARD", "says UNRESPONSIVE_CARD", func(t *testing.T, w *world) {
		w.fail("SetProtocol", pcsc.ErrorCodeNotPresent)
		w.insert(&pcsctest.EchoCard{})
		_, err := w.establish().Connect(w.reader, pcsc.ShareShared, pcsc.ProtocolAny)
		expect(t, "connect", err, pcsc.ErrNoSmartcard)
	}},
	{"B.7", "a card that does not come up again: UNPOWERED_CARD at connect", "says PROTO_MISMATCH", func(t *testing.T, w *world) {
		w.insert(&pcsctest.EchoCard{})
		w.awaitPower(false)
		w.fail("PowerUp", pcsc.ErrorCodePowerAction)
		_, err := w.establish().Connect(w.reader, pcsc.ShareShared, pcsc.ProtocolAny)
		expect(t, "connect", err, pcsc.ErrUnpoweredCard)
	}},
	{"B.7", "a reset that fails: UNRESPONSIVE_CARD, and the card is mute", "", func(t *testing.T, w *world) {
		w.insert(&pcsctest.EchoCard{})
		card := w.connect(pcsc.ShareShared)
		w.fail("Reset", pcsc.ErrorCodePowerAction)
		w.fail("PowerUp", pcsc.ErrorCodePowerAction)
		expect(t, "reset", card.Reconnect(pcsc.ShareShared, pcsc.ProtocolAny, pcsc.ResetCard), pcsc.ErrUnresponsiveCard)
		if s := w.states()[0]; s.EventState&(pcsc.StatePresent|pcsc.StateMute) != pcsc.StatePresent|pcsc.StateMute {
			t.Errorf("state %X", s.EventState)
		}
		w.fail("Reset", 0)
		w.fail("PowerUp", 0)
		expect(t, "reset again", card.Reconnect(pcsc.ShareShared, pcsc.ProtocolAny, pcsc.ResetCard), 0)
		_, err := card.Transmit(selectCommand)
		expect(t, "transmit", err, 0)
	}},
	{"B.7", "what a driver says of a transmit", "", func(t *testing.T, w *world) {
		w.insert(&pcsctest.EchoCard{})
		card := w.connect(pcsc.ShareShared)
		for code, want := range map[int]pcsc.Error{
			pcsc.ErrorCodeCommunication: pcsc.ErrNotTransacted, pcsc.ErrorCodeTimeout: pcsc.ErrNotTransacted,
			pcsc.ErrorCodeUnsupported: pcsc.ErrNotTransacted, pcsc.ErrorCodeNoSuchDevice: pcsc.ErrReaderUnavailable,
		} {
			w.fail("Transmit", code)
			_, err := card.Transmit(selectCommand)
			expect(t, pcsctest.IFDError(code).Error(), err, want)
		}
		w.fail("Transmit", 0)
		_, err := card.Transmit(selectCommand)
		expect(t, "afterwards", err, 0)
	}},
	{"B.7", "no card at a transmit: NO_SMARTCARD, and the reader is empty", "", func(t *testing.T, w *world) {
		w.insert(&pcsctest.EchoCard{})
		card := w.connect(pcsc.ShareShared)
		w.fail("Transmit", pcsc.ErrorCodeNotPresent)
		w.fail("Present", pcsc.ErrorCodeNotPresent) // the card has gone and nobody has said so yet
		_, err := card.Transmit(selectCommand)
		expect(t, "transmit", err, pcsc.ErrNoSmartcard)
		w.await(pcsc.StateEmpty)
	}},
	{"B.7", "what a driver says of a control", "", func(t *testing.T, w *world) {
		card := w.connect(pcsc.ShareDirect)
		for code, want := range map[int]pcsc.Error{
			pcsc.ErrorCodeCommunication: pcsc.ErrNotTransacted, pcsc.ErrorCodeUnsupported: pcsc.ErrUnsupportedFeature,
			pcsc.ErrorCodeNotSupported: pcsc.ErrUnsupportedFeature, pcsc.ErrorCodeInsufficientBuffer: pcsc.ErrInsufficientBuffer,
			pcsc.ErrorCodeNoSuchDevice: pcsc.ErrReaderUnavailable, pcsc.ErrorCodeTimeout: pcsc.ErrNotTransacted,
		} {
			w.fail("Control", code)
			_, err := card.Control(pcsc.CtlCode(1), nil)
			expect(t, pcsctest.IFDError(code).Error(), err, want)
		}
	}},
	{"B.7", "what a driver says of an attribute", "", func(t *testing.T, w *world) {
		card := w.connect(pcsc.ShareDirect)
		for code, want := range map[int]pcsc.Error{
			pcsc.ErrorCodeCommunication: pcsc.ErrNotTransacted, pcsc.ErrorCodeTag: pcsc.ErrUnsupportedFeature,
			pcsc.ErrorCodeInsufficientBuffer: pcsc.ErrInsufficientBuffer,
		} {
			w.fail("Attribute", code)
			_, err := card.GetAttrib(pcsc.AttrVendorName)
			expect(t, "get: "+pcsctest.IFDError(code).Error(), err, want)
		}
		for code, want := range map[int]pcsc.Error{
			pcsc.ErrorCodeCommunication: pcsc.ErrNotTransacted, pcsc.ErrorCodeTag: pcsc.ErrUnsupportedFeature,
		} {
			w.fail("SetAttribute", code)
			expect(t, "set: "+pcsctest.IFDError(code).Error(), card.SetAttrib(pcsc.AttrSuppressT1IFSRequest, []byte{1}), want)
		}
	}},
	{"B.7", "attributes are read and written", "", func(t *testing.T, w *world) {
		w.slot.Provide(uint32(pcsc.AttrVendorName), []byte("nobody"))
		card := w.connect(pcsc.ShareDirect)
		value, err := card.GetAttrib(pcsc.AttrVendorName)
		if err != nil || string(value) != "nobody" {
			t.Errorf("%q %v", value, err)
		}
		expect(t, "set", card.SetAttrib(pcsc.AttrVendorName, []byte("somebody")), 0)
		value, err = card.GetAttrib(pcsc.AttrVendorName)
		if err != nil || string(value) != "somebody" {
			t.Errorf("%q %v", value, err)
		}
	}},
	{"G", "the request for features works on a direct and on a shared connection", "", func(t *testing.T, w *world) {
		features := []byte{0x12, 4, 0x42, 0x33, 0, 0x12}
		w.slot.Answer(pcsc.CtlCode(3400), features)
		for _, mode := range []pcsc.ShareMode{pcsc.ShareDirect, pcsc.ShareShared} {
			if mode == pcsc.ShareShared {
				w.insert(&pcsctest.EchoCard{})
			}
			got, err := w.connect(mode).Control(pcsc.CtlCode(3400), nil)
			if err != nil || !bytes.Equal(got, features) {
				t.Errorf("%X %v", got, err)
			}
		}
	}},
	{"G", "one failing reader does not affect the others", "", func(t *testing.T, w *world) {
		w.second.Insert(&pcsctest.EchoCard{})
		for _, call := range []string{"Present", "PowerUp", "Control", "Attribute"} {
			w.fail(call, pcsc.ErrorCodeCommunication)
		}
		w.slot.Insert(&pcsctest.EchoCard{})
		w.reader = "Other Reader 01 00"
		w.await(pcsc.StatePresent)
		_, err := w.connect(pcsc.ShareShared).Transmit(selectCommand)
		expect(t, "transmit", err, 0)
	}},
}

// unavailableRules are about a reader that does not say whether a card is there.
var unavailableRules = []rule{
	{"B.5", "such a reader is UNAVAILABLE, a movement, and connect is refused; it recovers", "counts one movement, and lets handles of before go on to PROTO_MISMATCH", func(t *testing.T, w *world) {
		w.insert(&pcsctest.EchoCard{})
		card := w.connect(pcsc.ShareShared)
		before := w.states()[0].EventState >> 16
		w.fail("Present", pcsc.ErrorCodeCommunication)
		w.slot.Stir()
		s := w.await(pcsc.StateUnavailable)
		if s.EventState&(pcsc.StatePresent|pcsc.StateEmpty) != 0 || len(s.ATR) != 0 || s.EventState>>16 != before {
			t.Errorf("state %X, counter was %d", s.EventState, before)
		}
		_, err := w.establish().Connect(w.reader, pcsc.ShareDirect, 0)
		expect(t, "connect", err, pcsc.ErrReaderUnavailable)
		_, err = card.Transmit(selectCommand)
		expect(t, "transmit", err, pcsc.ErrReaderUnavailable)
		_, err = card.Control(pcsc.CtlCode(1), nil)
		expect(t, "control", err, pcsc.ErrReaderUnavailable)
		expect(t, "begin", card.BeginTransaction(), pcsc.ErrReaderUnavailable)
		expect(t, "reconnect", card.Reconnect(pcsc.ShareShared, pcsc.ProtocolAny, pcsc.LeaveCard), pcsc.ErrReaderUnavailable)
		w.fail("Present", 0)
		w.slot.Stir()
		if s := w.await(pcsc.StatePresent); s.EventState>>16 != before+2 {
			t.Errorf("state %X, counter was %d", s.EventState, before)
		}
		_, err = card.Transmit(selectCommand)
		expect(t, "transmit", err, pcsc.ErrRemovedCard)
		expect(t, "reconnect", card.Reconnect(pcsc.ShareShared, pcsc.ProtocolAny, pcsc.LeaveCard), 0)
		_, err = card.Transmit(selectCommand)
		expect(t, "transmit", err, 0)
	}},
}

// awaitPower waits until the card is on or off.
func (w *world) awaitPower(on bool) {
	w.t.Helper()
	slowtest.Until(w.t, fmt.Sprintf("a card with power %v", on), func() bool { return w.slot.Powered() == on })
}
