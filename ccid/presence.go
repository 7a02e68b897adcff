package ccid

import (
	"context"
	"errors"
	"time"

	"pam_pkcs11/ccid/device"
	"pam_pkcs11/ccid/internal/ifd"
	"pam_pkcs11/ccid/internal/link"
	"pam_pkcs11/ccid/message"
)

// Times of waiting for cards.
const (
	lookInterval   = 50 * time.Millisecond  // at most so often is a slot asked because of notifications
	settling       = 500 * time.Millisecond // so long a notification may be late
	brokenInterval = 400 * time.Millisecond // so often when the interrupt endpoint does not work
)

// Events delivers true when a card has come in and false when it has gone; nil when the reader cannot tell.
func (s *Slot) Events() <-chan bool {
	if s.events == nil {
		return nil
	}
	return s.events
}

// Present asks whether a card is in the slot.
func (s *Slot) Present(ctx context.Context) (bool, error) {
	ctx, end, err := s.begin(ctx)
	if err != nil {
		return false, err
	}
	defer end()
	present, swapped, err := s.look(ctx)
	if device.IsGone(err) {
		return false, nil // its end is reported by another way
	}
	return present && !swapped, err
}

// look asks for the slot's state. swapped: a card is there, and has lost the power that we gave it, so that it was
// taken out and put back since, or another was.
func (s *Slot) look(ctx context.Context) (present, swapped bool, err error) {
	if s.reader.plan.AlwaysThere || s.reader.plan.NoDetect && s.index > 0 {
		return true, s.lost.Swap(false), nil
	}
	s.kept.Store(false)
	a, err := s.retry(ctx, message.GetSlotStatus{}, max(s.reader.plan.Timeout, link.StatusTimeout))
	var failed *message.Error
	if errors.As(err, &failed) && (failed.Code == message.CodeMute || message.ICC(failed.Status&3) < message.ICCAbsent) {
		err = nil // bStatus holds, whatever the reader says of the command
	}
	if ifd.Absent(err) {
		err = nil
	}
	if err != nil {
		return false, false, err
	}
	swapped = s.lost.Swap(false)
	s.kept.Store(a.ICC() == message.ICCActive && s.powered && !swapped && !s.reader.plan.Activates)
	switch a.ICC() {
	case message.ICCActive:
	case message.ICCInactive:
		swapped = swapped || s.powered
	default:
		s.forget()
		return false, false, nil
	}
	if swapped {
		s.forget()
	}
	return true, swapped, nil
}

// hint tells the slot's watcher that something may have changed.
func (s *Slot) hint(c message.SlotChange) {
	if s.events == nil {
		return
	}
	s.mu.Lock()
	s.change = message.SlotChange{Present: c.Present, Changed: c.Changed || s.change.Changed}
	s.mu.Unlock()
	select {
	case s.signal <- struct{}{}:
	default:
	}
}

// watch begins to deliver events.
func (s *Slot) watch() {
	if s.events == nil {
		return
	}
	s.hint(message.SlotChange{Changed: true})
	s.reader.work.Go(s.follow)
}

// follow asks for the slot's state whenever there is a hint, and tells what is new. The reader's own word is not taken
// for it: notifications get lost, doubled, and sent for the wrong slot.
func (s *Slot) follow() {
	defer close(s.events)
	ctx := s.reader.ctx
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.signal:
		}
		if s.lost.Load() && link.Pause(ctx, brokenInterval) != nil { // a reader that says yes and no must not keep us busy
			return
		}
		s.mu.Lock()
		change := s.change
		s.change = message.SlotChange{}
		s.mu.Unlock()
		present, swapped, err := s.ask(ctx)
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			s.reader.log.Warn("the reader does not say whether a card is there", "slot", s.index, "err", err)
			present = change.Changed && change.Present || !change.Changed && s.told
		}
		// A notification that comes after the card was found is of the same movement: nobody is so quick.
		late := time.Since(s.toldAt) < settling
		s.tell(ctx, present, swapped || change.Changed && !late && !s.kept.Load())
		if link.Pause(ctx, lookInterval) != nil {
			return
		}
	}
}

// ask is look with the turn.
func (s *Slot) ask(ctx context.Context) (present, swapped bool, err error) {
	ctx, end, err := s.begin(ctx)
	if err != nil {
		return false, false, err
	}
	defer end()
	return s.look(ctx)
}

// tell delivers what is new: a card that was there and has moved is two events.
func (s *Slot) tell(ctx context.Context, present, moved bool) {
	was := s.told
	s.told = present
	if present && (moved || !was) {
		s.toldAt = time.Now()
	}
	var news []bool
	switch {
	case was && present && moved:
		news = []bool{false, true}
	case was != present:
		news = []bool{present}
	}
	for _, n := range news {
		select {
		case s.events <- n:
		case <-ctx.Done():
			return
		}
	}
}

// listen reads notifications until the reader is closed. Where the endpoint does not work the slots are asked again and
// again.
func (r *Reader) listen() {
	buffer := make([]byte, 64)
	broken := false
	for r.ctx.Err() == nil {
		n, err := r.t.Interrupt(r.ctx, buffer)
		switch {
		case err == nil:
			broken = false
			r.notified(buffer[:n])
			continue
		case device.IsGone(err), r.ctx.Err() != nil:
			return
		case !broken:
			r.log.Warn("no notifications from the reader: asking it instead", "err", err)
			broken = true
		}
		for _, s := range r.slots {
			s.hint(message.SlotChange{})
		}
		if link.Pause(r.ctx, brokenInterval) != nil {
			return
		}
	}
}

// notified takes a notification. What is none is ignored, and so is what it says of slots that are not there.
func (r *Reader) notified(raw []byte) {
	n, err := message.ParseNotification(raw)
	switch {
	case err != nil:
		r.log.Debug("a notification that is none", "bytes", len(raw))
	case n.Type == message.TypeHardwareError:
		r.log.Warn("the reader reports a hardware error", "slot", n.Slot, "code", n.Error)
	default:
		for i, s := range r.slots {
			if i < len(n.Slots) && n.Slots[i].Changed {
				s.hint(n.Slots[i])
			}
		}
	}
}
