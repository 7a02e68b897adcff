package pcsc

import (
	"context"
	"strings"
	"time"
)

// stateSource is what GetStatusChange needs of a service.
type stateSource interface {
	// arm registers for the next change and gives the state before it, in one step.
	arm(ctx context.Context) (snapshot, error)
	// wait returns nil at a change, ErrTimeout when d has passed (d < 0: never) and ErrCancelled. The registration is
	// gone afterwards.
	wait(ctx context.Context, d time.Duration) error
	// disarm takes the registration back.
	disarm() error
}

// statusChange is GetStatusChange: what libpcsclite does with the reader states, for Manager and Client.
func statusChange(ctx context.Context, src stateSource, states []ReaderState, timeout time.Duration, now func() time.Time) error {
	if len(states) == 0 {
		return nil
	}
	deadline := now().Add(timeout)
	var c comparison
	for {
		snap, err := src.arm(ctx)
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
				if err = src.wait(ctx, rest); err == nil {
					continue
				}
				return err
			}
			err = ErrTimeout
		}
		if end := src.disarm(); end != nil {
			return end
		}
		return err
	}
}

// comparison goes on over the rounds of one call.
type comparison struct {
	begun  bool
	events uint16 // at the beginning
}

func (c *comparison) compare(snap *snapshot, states []ReaderState) (changed bool, err error) {
	if !c.begun {
		c.events = snap.events
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
			s.EventState, s.Atr = StateChanged|StateUnknown|StateUnavailable, nil
			if s.CurrentState&StateUnknown == 0 {
				changed = true
			}
			continue
		}
		changed = compareReader(p, s) || changed
	}
	c.begun = true
	return changed || ignored == len(states), nil
}

// knownNames is asked at the beginning only: a reader may vanish later, which is a change and no error.
func knownNames(snap *snapshot, states []ReaderState) error {
	for i := range states {
		s := &states[i]
		if s.CurrentState&StateIgnore == 0 && !strings.EqualFold(s.Reader, PnPReader) && snap.find(s.Reader) == nil {
			return ErrUnknownReader
		}
	}
	return nil
}

// comparePnP sees readers that came or went since the call began, or since the count that the caller knows.
func (c *comparison) comparePnP(snap *snapshot, s *ReaderState) bool {
	known := uint16(s.CurrentState >> 16)
	changed := snap.events != c.events || known != 0 && known != snap.events
	s.EventState = StateFlag(snap.events) << 16
	if changed {
		s.EventState |= StateChanged
	}
	return changed
}

// compareReader follows libpcsclite's rules: what counts as a change is the loss of something the caller knew, or its
// opposite; a caller who did not say is told without being woken for it.
func compareReader(p *published, s *ReaderState) bool {
	current := s.CurrentState
	known := func(f StateFlag) bool { return current&f != 0 }
	changed := current&0xFFFF&^StateChanged == StateUnaware
	if high := uint16(current >> 16); high != 0 && high != uint16(p.counter) {
		changed = true
	}
	var event StateFlag
	switch {
	case p.state&Unknown != 0:
		event = StateUnavailable
		changed = changed || !known(StateUnavailable)
	case known(StateUnavailable) || known(StateUnknown):
		changed = true
	}
	switch {
	case p.state&Present != 0:
		event |= StatePresent
		changed = changed || known(StateEmpty)
		mute := p.state&Swallowed != 0
		if mute {
			event |= StateMute
		}
		changed = changed || known(StatePresent) && mute != known(StateMute)
	case p.state&Unknown == 0:
		event |= StateEmpty
		changed = changed || known(StatePresent)
	}
	switch {
	case p.sharing < 0:
		event |= StateExclusive
		changed = changed || known(StateInuse)
	case p.sharing > 0:
		event |= StateInuse
		changed = changed || known(StateExclusive)
	default:
		changed = changed || known(StateInuse|StateExclusive)
	}
	if changed {
		event |= StateChanged
	}
	s.EventState, s.Atr = event|StateFlag(p.counter&0xFFFF)<<16, nil
	if p.state&Present != 0 {
		s.Atr = append([]byte(nil), p.atr...)
	}
	return changed
}
