package ccidtest

import (
	"slices"

	"pam_pkcs11/ccid/device"
	"pam_pkcs11/internal/iso7816"
)

// front is the side of a card that a reader of TPDU or character level meets: PPS first, then T=0
// or T=1.
type front struct {
	slot   *slot
	atr    *iso7816.ATR // nil: it cannot be read
	active iso7816.Protocol
	fresh  bool // nothing has been exchanged since the reset: PPS is possible
	t0     t0
	bytes  *iso7816.T0Card // T=0 on character level
	t1     *iso7816.T1Card
	out    []byte // character level: what the card has sent and the host has not fetched
	part   []byte // character level: the beginning of what the host sends in pieces
}

func newFront(s *slot, atr []byte) *front {
	f := &front{slot: s, fresh: true}
	if a, err := iso7816.ParseATR(atr); err == nil {
		f.atr = a
		f.active = a.DefaultProtocol()
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
	// Such a reader has told the card its IFSD before the host sends anything.
	if d.Features&device.FeatureIFSD != 0 {
		c.IFSD = int(min(max(d.MaxIFSD, 32), 254))
	}
	f.t1 = iso7816.NewT1Card(c)
}

// incoming reports whether a command brings data, by its INS when the card does not say it.
func (f *front) incoming(ins byte) bool {
	if c, ok := f.slot.card.(interface{ Incoming(ins byte) bool }); ok {
		return c.Incoming(ins)
	}
	// VERIFY, SELECT, PUT DATA and the others of ISO/IEC 7816-4 and -8 that the tests' cards know.
	withData := []byte{0x20, 0x24, 0x2C, 0x47, 0x82, 0x87, 0xA4, 0xCB, 0xD6, 0xDA, 0xDB}
	return slices.Contains(withData, ins)
}

// protocol is the number of the active protocol, 0 or 1.
func (f *front) protocol() byte { return byte(f.active) & 1 }

// parameters stores the protocol of SetParameters.
func (f *front) parameters(protocol byte) { f.active = iso7816.Protocol(protocol) }

// exchange sends bytes to the card. want is the number of bytes that the host wants of the answer,
// on character level.
func (f *front) exchange(data []byte, want int, character bool) (out []byte, code int) {
	d := &f.slot.reader.in.CCID

	// What is longer than a message comes in pieces, of which all but the last want nothing.
	if character && want == 0 {
		f.part = append(f.part, data...)
		return nil, succeeded
	}
	data = append(f.part, data...)
	f.part = nil

	if f.fresh && len(data) >= 3 && data[0] == 0xFF {
		// These readers make the PPS themselves: a host that sends one would disturb them.
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
		// A reader that negotiates chooses the protocol itself, without SetParameters.
		f.active = iso7816.ProtocolT1
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

// isT1Block reports whether bytes are a T=1 block, as far as length and LRC show it.
func isT1Block(b []byte, atr *iso7816.ATR) bool {
	if atr == nil || !atr.Offers(iso7816.ProtocolT1) || len(b) < 4 {
		return false
	}
	if iso7816.T1BlockLength(b, atr.EDC()) != len(b) {
		return false
	}
	return atr.EDC() == iso7816.EDCCRC || iso7816.LRC(b) == 0
}

// pps confirms a request, unless the card is one that refuses.
func (f *front) pps(request []byte) ([]byte, int) {
	response, p, _, ok := iso7816.AnswerPPS(request)
	if !ok || f.slot.RefusePPS {
		return nil, errMute
	}
	f.active = p
	return response, succeeded
}

// exchangeT1 gives the card a block and returns the card's.
func (f *front) exchangeT1(block []byte) ([]byte, int) {
	step := f.t1.Receive(block)
	for step.Send == nil {
		// The card asks for time first, and answers when it has been granted often enough.
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
			// The same command waits once more, as often as Habits.WTX asks for.
			if f.slot.WTX > 0 {
				f.slot.WTX--
				f.slot.delayed = command
				step = f.t1.RequestWTX(2)
				continue
			}

			step = f.run(command)
		default:
			// The card has nothing to say: it was taken out, or did not answer.
			return nil, errMute
		}
	}
	return slices.Clone(step.Send), succeeded
}

// run has the card answer a command; without an answer there is no block.
func (f *front) run(command []byte) iso7816.CardStep {
	response, err := f.slot.ask(slices.Clone(command))
	if err != nil {
		return iso7816.CardStep{}
	}
	return f.t1.Respond(response)
}

// characterT1 sends a block, if data has one, and returns a part of the answer.
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

// characterT0 sends bytes of a TPDU, if there are any, and returns a part of the answer.
func (f *front) characterT0(data []byte, want int) ([]byte, int) {
	if len(data) > 0 {
		step := f.bytes.Receive(data)
		if step.Command != nil {
			// The layer below makes 61xx and 6Cxx of an answer, as for a reader of TPDU level.
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

// fetch returns the part that the host wants of what the card has sent.
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
	waiting []byte  // what GET RESPONSE fetches
	refused []byte  // the answer to a command that had a wrong Le: it got 6Cxx
	header  [4]byte // of that command
}

// exchange performs one TPDU: case 1, 2 or 3. The last byte of a case 4 command is left out, as
// readers do.
func (t *t0) exchange(ask asker, c []byte) ([]byte, int) {
	if len(c) > 5 && len(c) == 6+int(c[4]) {
		c = c[:len(c)-1]
	}

	tooLong := len(c) > 5 && len(c) != 5+int(c[4])
	if len(c) < 4 || tooLong {
		return nil, errBadLength
	}

	if len(c) == 5 && c[1] == 0xC0 && t.waiting != nil {
		return t.fetch(int(c[4])), succeeded
	}

	// Any other command gives up what GET RESPONSE could have fetched.
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
		// Case 4: T=0 cannot send data both ways, so the answer waits.
		t.waiting = out
		return []byte{0x61, byte(min(n, 256))}, succeeded
	case len(c) == 5 && (n == int(c[4]) || n == 256 && c[4] == 0):
		return out, succeeded
	case n > 256:
		t.waiting = out
		return []byte{0x61, 0}, succeeded
	}

	t.refused = out
	t.header = [4]byte(c)
	return []byte{0x6C, byte(n)}, succeeded
}

// answer asks the card, unless the command is the last one repeated with the right Le.
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
