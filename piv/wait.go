package piv

import (
	"context"
	"errors"

	"pam_pkcs11/pcsc"
	"pam_pkcs11/token"
)

// pnpState is the state that tells of readers that come and go.
func (m *Module) pnpState() pcsc.ReaderState { return pcsc.ReaderState{Reader: pcsc.PnPReader} }

// Wait returns when a card or a reader may have come or gone since the last Slots, or when a reader
// whose card could not be read is used in another way than it was.
func (m *Module) Wait(ctx context.Context) error {
	if m.closed {
		return errClosed
	}
	if len(m.states) == 0 {
		return ctx.Err() // there was no Slots
	}
	pc, err := m.watcher(ctx)
	if err != nil {
		return err
	}

	for {
		before := make([]pcsc.StateFlag, len(m.states))
		for i := range m.states {
			before[i] = m.states[i].EventState
			m.states[i].CurrentState = m.states[i].EventState &^ pcsc.StateChanged
		}
		err := pc.GetStatusChangeContext(ctx, m.states, -1)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, pcsc.ErrUnknownReader):
			return nil // one is gone
		case err != nil:
			m.unwatch()
			return &token.Error{Kind: token.ErrFault, Err: err}
		}
		if m.moved(before) {
			return nil
		}
	}
}

// moved reports whether one of the states has changed in a way that Slots would see.
func (m *Module) moved(before []pcsc.StateFlag) bool {
	const uses = pcsc.StateInuse | pcsc.StateExclusive | pcsc.StateChanged | pcsc.StateUnpowered
	for i, s := range m.states {
		changed := s.EventState ^ before[i]
		unread := i < len(m.places) && m.places[i].slot.Err != nil
		if !unread {
			changed &^= uses
		}
		if changed&^pcsc.StateChanged != 0 {
			return true
		}
	}
	return false
}
