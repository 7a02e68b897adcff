package pcsc

import (
	"bytes"
	"testing"

	"pam_pkcs11/pcsc/internal/wire"
)

// FuzzMessages: every structure decodes, then encodes to the same bytes, or fails.
func FuzzMessages(f *testing.F) {
	for _, n := range []int{0, 4, 8, 12, 24, 32, 152, 184, 280} {
		f.Add(bytes.Repeat([]byte{0xA5}, n))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		checkMessage[wire.Header](t, b)
		checkMessage[wire.VersionMessage](t, b)
		checkMessage[wire.EstablishMessage](t, b)
		checkMessage[wire.ContextMessage](t, b)
		checkMessage[wire.ConnectMessage](t, b)
		checkMessage[wire.ReconnectMessage](t, b)
		checkMessage[wire.DispositionMessage](t, b)
		checkMessage[wire.HandleMessage](t, b)
		checkMessage[wire.TransmitMessage](t, b)
		checkMessage[wire.ControlMessage](t, b)
		checkMessage[wire.AttribMessage](t, b)
		checkMessage[wire.WaitMessage](t, b)
		checkMessage[wire.ReaderEventsMessage](t, b)
		checkMessage[wire.ReaderStateMessage](t, b)
		checkMessage[wire.SizeMessage](t, b)
		parseStates(b)
		OfferedProtocols(b)
	})
}

// checkMessage decodes b as an M, if it has its size, and encodes it again.
func checkMessage[M wire.Message](t *testing.T, b []byte) {
	t.Helper()
	var m M
	if wire.Decode(&m, b) == nil && !bytes.Equal(wire.Append(nil, &m), b) {
		t.Errorf("%T changes %X to %X", m, b, wire.Append(nil, &m))
	}
}

func FuzzStatusChange(f *testing.F) {
	f.Add(uint32(0), uint32(0x34), int32(1), uint32(1))
	f.Fuzz(func(t *testing.T, current, state uint32, sharing int32, counter uint32) {
		p := &ReaderInfo{Name: "R", State: State(state), Sharing: sharing, EventCounter: counter}
		s := ReaderState{Reader: "R", CurrentState: StateFlag(current)}
		compareReader(p, &s)
		// What was answered is no change any more.
		again := ReaderState{Reader: "R", CurrentState: s.EventState &^ StateChanged}
		if s.EventState&0xFFFF&^StateChanged != 0 && compareReader(p, &again) {
			t.Errorf("state %X sharing %d is news twice: %X", state, sharing, s.EventState)
		}
	})
}
