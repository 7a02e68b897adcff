package ccidtest

import (
	"errors"
	"time"
)

// errCardGone is the end of a command whose card was taken out meanwhile.
var errCardGone = errors.New("ccidtest: the card is not there any more")

// asker asks the card in a slot.
type asker func(command []byte) ([]byte, error)

// ask has the card in the slot answer a command. Device.mu is held, but not while a slow card works on it.
func (s *slot) ask(command []byte) ([]byte, error) {
	if !s.Slow {
		return s.card.Transmit(command)
	}
	d, card, insertion := s.reader.device, s.card, s.insertion
	s.busy = true
	d.mu.Unlock()
	answer, err := card.Transmit(command)
	d.mu.Lock()

	if s.insertion != insertion || d.unplugged {
		return nil, errCardGone
	}
	s.busy = false
	return answer, err
}

// slow reports whether a message goes to a card that takes its time.
func (r *reader) slow(m []byte) bool {
	slot := int(m[atSlot])
	return slot < len(r.slots) && r.slots[slot].Slow && (m[atType] == xfrBlock || m[atType] == secure)
}

// extensionInterval is how often a reader asks for time while a card works.
const extensionInterval = 500 * time.Millisecond

// exchangeSlowly has a message done while the device goes on with others. What a Fault refuses then, it refuses too late:
// the answer is left out.
func (d *Device) exchangeSlowly(r *reader, m []byte) {
	done := make(chan struct{})
	defer close(done)
	go d.extend(r, m, done)

	d.mu.Lock()
	defer d.mu.Unlock()
	_ = d.exchange(r, m)
}

// extend asks the host for time until done is closed.
func (d *Device) extend(r *reader, m []byte, done <-chan struct{}) {
	tick := time.NewTicker(extensionInterval)
	defer tick.Stop()
	for {
		select {
		case <-done:
			return
		case <-d.gone:
			return
		case <-tick.C:
		}
		d.mu.Lock()
		s := r.slots[m[atSlot]]
		if s.busy {
			const moreTime, multiplier = 0x80, 1
			d.put(r.in.bulkIn(), Transfer{
				Data: answer(answerKind(m[atType]), m[atSlot], m[atSequence], moreTime|s.icc(), multiplier, 0, nil),
			})
		}
		d.mu.Unlock()
	}
}
