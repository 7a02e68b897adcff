package ccidtest

// front is how a card speaks to a reader of TPDU or character level.
type front interface {
	// protocol is the one that is in force: 0 or 1.
	protocol() byte
	// parameters takes what SetParameters says.
	parameters(protocol byte, data []byte)
	// exchange takes bytes for the card. want is the number of bytes the host wants of the answer, on character level.
	exchange(data []byte, want int, character bool) (out []byte, code int)
}

// firstProtocol is the protocol that an ATR offers first: the low nibble of TD1, or 0.
func firstProtocol(atr []byte) byte {
	if len(atr) < 2 || atr[1]&0x80 == 0 {
		return 0
	}
	at := 2
	for bit := byte(0x10); bit < 0x80; bit <<= 1 {
		if atr[1]&bit != 0 {
			at++
		}
	}
	if at >= len(atr) {
		return 0
	}
	return atr[at] & 0x0F
}

// line is the front of one card: T=0 or T=1, whichever was agreed, and PPS before that.
type line struct {
	slot   *slot
	active byte
	fresh  bool // nothing has been exchanged since the reset: PPS is possible
	t0     t0
}

func newFront(s *slot, atr []byte) front {
	return &line{slot: s, active: firstProtocol(atr) & 1, fresh: true}
}

func (l *line) protocol() byte { return l.active }

func (l *line) parameters(protocol byte, _ []byte) { l.active = protocol }

func (l *line) exchange(data []byte, want int, character bool) ([]byte, int) {
	if l.fresh && len(data) >= 3 && data[0] == 0xFF {
		return l.pps(data)
	}
	l.fresh = false
	if character {
		return nil, errNotSupported
	}
	return l.t0.exchange(l.slot.card, data)
}

// pps confirms what the host asks for (ISO 7816-3, section 9).
func (l *line) pps(request []byte) ([]byte, int) {
	var check byte
	for _, b := range request {
		check ^= b
	}
	if check != 0 {
		return nil, errMute
	}
	l.active = request[1] & 0x0F
	return request, succeeded
}

// t0 is the transport layer of a T=0 card on TPDU level.
type t0 struct {
	waiting []byte // what GET RESPONSE fetches
	refused []byte // the answer whose length was 6Cxx, and its header
	header  [4]byte
}

// exchange does one TPDU: case 1, 2 or 3.
func (t *t0) exchange(card Card, c []byte) ([]byte, int) {
	if len(c) < 4 || len(c) > 5 && len(c) != 5+int(c[4]) {
		return nil, errBadLength
	}
	if len(c) == 5 && c[1] == 0xC0 && t.waiting != nil {
		return t.fetch(int(c[4])), succeeded
	}
	t.waiting = nil
	out, err := t.answer(card, c)
	if err != nil || len(out) < 2 {
		return nil, errMute
	}
	n := len(out) - 2
	switch {
	case n == 0:
		return out, succeeded
	case len(c) > 5:
		t.waiting = out
		return []byte{0x61, byte(min(n, 256))}, succeeded
	case len(c) == 5 && (n == int(c[4]) || n == 256 && c[4] == 0):
		return out, succeeded
	case n > 256:
		t.waiting = out
		return []byte{0x61, 0}, succeeded
	}
	t.refused, t.header = out, [4]byte(c)
	return []byte{0x6C, byte(n)}, succeeded
}

// answer asks the card, unless it has answered already and only the length was wrong.
func (t *t0) answer(card Card, c []byte) ([]byte, error) {
	refused := t.refused
	t.refused = nil
	if refused != nil && len(c) == 5 && [4]byte(c) == t.header {
		return refused, nil
	}
	return card.Transmit(c)
}

// fetch is GET RESPONSE.
func (t *t0) fetch(le int) []byte {
	if le == 0 {
		le = 256
	}
	n := len(t.waiting) - 2
	if n <= le {
		out := t.waiting
		t.waiting = nil
		return out
	}
	out := append([]byte(nil), t.waiting[:le]...)
	t.waiting = t.waiting[le:]
	return append(out, 0x61, byte(min(n-le, 256)))
}
