package pcsc

// The part of the protocol in which a client waits for changes of reader states.
//
//	4.3       GET_READERS_STATE, WAIT (no answer), event, STOP (always answered)
//	4.4, 4.5  WAIT (answered with the states), event or STOP: one message in all
//	4.6       WAIT (no answer), SIZE, ARRAY, then as 4.4

// fire is the change that the client waits for.
func (c *conn) fire() { c.mail.post(ErrSuccess) }

// cancelWait ends the wait, if there is one.
func (c *conn) cancelWait() {
	c.s.Manager.board.unwatch(c)
	c.mail.post(ErrCancelled)
}

// readerStates answers the commands without a fixed answer.
func (c *conn) readerStates(command Command) error {
	m := c.s.Manager
	switch command {
	case CmdGetReadersState:
		m.awaitReaders(c.ctx)
		c.seen = m.board.currentVersion()
		c.out = m.board.appendWire(c.out[:0], m.options.ReaderStates, nil)
		return c.answer(c.out)
	case CmdWaitReaderState:
		return c.wait()
	case CmdStopWaiting:
		return c.stopWaiting()
	case CmdGetReaderEvents:
		return c.answerMessage(&ReaderEventsMessage{Events: uint32(m.board.readerEvents())})
	case CmdGetReadersStateSize:
		m.awaitReaders(c.ctx)
		c.announced = m.board.size()
		size := uint32(c.announced)
		c.out = encode(c.out[:0], (*sizeMessage)(&size))
		return c.answer(c.out)
	}
	// ARRAY: as many as SIZE announced, though the board may have grown since.
	if c.announced == 0 {
		c.announced = m.board.size()
	}
	c.out = m.board.appendWire(c.out[:0], c.announced, nil)
	err := c.answer(c.out)
	c.mail.release()
	return err
}

// sizeMessage is the answer of GET_READERS_STATE_SIZE: a number and no result.
type sizeMessage uint32

func (m *sizeMessage) fields() []any { return []any{(*uint32)(m)} }

func (c *conn) wait() error {
	m := c.s.Manager
	m.awaitReaders(c.ctx)
	switch {
	case c.minor <= 3:
		c.mail.arm(false)
		m.board.watchSince(c.seen, c)
		return nil
	case c.minor >= 6:
		c.mail.arm(true)
		m.board.watch(c)
		return nil
	}
	// Nothing is sent before the states: the mailbox is closed while they are on their way.
	c.mail.arm(true)
	c.out = m.board.appendWire(c.out[:0], m.options.ReaderStates, c)
	err := c.answer(c.out)
	c.mail.release()
	return err
}

// stopWaiting ends a wait with exactly one message, the event or this answer (4.4 and later).
func (c *conn) stopWaiting() error {
	waiting := c.s.Manager.board.unwatch(c)
	if c.minor <= 3 || waiting {
		c.mail.disarm()
		c.mail.release()
		return c.answerMessage(&WaitMessage{})
	}
	c.mail.release()
	return nil
}
