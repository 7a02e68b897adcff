package pcsc

import (
	"context"
	"strings"
	"time"
)

// ReaderInfo is what everybody may know of one reader.
type ReaderInfo struct {
	Name         string // "" where there is none
	EventCounter uint32 // card movements
	State        State
	Sharing      int32 // -1 exclusive, else the number of connections
	ATR          []byte
	Protocol     Protocol
}

// Snapshot is the readers at one moment.
type Snapshot struct {
	Readers []ReaderInfo // without those that have no name
	Events  uint16       // readers that came and went: the count that PnPReader's state has
}

// find returns the reader of a name, or nil.
func (s *Snapshot) find(name string) *ReaderInfo {
	for i := range s.Readers {
		if s.Readers[i].Name == name {
			return &s.Readers[i]
		}
	}
	return nil
}

// Names is what ListReaders gives: the names, or ErrNoReadersAvailable.
func (s *Snapshot) Names() ([]string, error) {
	if len(s.Readers) == 0 {
		return nil, ErrNoReadersAvailable
	}
	names := make([]string, len(s.Readers))
	for i, r := range s.Readers {
		names[i] = r.Name
	}
	return names, nil
}

// StateSource is what StatusChange needs of a Service.
type StateSource interface {
	// Arm registers for the next change and gives the state before it, in one step.
	Arm(ctx context.Context) (Snapshot, error)
	// Wait returns nil at a change, ErrTimeout when d has passed (d < 0: never) and ErrCancelled.
	// The registration is gone afterwards.
	Wait(ctx context.Context, d time.Duration) error
	// Disarm takes the registration back.
	Disarm() error
}

// StatusChange is GetStatusChange for those who implement a Service: what libpcsclite does with the
// reader states, for Client and the resource manager alike. now is the clock.
func StatusChange(
	ctx context.Context, src StateSource, states []ReaderState, timeout time.Duration,
	now func() time.Time,
) error {
	if len(states) == 0 {
		return nil
	}

	deadline := now().Add(timeout)
	var c comparison
	for {
		// Registered first and compared then: a change in between ends the wait.
		snap, err := src.Arm(ctx)
		if err != nil {
			return err
		}

		changed, err := c.compare(&snap, states)
		if err == nil && !changed {
			rest := timeout
			if timeout > 0 {
				rest = max(deadline.Sub(now()), 0)
			}
			if rest != 0 {
				// Wait removes the registration itself, however it ends.
				if err = src.Wait(ctx, rest); err == nil {
					continue
				}
				return err
			}

			err = ErrTimeout
		}

		if end := src.Disarm(); end != nil {
			return end
		}
		return err
	}
}

// comparison is the part of a call that its rounds share.
type comparison struct {
	begun  bool
	events uint16 // at the beginning
}

// compare fills in the states from a snapshot, and reports whether the call ends with that.
func (c *comparison) compare(snap *Snapshot, states []ReaderState) (changed bool, err error) {
	if !c.begun {
		c.events = snap.Events
		if err := knownNames(snap, states); err != nil {
			return false, err
		}
	}

	ignored := 0
	for i := range states {
		s := &states[i]
		switch {
		case s.CurrentState&StateIgnore != 0:
			s.EventState = StateIgnore
			ignored++
			continue
		case strings.EqualFold(s.Reader, PnPReader):
			changed = c.comparePnP(snap, s) || changed
			continue
		}

		p := snap.find(s.Reader)
		if p == nil {
			s.EventState = StateChanged | StateUnknown | StateUnavailable
			s.ATR = nil
			// Who has said that the reader is unknown waits for it to appear.
			if s.CurrentState&StateUnknown == 0 {
				changed = true
			}
			continue
		}

		changed = compareReader(p, s) || changed
	}

	c.begun = true
	// A call that ignores all of its readers has nothing to wait for.
	return changed || ignored == len(states), nil
}

// knownNames refuses names that no reader has. It is called at the beginning only: that a reader
// goes later is a change and no error.
func knownNames(snap *Snapshot, states []ReaderState) error {
	for i := range states {
		s := &states[i]
		ignored := s.CurrentState&StateIgnore != 0
		pnp := strings.EqualFold(s.Reader, PnPReader)
		if !ignored && !pnp && snap.find(s.Reader) == nil {
			return ErrUnknownReader
		}
	}
	return nil
}

// comparePnP reports whether readers came or went since the call began, or since the count
// that the caller knows.
func (c *comparison) comparePnP(snap *Snapshot, s *ReaderState) bool {
	known := uint16(s.CurrentState >> 16)
	changed := snap.Events != c.events || known != 0 && known != snap.Events

	s.EventState = StateFlag(snap.Events) << 16
	if changed {
		s.EventState |= StateChanged
	}
	return changed
}

// compareReader follows libpcsclite's rules (SCardGetStatusChange): a change is the loss of
// something that the caller knew, or its opposite. What the caller did not mention is reported, but
// does not end the wait.
func compareReader(p *ReaderInfo, s *ReaderState) bool {
	current := s.CurrentState
	known := func(f StateFlag) bool { return current&f != 0 }

	changed := current&0xFFFF&^StateChanged == StateUnaware
	// The counter shows a card that was exchanged for another between two calls; 0 stands for a
	// caller that does not count.
	if high := uint16(current >> 16); high != 0 && high != uint16(p.EventCounter) {
		changed = true
	}

	var event StateFlag
	switch {
	case p.State&Unknown != 0:
		event = StateUnavailable
		changed = changed || !known(StateUnavailable)
	case known(StateUnavailable) || known(StateUnknown):
		changed = true
	}

	// A reader that cannot be used is not reported as empty: nobody knows whether it is.
	switch {
	case p.State&Present != 0:
		event |= StatePresent
		changed = changed || known(StateEmpty)

		mute := p.State&Swallowed != 0
		if mute {
			event |= StateMute
		}

		changed = changed || known(StatePresent) && mute != known(StateMute)
	case p.State&Unknown == 0:
		event |= StateEmpty
		changed = changed || known(StatePresent)
	}

	switch {
	case p.Sharing < 0:
		event |= StateExclusive
		changed = changed || known(StateInuse)
	case p.Sharing > 0:
		event |= StateInuse
		changed = changed || known(StateExclusive)
	default:
		changed = changed || known(StateInuse|StateExclusive)
	}

	if changed {
		event |= StateChanged
	}
	s.EventState = event | StateFlag(p.EventCounter&0xFFFF)<<16
	s.ATR = nil
	if p.State&Present != 0 {
		s.ATR = append([]byte(nil), p.ATR...)
	}
	return changed
}
