package pcsc

import (
	"context"
	"errors"
	"os"
	"slices"
	"time"

	"pam_pkcs11/pcsc/internal/wire"
)

// GetStatusChange waits for a change of reader states. Other calls on the context wait as long, but Cancel does not.
func (c *Client) GetStatusChange(ctx context.Context, sc SCardContext, states []ReaderState, timeout time.Duration) error {
	l, err := c.link(sc)
	if err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.waitMu.Lock()
	ended := l.ended
	l.waitMu.Unlock()
	if ended {
		return ErrCancelled
	}
	return StatusChange(ctx, l, states, timeout, time.Now)
}

// Arm is StateSource's: WAIT and the states in one step.
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

func (l *link) waitAndRead() (Snapshot, error) {
	if l.broken {
		return Snapshot{}, ErrCommError
	}
	var events wire.ReaderEventsMessage
	if l.minor >= 5 {
		// Asked before the registration, as nothing can be asked between it and the event. What comes in between shows
		// in the names, see below.
		if err := l.sendBare(wire.CmdGetReaderEvents); err != nil {
			return Snapshot{}, err
		}
		if err := receive(l, &events); err != nil {
			return Snapshot{}, err
		}
	}
	if err := l.sendBare(wire.CmdWaitReaderState); err != nil {
		return Snapshot{}, err
	}
	var snap Snapshot
	var err error
	if l.minor >= 6 {
		snap, err = l.readStates()
	} else {
		snap, err = l.readArray(16)
	}
	snap.Events = uint16(events.Events)
	if err == nil && l.minor >= 5 {
		names, _ := snap.Names()
		if l.names != nil && l.events == snap.Events && !slices.Equal(l.names, names) {
			snap.Events++
		}
		l.names, l.events = append([]string{}, names...), uint16(events.Events)
	}
	return snap, err
}

// Disarm is StateSource's: STOP, and the one message that answers it, be it the event.
func (l *link) Disarm() error {
	if err := l.sendBare(wire.CmdStopWaiting); err != nil {
		return err
	}
	var m wire.WaitMessage
	return receive(l, &m)
}

// Wait is StateSource's. It reads the one message that the daemon sends, and takes the registration back when the time
// is over or ctx has ended.
func (l *link) Wait(ctx context.Context, d time.Duration) error {
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
	interrupted := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		l.conn.SetReadDeadline(time.Unix(1, 0))
		close(interrupted)
	})
	b := make([]byte, 8)
	n, err := l.conn.Read(b)
	if !stop() {
		<-interrupted
	}
	l.conn.SetReadDeadline(time.Time{})
	switch {
	case n > 0: // the daemon sends it in one piece, and a piece missing comes at once
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

// cancel asks the daemon on a connection of its own.
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
