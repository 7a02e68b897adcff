package iso7816

// The S-blocks of T=1 (11.6.2.3) and the ladder of 11.6.3.2: ask again, resynchronise, give up.

// NegotiateIFS tells the card our information field size, 1 to 254, as an exchange of its own (rule 4).
func (t *T1) NegotiateIFS(n int) Step {
	if step, ok := t.begin(); !ok {
		return step
	}
	t.argument, t.after = byte(within(n, DefaultIFSD)), ErrT1IFS
	return t.ask(sIFS)
}

// Resynchronise begins an exchange that brings the sequence numbers of both sides to their beginning, for a driver that
// has lost the thread of an exchange it gave up.
func (t *T1) Resynchronise() Step {
	if t.state == t1Dead {
		return Step{Done: true, Err: ErrT1Dead, Abandon: true}
	}
	t.state = t1Idle
	t.begin()
	return t.resynchronise()
}

// Abort gives up the exchange in progress, in place of the block that the last step wanted sent (rule 9). What follows
// ends with ErrT1Aborted. Outside of a chain there is nothing to abort in T=1, and the engine resynchronises.
func (t *T1) Abort() Step {
	if t.state == t1Idle || t.state == t1Dead {
		return Step{Done: true, Err: ErrT1Order, Abandon: t.state == t1Dead}
	}
	return t.giveUp(ErrT1Aborted, t.state == t1Receiving || t.state == t1Sending && t.chunk < len(t.command))
}

// giveUp ends the exchange with an error, but in an orderly way: the chain is aborted, and the sequence numbers are made
// certain.
func (t *T1) giveUp(err error, chain bool) Step {
	t.after = err
	if !chain {
		return t.resynchronise()
	}
	return t.ask(sAbort)
}

// ask sends an S-block request for the first time.
func (t *T1) ask(pcb byte) Step {
	t.state, t.request, t.requests = t1Request, pcb, 0
	return t.repeatRequest()
}

// repeatRequest sends our S-block request, at most three times (rules 6.4 and 7.3).
func (t *T1) repeatRequest() Step {
	t.requests++
	if t.requests <= retriesMax {
		if t.request == sIFS {
			one := [1]byte{t.argument}
			return t.send(sIFS, one[:])
		}
		return t.send(t.request, nil)
	}
	switch t.request {
	case sIFS:
		return t.done(ErrT1IFS)
	case sAbort:
		return t.resynchronise()
	}
	return t.die()
}

func (t *T1) die() Step {
	t.done(nil)
	t.state = t1Dead
	return Step{Done: true, Err: ErrT1Dead, Abandon: true}
}

// resynchronise begins anew (rule 6), and decides what is to happen then: a command of which the last block was never
// sent cannot have been executed and is sent again from its beginning, once; any other exchange ends.
func (t *T1) resynchronise() Step {
	if t.resyncs++; t.resyncs > retriesMax {
		return t.die()
	}
	t.restart = t.after == nil && t.state == t1Sending && !t.last && t.resyncs == 1
	if t.after == nil && t.command != nil && !t.restart {
		t.after = ErrT1Lost
	}
	return t.ask(sResynch)
}

// resynchronised is where both sides begin anew. The card may have gone back to the size that its ATR names.
func (t *T1) resynchronised() Step {
	t.ns, t.nr = 0, 0
	t.ifsc = min(t.ifsc, within(t.config.IFSC, DefaultIFSC))
	t.retries, t.busy = 0, 0
	if t.restart {
		return t.first()
	}
	t.response = t.response[:0]
	return t.done(t.after)
}

func (t *T1) receiveS(b *t1block) Step {
	if b.pcb&pcbAnswer != 0 {
		return t.receiveAnswer(b)
	}
	if b.pcb != sWTX {
		if t.busy++; t.busy > busyMax {
			return t.resynchronise()
		}
	}
	switch b.pcb {
	case sIFS:
		t.ifsc = int(b.inf[0])
	case sAbort: // who has which sequence number is uncertain then, so whatever comes next, both begin anew
		if t.state != t1Request {
			t.state, t.after = t1CardAbort, ErrT1Aborted
		}
	case sWTX:
		step := t.send(sWTX|pcbAnswer, b.inf)
		step.WTX = b.inf[0]
		return step
	default: // only the interface device may ask to resynchronise
		return t.invalid(rOther)
	}
	return t.send(b.pcb|pcbAnswer, b.inf)
}

// receiveAnswer takes the response to our own request.
func (t *T1) receiveAnswer(b *t1block) Step {
	if t.state != t1Request || b.pcb != t.request|pcbAnswer {
		return t.invalid(rOther)
	}
	switch t.request {
	case sResynch:
		return t.resynchronised()
	case sAbort:
		return t.resynchronise()
	}
	if b.inf[0] != t.argument {
		return t.repeatRequest()
	}
	t.ifsd = int(t.argument)
	return t.done(nil)
}
