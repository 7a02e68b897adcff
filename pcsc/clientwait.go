package pcsc

import (
	"context"
	"errors"
	"os"
	"slices"
	"time"

	"pam_pkcs11/pcsc/internal/wire"
)

// GetStatusChange waits for a change of reader states. Other calls on the context wait as long, but
// Cancel does not.
func (c *Client) GetStatusChange(
	ctx context.Context, sc SCardContext, states []ReaderState, timeout time.Duration,
) error {
	l, err := c.link(sc)
	if err != nil {
		return err
	}

	l.mu.Lock()
	defer l.mu.Unlock()

	// The context may have been released while this call waited for l.mu.
	l.waitMu.Lock()
	ended := l.ended
	l.waitMu.Unlock()
	if ended {
		return ErrCancelled
	}

	return StatusChange(ctx, l, states, timeout, time.Now)
}

// Arm implements StateSource: WAIT and the states in one step.
func (l *link) Arm(context.Context) (Snapshot, error) {
	snap, err := l.waitAndRead()
	if err != nil || l.minor < 5 {
		snap.Events = l.countReaders(&snap)
		return snap, err
	}
	return snap, nil
}

// countReaders stands in for the reader events that daemons before 4.5 do not count.
func (l *link) countReaders(snap *Snapshot) uint16 { return uint16(len(snap.Readers)) + 1 }

// waitAndRead registers for the next event and returns the states before it; l.mu is held.
func (l *link) waitAndRead() (Snapshot, error) {
	if l.broken {
		return Snapshot{}, ErrCommError
	}

	var events wire.ReaderEventsMessage
	if l.minor >= 5 {
		// Asked before the registration: between that and the event the daemon takes no question. A
		// reader that comes in between is seen by its name, below.
		if err := l.sendBare(wire.CmdGetReaderEvents); err != nil {
			return Snapshot{}, err
		}
		if err := receive(l, &events); err != nil {
			return Snapshot{}, err
		}
	}

	// Up to 4.5 the daemon answers WAIT with the array of states; since 4.6 it answers nothing, and
	// the states are asked for.
	if err := l.sendBare(wire.CmdWaitReaderState); err != nil {
		return Snapshot{}, err
	}
	var snap Snapshot
	var err error
	if l.minor >= 6 {
		snap, err = l.readStates()
	} else {
		snap, err = l.readArray(oldReaderStates)
	}

	snap.Events = uint16(events.Events)
	if err == nil && l.minor >= 5 {
		names, _ := snap.Names()
		// The same count with other names: readers changed after the question for the count.
		if l.names != nil && l.events == snap.Events && !slices.Equal(l.names, names) {
			snap.Events++
		}
		l.names = append([]string{}, names...)
		l.events = uint16(events.Events)
	}
	return snap, err
}

// Disarm implements StateSource: STOP, and the one message that answers it, be it the event.
func (l *link) Disarm() error {
	if err := l.sendBare(wire.CmdStopWaiting); err != nil {
		return err
	}
	var m wire.WaitMessage
	return receive(l, &m)
}

// Wait implements StateSource. It reads the one message that the daemon sends, and takes the
// registration back when the time is over or ctx has ended.
func (l *link) Wait(ctx context.Context, d time.Duration) error {
	// ReleaseContext sets ended and reads waiting under the same lock: either it cancels this wait,
	// or the wait does not begin.
	l.waitMu.Lock()
	if l.ended {
		l.waitMu.Unlock()
		if err := l.Disarm(); err != nil {
			return err
		}
		return ErrCancelled
	}
	l.waiting = true
	l.waitMu.Unlock()
	defer func() {
		l.waitMu.Lock()
		l.waiting = false
		l.waitMu.Unlock()
	}()

	if d >= 0 {
		l.conn.SetReadDeadline(time.Now().Add(d))
	}

	// A deadline in the past ends the read, but leaves the connection good for STOP.
	interrupted := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		l.conn.SetReadDeadline(time.Unix(1, 0))
		close(interrupted)
	})

	b := make([]byte, 8)
	n, err := l.conn.Read(b)
	// Otherwise the function could set its deadline after the next line has removed it.
	if !stop() {
		<-interrupted
	}
	l.conn.SetReadDeadline(time.Time{})

	switch {
	case n > 0:
		// The daemon sends the event in one piece: what is missing of it comes at once.
		if err := l.read(b[n:]); err != nil {
			return err
		}
		var m wire.WaitMessage
		if err := wire.Decode(&m, b); err != nil {
			return err
		}
		return Error(m.Result).Err()
	case errors.Is(err, os.ErrDeadlineExceeded):
		if err := l.Disarm(); err != nil {
			return err
		}
		if ctx.Err() != nil {
			return ErrCancelled
		}
		return ErrTimeout
	}
	return l.fail()
}

// Cancel ends the GetStatusChange that waits on sc now.
func (c *Client) Cancel(sc SCardContext) error {
	l, err := c.link(sc)
	if err != nil {
		return err
	}

	l.waitMu.Lock()
	waiting := l.waiting
	l.waitMu.Unlock()

	if !waiting {
		return nil
	}
	return l.cancel()
}

// cancel asks the daemon on a second connection: the first one is in WAIT, and
// takes nothing but STOP.
func (l *link) cancel() error {
	other, err := l.client.dial()
	if err != nil {
		return err
	}
	defer other.conn.Close()

	m := wire.ContextMessage{Context: uint32(l.sc)}
	if err := exchange(other, wire.CmdCancel, &m, nil); err != nil {
		return err
	}
	return Error(m.Result).Err()
}
