package server

import (
	"pam_pkcs11/pcsc"
	"pam_pkcs11/pcsc/internal/wire"
	"pam_pkcs11/pcsc/resmgr"
)

// The part of the protocol in which a client waits for changes of reader states.
//
//	4.3       GET_READERS_STATE, WAIT (no answer), event, STOP (always answered)
//	4.4, 4.5  WAIT (answered with the states), event or STOP: one message in all
//	4.6       WAIT (no answer), SIZE, ARRAY, then as 4.4

// Fire implements resmgr.Watcher: the change that the client waits for has come.
func (c *conn) Fire() { c.mail.post(pcsc.ErrSuccess) }

// cancelWait ends the wait, if there is one.
func (c *conn) cancelWait() {
	c.s.Manager.States().Unwatch(c)
	c.mail.post(pcsc.ErrCancelled)
}

// readerStates answers the commands without a fixed answer.
func (c *conn) readerStates(command wire.Command) error {
	m := c.s.Manager
	states := m.States()
	switch command {
	case wire.CmdGetReadersState:
		m.AwaitReaders(c.ctx)
		// Before the states: a change in between is then reported once too often, and not lost.
		c.seen = states.Version()
		c.putStates(m.FixedStates(), nil)
		return c.answer(c.out)
	case wire.CmdWaitReaderState:
		return c.wait()
	case wire.CmdStopWaiting:
		return c.stopWaiting()
	case wire.CmdGetReaderEvents:
		return answerMessage(c, &wire.ReaderEventsMessage{Events: uint32(states.Events())})
	case wire.CmdGetReadersStateSize:
		m.AwaitReaders(c.ctx)
		// ARRAY has to bring as many, even if readers come in between.
		c.announced = states.Size()
		return answerMessage(c, &wire.SizeMessage{States: uint32(c.announced)})
	}

	// ARRAY: as many as SIZE announced, even if there are more by now.
	if c.announced == 0 {
		c.announced = states.Size()
	}

	c.putStates(c.announced, nil)
	err := c.answer(c.out)
	c.mail.release()
	return err
}

// putStates makes n reader states the next answer, and registers w for the next
// change unless it is nil.
func (c *conn) putStates(n int, w resmgr.Watcher) {
	c.out = c.out[:0]
	c.s.Manager.States().Each(n, w, func(r *pcsc.ReaderInfo) {
		m := wire.ReaderStateMessage{
			EventCounter: r.EventCounter,
			State:        uint32(r.State),
			Sharing:      r.Sharing,
			ATRLength:    uint32(len(r.ATR)),
			Protocol:     uint32(r.Protocol),
		}
		copy(m.Reader[:len(m.Reader)-1], r.Name)
		copy(m.ATR[:], r.ATR)
		c.out = wire.Append(c.out, &m)
	})
}

// wait registers for the next change, and answers as the version of the protocol wants it.
func (c *conn) wait() error {
	m := c.s.Manager
	m.AwaitReaders(c.ctx)
	switch {
	// The client has seen the states before it waits: a change since then must not be lost.
	case c.minor <= 3:
		c.mail.arm(false)
		m.States().WatchSince(c.seen, c)
		return nil
	case c.minor >= 6:
		// The event is held until ARRAY has been answered.
		c.mail.arm(true)
		m.States().Watch(c)
		return nil
	}

	// The event is held until the states, which are the answer here, have been sent.
	c.mail.arm(true)
	c.putStates(m.FixedStates(), c)
	err := c.answer(c.out)
	c.mail.release()
	return err
}

// stopWaiting ends a wait with exactly one message, the event or this answer (4.4 and later).
func (c *conn) stopWaiting() error {
	waiting := c.s.Manager.States().Unwatch(c)
	if c.minor <= 3 || waiting {
		c.mail.disarm()
		c.mail.release()
		return answerMessage(c, &wire.WaitMessage{})
	}

	// The event is the answer: it was sent before, or is held in the mailbox.
	c.mail.release()
	return nil
}
