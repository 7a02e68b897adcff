package piv

import (
	"context"
	"errors"
	"slices"

	"pam_pkcs11/pcsc"
	"pam_pkcs11/piv/internal/channel"
	"pam_pkcs11/token"
)

// watch keeps the states of the readers, and waits until one changes.
type watch struct {
	service pcsc.Service
	context *pcsc.Context      // nil: not established
	states  []pcsc.ReaderState // as readers returned them, with PnPReader last
	unread  []bool             // by reader: its card could not be read, or not in time
}

// readers returns the state of all readers. It tries a second time with a new context: the daemon
// may have been restarted since the last time.
func (w *watch) readers(ctx context.Context) ([]pcsc.ReaderState, error) {
	states, err := w.list(ctx)
	if err != nil && ctx.Err() == nil && w.release() {
		states, err = w.list(ctx)
	}
	if err != nil {
		w.release()
		return nil, err
	}
	return states, nil
}

// release releases the context, and reports whether there was one.
func (w *watch) release() bool {
	pc := w.context
	w.context = nil
	if pc != nil {
		// Release waits for a call that was left behind: nobody waits for it.
		go func() { _ = pc.Release() }()
	}
	return pc != nil
}

// list asks for the readers and their states.
func (w *watch) list(ctx context.Context) ([]pcsc.ReaderState, error) {
	if err := w.establish(ctx); err != nil {
		return nil, err
	}

	// The count of readers that came and went is read first: a reader that comes between this and
	// the list ends the wait.
	count, err := w.look(ctx, []string{pcsc.PnPReader})
	if err != nil {
		return nil, err
	}

	names, err := channel.Call(ctx, "SCardListReaders", w.context.ListReaders)
	if err != nil && !errors.Is(err, pcsc.ErrNoReadersAvailable) {
		return nil, err
	}

	states, err := w.look(ctx, names)
	if err != nil {
		return nil, err
	}
	w.states = append(slices.Clone(states), count...)
	return states, nil
}

// look returns the states of readers as they are now.
func (w *watch) look(ctx context.Context, names []string) ([]pcsc.ReaderState, error) {
	if len(names) == 0 {
		return nil, nil
	}
	pc := w.context
	return channel.Call(ctx, "SCardGetStatusChange", func() ([]pcsc.ReaderState, error) {
		states := make([]pcsc.ReaderState, len(names))
		for i, name := range names {
			states[i].Reader = name
		}

		err := pc.GetStatusChangeContext(ctx, states, 0)
		// With a timeout of 0 nothing has changed, and the states are filled in all the same.
		if errors.Is(err, pcsc.ErrTimeout) {
			err = nil
		}
		return states, err
	})
}

// establish makes the context, if there is none.
func (w *watch) establish(ctx context.Context) error {
	if w.context != nil {
		return nil
	}
	pc, err := channel.Call(ctx, "SCardEstablishContext", func() (*pcsc.Context, error) {
		return pcsc.NewContext(w.service)
	})

	// The service could not be reached: it may have to be started first.
	if err != nil && ctx.Err() == nil {
		return &token.Error{Kind: token.ErrNotStarted, Err: err}
	}

	w.context = pc
	return err
}

// wait returns when a card or a reader has come or gone.
func (w *watch) wait(ctx context.Context) error {
	if len(w.states) == 0 {
		return ctx.Err() // readers was not called yet
	}
	if err := w.establish(ctx); err != nil {
		return err
	}

	for {
		states, err := w.next(ctx)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, pcsc.ErrUnknownReader):
			return nil // one is gone
		case err != nil:
			w.release()
			return err
		}

		before := w.states
		w.states = states
		if w.changed(before) {
			return nil
		}
	}
}

// next waits until the states differ from those that are known, and returns them. A daemon that is
// stopped does not answer when the context ends: then the call is left behind.
func (w *watch) next(ctx context.Context) ([]pcsc.ReaderState, error) {
	pc := w.context
	states := slices.Clone(w.states)
	for i := range states {
		states[i].CurrentState = states[i].EventState &^ pcsc.StateChanged
	}
	return channel.Call(ctx, "SCardGetStatusChange", func() ([]pcsc.ReaderState, error) {
		return states, pc.GetStatusChangeContext(ctx, states, -1)
	})
}

// changed reports whether one of the states has changed in a way that Slots would see. That
// programs use a card counts only for one that could not be read.
func (w *watch) changed(before []pcsc.ReaderState) bool {
	const use = pcsc.StateInuse | pcsc.StateExclusive | pcsc.StateUnpowered
	for i, s := range w.states {
		changed := (s.EventState ^ before[i].EventState) &^ pcsc.StateChanged
		// Only the use of a reader that another program kept for itself says that it may be free
		// now.
		if i >= len(w.unread) || !w.unread[i] {
			changed &^= use
		}
		if changed != 0 {
			return true
		}
	}
	return false
}
