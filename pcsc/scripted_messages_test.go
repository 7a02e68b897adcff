package pcsc_test

import (
	"bytes"
	"encoding/binary"
	"testing"

	"pam_pkcs11/pcsc"
	"pam_pkcs11/pcsc/pcsctest"
)

// Every message of a card's use, byte for byte, on the version of the client. The answer is the request with what the
// daemon has to say filled in.
func TestMessagesOnTheWire(t *testing.T) {
	inDaemons(t, settings{}, func(t *testing.T, w *world) {
		minors := []int32{3, 4, 5, 6}
		if stockIsTested() {
			minors = []int32{4}
		}
		w.slot.Provide(uint32(pcsc.AttrVendorName), []byte("nobody"))
		w.insert(&pcsctest.EchoCard{})
		for _, minor := range minors {
			s := w.script(minor)
			s.useOfACard()
			s.errorsOfACard()
			s.silent()
			s.conn.Close()
		}
	})
}

// same compares an answer.
func (s *script) same(what string, got []byte, want ...[]byte) {
	s.t.Helper()
	if w := bytes.Join(want, nil); !bytes.Equal(got, w) {
		s.t.Errorf("%s: %X, want %X", what, got, w)
	}
}

// askWith is ask with data behind the body.
func (s *script) askWith(command uint32, body, data []byte, n int) []byte {
	s.t.Helper()
	s.send(command, body, data...)
	return s.receive(n)
}

func (s *script) useOfACard() {
	s.t.Helper()
	request := s.connectMessage(s.sc, reader, 2, 3)
	got := s.ask(0x04, request, 152)
	h := s.word(got, 140)
	s.same("connect", got, request[:140], s.words(h, 2, 0))
	s.same("status", s.ask(0x0B, s.words(h, 0), 8), s.words(h, 0))
	s.same("begin", s.ask(0x07, s.words(h, 0), 8), s.words(h, 0))

	command := []byte{0, 0xA4, 4, 0, 0}
	got = s.askWith(0x09, s.words(h, 2, 16, 5, 3, 16, 300, 0), command, 32+7)
	s.same("transmit: handle and request", got[:16], s.words(h, 2, 16, 5))
	s.same("transmit: length and result", got[24:32], s.words(7, 0))
	s.same("transmit: answer", got[32:], command, []byte{0x90, 0})

	got = s.askWith(0x0A, s.words(h, 0x42000001, 3, 300, 0, 0), []byte{1, 2, 3}, 24+3)
	s.same("control", got, s.words(h, 0x42000001, 3, 300, 3, 0), []byte{1, 2, 3})

	attribute := make([]byte, 280)
	copy(attribute, s.words(h, uint32(pcsc.AttrVendorName)))
	binary.NativeEndian.PutUint32(attribute[272:], 264)
	got = s.ask(0x0F, attribute, 280)
	s.same("attribute", got[8:14], []byte("nobody"))
	s.same("attribute: length and result", got[272:], s.words(6, 0))
	copy(attribute[8:], "nobody")
	binary.NativeEndian.PutUint32(attribute[272:], 6)
	got = s.ask(0x10, attribute, 280)
	s.same("set attribute: result", got[276:], s.words(0))

	s.same("end", s.ask(0x08, s.words(h, 0, 0), 12), s.words(h, 0, 0))
	s.same("reconnect", s.ask(0x05, s.words(h, 2, 3, 1, 0, 0), 24), s.words(h, 2, 3, 1, 2, 0))
	s.same("disconnect", s.ask(0x06, s.words(h, 0, 0), 12), s.words(h, 0, 0))
}

// errorsOfACard leaves a released context behind.
func (s *script) errorsOfACard() {
	s.t.Helper()
	h, result := s.connect(reader, 2)
	if result != 0 {
		s.t.Fatalf("connect: %X", result)
	}
	command := []byte{0, 0xA4, 4, 0, 0}
	got := s.askWith(0x09, s.words(h, 2, 16, 5, 3, 16, 4, 0), command, 32)
	s.same("transmit with little room: the true length, and no data", got[24:], s.words(7, uint32(pcsc.ErrInsufficientBuffer)))
	got = s.askWith(0x09, s.words(h, 1, 16, 5, 3, 16, 300, 0), command, 32)
	s.same("transmit under another protocol", got[28:], s.words(uint32(pcsc.ErrProtoMismatch)))
	got = s.askWith(0x0A, s.words(h, 0x42000007, 0, 300, 0, 0), nil, 24)
	s.same("unknown control", got[16:], s.words(0, uint32(pcsc.ErrUnsupportedFeature)))
	got = s.askWith(0x0A, s.words(h, 0x42000001, 3, 2, 0, 0), []byte{1, 2, 3}, 24)
	s.same("control with little room", got[20:], s.words(uint32(pcsc.ErrInsufficientBuffer)))
	attribute := make([]byte, 280)
	copy(attribute, s.words(h, 0x12345))
	binary.NativeEndian.PutUint32(attribute[272:], 264)
	s.same("unknown attribute", s.ask(0x0F, attribute, 280)[276:], s.words(uint32(pcsc.ErrUnsupportedFeature)))
	copy(attribute, s.words(h, uint32(pcsc.AttrVendorName)))
	binary.NativeEndian.PutUint32(attribute[272:], 3)
	s.same("attribute with little room", s.ask(0x0F, attribute, 280)[276:], s.words(uint32(pcsc.ErrInsufficientBuffer)))
	s.same("end of nothing", s.ask(0x08, s.words(h, 0, 0), 12)[8:], s.words(uint32(pcsc.ErrNotTransacted)))
	s.same("reconnect as nothing", s.ask(0x05, s.words(h, 2, 0, 0, 0, 0), 24)[20:], s.words(uint32(pcsc.ErrProtoMismatch)))
	s.same("disconnect in a way there is not", s.ask(0x06, s.words(h, 7, 0), 12), s.words(h, 7, uint32(pcsc.ErrInvalidValue)))
	s.same("release", s.ask(0x02, s.words(s.sc, 0), 8), s.words(s.sc, 0))
}
