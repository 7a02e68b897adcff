package ccidtest

import (
	"slices"

	"pam_pkcs11/ccid/device"
	"pam_pkcs11/internal/iso7816"
)

// front is how a card speaks to a reader of TPDU or character level: PPS first, then T=0 or T=1.
type front struct {
	slot   *slot
	atr    *iso7816.ATR // nil: it cannot be read
	active iso7816.Protocol
	fresh  bool // nothing has been exchanged since the reset: PPS is possible
	t0     t0
	bytes  *iso7816.T0Card // T=0 on character level
	t1     *iso7816.T1Card
	out    []byte // character level: what the card has sent and the host has not fetched
	part   []byte // character level: what the host has sent of something longer
}

func newFront(s *slot, atr []byte) *front {
	f := &front{slot: s, fresh: true}
	if a, err := iso7816.ParseATR(atr); err == nil {
		f.atr, f.active = a, a.DefaultProtocol()
	}
	f.start()
	return f
}

// start makes the card's engines.
func (f *front) start() {
	f.bytes = &iso7816.T0Card{Incoming: f.incoming, Nulls: f.slot.Nulls, ByteWise: f.slot.ByteWise}
	if f.atr == nil {
		return
	}
	d := &f.slot.reader.in.CCID
	c := iso7816.T1Config{IFSC: f.atr.IFSC(), EDC: f.atr.EDC()}
	if d.Features&device.FeatureIFSD != 0 {
		c.IFSD = int(min(max(d.MaxIFSD, 32), 254))
	}
	f.t1 = iso7816.NewT1Card(c)
}

// incoming tells by INS whether a command brings data, for cards that do not tell themselves.
func (f *front) incoming(ins byte) bool {
	if c, ok := f.slot.card.(interface{ Incoming(ins byte) bool }); ok {
		return c.Incoming(ins)
	}
	return slices.Contains([]byte{0x20, 0x24, 0x2C, 0x47, 0x82, 0x87, 0xA4, 0xCB, 0xD6, 0xDA, 0xDB}, ins)
}

func (f *front) protocol() byte { return byte(f.active) & 1 }

// parameters takes what SetParameters says.
func (f *front) parameters(protocol byte) { f.active = iso7816.Protocol(protocol) }

// exchange takes bytes for the card. want is the number of bytes the host wants of the answer, on character level.
func (f *front) exchange(data []byte, want int, character bool) (out []byte, code int) {
	d := &f.slot.reader.in.CCID
	if character && want == 0 {
		f.part = append(f.part, data...)
		return nil, succeeded
	}
	data, f.part = append(f.part, data...), nil
	if f.fresh && len(data) >= 3 && data[0] == 0xFF {
		if d.Features&(device.FeaturePPS|device.FeatureNegotiation) != 0 {
			f.slot.reader.device.counts.Violations++
		}
		out, code = f.pps(data)
		if character && code == succeeded {
			f.out = append(f.out[:0], out...)
			return f.fetch(want)
		}
		return out, code
	}
	if f.fresh && d.Features&device.FeatureNegotiation != 0 && isT1Block(data, f.atr) {
		f.active = iso7816.ProtocolT1 // a reader that negotiates finds out by itself
	}
	f.fresh = f.fresh && len(data) == 0
	switch {
	case character && f.active == iso7816.ProtocolT1:
		return f.characterT1(data, want)
	case character:
		return f.characterT0(data, want)
	case f.active == iso7816.ProtocolT1:
		return f.exchangeT1(data)
	}
	return f.t0.exchange(f.slot.ask, data)
}

func isT1Block(b []byte, atr *iso7816.ATR) bool {
	return atr != nil && atr.Offers(iso7816.ProtocolT1) && len(b) >= 4 && iso7816.T1BlockLength(b, atr.EDC()) == len(b) &&
		(atr.EDC() == iso7816.EDCCRC || iso7816.LRC(b) == 0)
}

// pps confirms what the host asks for, unless the card is of those that refuse.
func (f *front) pps(request []byte) ([]byte, int) {
	response, p, _, ok := iso7816.AnswerPPS(request)
	if !ok || f.slot.RefusePPS {
		return nil, errMute
	}
	f.active = p
	return response, succeeded
}

// exchangeT1 takes a block and gives the card's.
func (f *front) exchangeT1(block []byte) ([]byte, int) {
	step := f.t1.Receive(block)
	for step.Send == nil {
		switch {
		case step.Command != nil && f.slot.WTX > 0:
			f.slot.WTX--
			f.slot.delayed = slices.Clone(step.Command)
			step = f.t1.RequestWTX(2)
		case step.Command != nil:
			step = f.run(step.Command)
		case step.Extended && f.slot.delayed != nil:
			command := f.slot.delayed
			f.slot.delayed = nil
			if f.slot.WTX > 0 {
				f.slot.WTX--
				f.slot.delayed = command
				step = f.t1.RequestWTX(2)
				continue
			}
			step = f.run(command)
		default:
			return nil, errMute
		}
	}
	return slices.Clone(step.Send), succeeded
}

func (f *front) run(command []byte) iso7816.CardStep {
	response, err := f.slot.ask(slices.Clone(command))
	if err != nil {
		return iso7816.CardStep{}
	}
	return f.t1.Respond(response)
}

func (f *front) characterT1(data []byte, want int) ([]byte, int) {
	if len(data) > 0 {
		out, code := f.exchangeT1(data)
		if code != succeeded {
			return nil, code
		}
		f.out = out
	}
	return f.fetch(want)
}

func (f *front) characterT0(data []byte, want int) ([]byte, int) {
	if len(data) > 0 {
		step := f.bytes.Receive(data)
		if step.Command != nil {
			answer, code := f.t0.exchange(f.slot.ask, slices.Clone(step.Command))
			body, sw, err := iso7816.ParseResponse(answer)
			if code != succeeded || err != nil {
				return nil, errMute
			}
			step = f.bytes.Respond(body, sw)
		}
		f.out = slices.Clone(step.Send)
	}
	return f.fetch(want)
}

// fetch gives what the host wants of what the card has sent.
func (f *front) fetch(want int) ([]byte, int) {
	n := min(want, len(f.out))
	if n == 0 {
		return nil, errMute
	}
	out := slices.Clone(f.out[:n])
	f.out = f.out[n:]
	return out, succeeded
}

// t0 is the transport layer of a T=0 card on TPDU level.
type t0 struct {
	waiting []byte // what GET RESPONSE fetches
	refused []byte // the answer whose length was 6Cxx, and its header
	header  [4]byte
}

// exchange does one TPDU: case 1, 2 or 3. Of a case 4 command the last byte is left out, as readers do.
func (t *t0) exchange(ask asker, c []byte) ([]byte, int) {
	if len(c) > 5 && len(c) == 6+int(c[4]) {
		c = c[:len(c)-1]
	}
	if len(c) < 4 || len(c) > 5 && len(c) != 5+int(c[4]) {
		return nil, errBadLength
	}
	if len(c) == 5 && c[1] == 0xC0 && t.waiting != nil {
		return t.fetch(int(c[4])), succeeded
	}
	t.waiting = nil
	out, err := t.answer(ask, c)
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
func (t *t0) answer(ask asker, c []byte) ([]byte, error) {
	refused := t.refused
	t.refused = nil
	if refused != nil && len(c) == 5 && [4]byte(c) == t.header {
		return refused, nil
	}
	return ask(c)
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
