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
	lookInterval   = 50 * time.Millisecond  // between two status commands that notifications cause
	settling       = 500 * time.Millisecond // how late a notification may come
	brokenInterval = 400 * time.Millisecond // the same without a working interrupt endpoint
)

// Events delivers true when a card has come in and false when it has gone. It is nil when the
// reader has no notifications.
func (s *Slot) Events() <-chan bool {
	if s.events == nil {
		return nil
	}
	return s.events
}

// Present reports whether a card is in the slot.
func (s *Slot) Present(ctx context.Context) (bool, error) {
	ctx, end, err := s.begin(ctx)
	if err != nil {
		return false, err
	}
	defer end()

	present, swapped, err := s.checkPresence(ctx)
	if device.IsGone(err) {
		// The end of a reader is reported by another way: here it is an empty slot.
		return false, nil
	}
	// A card that was swapped counts as absent once, so that callers which poll see the change.
	return present && !swapped, err
}

// checkPresence asks for the slot's state. With swapped a card is there, but without the power that
// we gave it: it was taken out and put back since, or another card was put in.
func (s *Slot) checkPresence(ctx context.Context) (present, swapped bool, err error) {
	if s.reader.plan.AlwaysThere || s.reader.plan.NoDetect && s.index > 0 {
		return true, s.lost.Swap(false), nil
	}

	// Until the answer has come nothing is known.
	s.keptPower.Store(false)
	a, err := s.retry(ctx, message.GetSlotStatus{}, max(s.reader.plan.Timeout, link.StatusTimeout))

	// bStatus is right even where the reader reports an error of the command beside it.
	var failed *message.Error
	if errors.As(err, &failed) {
		saysPresent := message.ICC(failed.Status&3) < message.ICCAbsent
		if failed.Code == message.CodeMute || saysPresent {
			err = nil
		}
	}
	if ifd.Absent(err) {
		err = nil
	}
	if err != nil {
		return false, false, err
	}

	swapped = s.lost.Swap(false)
	// A reader that activates cards by itself shows a new card as active, too.
	powerKept := a.ICC() == message.ICCActive && s.powered
	s.keptPower.Store(powerKept && !swapped && !s.reader.plan.Activates)

	switch a.ICC() {
	case message.ICCActive:
	case message.ICCInactive:
		// We gave it power and it has none: it has been out of the slot.
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

// notify wakes the slot's watcher: something may have changed.
func (s *Slot) notify(c message.SlotChange) {
	if s.events == nil {
		return
	}

	s.mu.Lock()
	// A change that has not been looked at yet must not be lost with the notification after it.
	s.change = message.SlotChange{Present: c.Present, Changed: c.Changed || s.change.Changed}
	s.mu.Unlock()

	// One signal is enough, see newSlot.
	select {
	case s.signal <- struct{}{}:
	default:
	}
}

// watch starts the goroutine that delivers events.
func (s *Slot) watch() {
	if s.events == nil {
		return
	}

	// Callers get a first event if there is a card, without waiting for it to move.
	s.notify(message.SlotChange{Changed: true})
	s.reader.work.Go(s.watchLoop)
}

// watchLoop asks for the slot's state whenever notify was called, and reports what is new.
// Notifications are no more than a reason to ask: they get lost, doubled, and sent for the wrong
// slot.
func (s *Slot) watchLoop() {
	defer close(s.events)

	ctx := s.reader.ctx
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.signal:
		}

		// A reader whose answers alternate must not keep us busy.
		if s.lost.Load() && link.Pause(ctx, brokenInterval) != nil {
			return
		}

		s.mu.Lock()
		change := s.change
		s.change = message.SlotChange{}
		s.mu.Unlock()

		present, swapped, err := s.pollPresence(ctx)
		if ctx.Err() != nil {
			return
		}

		if err != nil {
			s.reader.log.Warn("the reader does not say whether a card is there",
				"slot", s.index, "err", err)
			// The notification is all there is; without one, the last event still holds.
			present = change.Changed && change.Present || !change.Changed && s.reported
		}

		// A notification that comes soon after the card was found is about the same movement:
		// no hand takes a card out and puts it back within that time.
		late := time.Since(s.arrivedAt) < settling
		moved := swapped || change.Changed && !late && !s.keptPower.Load()
		s.report(ctx, present, moved)

		if link.Pause(ctx, lookInterval) != nil {
			return
		}
	}
}

// pollPresence is checkPresence for a caller that does not have the reader.
func (s *Slot) pollPresence(ctx context.Context) (present, swapped bool, err error) {
	ctx, end, err := s.begin(ctx)
	if err != nil {
		return false, false, err
	}
	defer end()
	return s.checkPresence(ctx)
}

// report delivers what is new. A card that was there and has moved is two events.
func (s *Slot) report(ctx context.Context, present, moved bool) {
	was := s.reported
	s.reported = present
	if present && (moved || !was) {
		s.arrivedAt = time.Now()
	}

	var news []bool
	switch {
	case was && present && moved:
		news = []bool{false, true}
	case was != present:
		news = []bool{present}
	}

	// The channel has room for many; with a receiver that has stopped the watcher waits here.
	for _, n := range news {
		select {
		case s.events <- n:
		case <-ctx.Done():
			return
		}
	}
}

// readNotifications reads notifications until the reader is closed. Where the endpoint does not
// work, the slots are asked periodically.
func (r *Reader) readNotifications() {
	// The notification of 16 slots has 5 bytes; a packet of full-speed USB has at most 64.
	buffer := make([]byte, 64)
	broken := false

	for r.ctx.Err() == nil {
		n, err := r.t.Interrupt(r.ctx, buffer)
		switch {
		case err == nil:
			broken = false
			r.handleNotification(buffer[:n])
			continue
		case device.IsGone(err), r.ctx.Err() != nil:
			return
		case !broken:
			// Said once, and again only after the endpoint has worked in between.
			r.log.Warn("no notifications from the reader: asking it instead", "err", err)
			broken = true
		}

		for _, s := range r.slots {
			s.notify(message.SlotChange{})
		}
		if link.Pause(r.ctx, brokenInterval) != nil {
			return
		}
	}
}

// handleNotification handles a notification. One that is malformed is ignored, and so are slots
// that the reader does not have.
func (r *Reader) handleNotification(raw []byte) {
	n, err := message.ParseNotification(raw)
	switch {
	case err != nil:
		r.log.Debug("a notification that is none", "bytes", len(raw))
	case n.Type == message.TypeHardwareError:
		r.log.Warn("the reader reports a hardware error", "slot", n.Slot, "code", n.Error)
	default:
		for i, s := range r.slots {
			if i < len(n.Slots) && n.Slots[i].Changed {
				s.notify(n.Slots[i])
			}
		}
	}
}
