package iso7816

// The S-blocks of T=1 (11.6.2.3) and the order of recovery of 11.6.3.2: ask again, resynchronise,
// give up.

// NegotiateIFS tells the card our information field size, 1 to 254, as an exchange of its own (rule
// 4).
func (t *T1) NegotiateIFS(n int) Step {
	if step, ok := t.begin(); !ok {
		return step
	}

	// ErrT1IFS stands in after, so that a resynchronisation in between ends the exchange with it.
	t.argument = byte(within(n, DefaultIFSD))
	t.after = ErrT1IFS
	return t.ask(sIFS)
}

// Resynchronise begins an exchange that brings the sequence numbers of both sides to their
// beginning, for a driver that has given an exchange up and does not know what the card received of
// it.
func (t *T1) Resynchronise() Step {
	if t.state == t1Dead {
		return Step{Done: true, Err: ErrT1Dead, Abandon: true}
	}

	// begin refuses while an exchange is going on, and the one that was given up never ended.
	t.state = t1Idle
	t.begin()
	return t.resynchronise()
}

// Abort gives up the exchange in progress, in place of the block that the last step wanted sent
// (rule 9). The exchange ends with ErrT1Aborted. Outside of a chain T=1 has no abort, and the
// engine resynchronises.
func (t *T1) Abort() Step {
	if t.state == t1Idle || t.state == t1Dead {
		return Step{Done: true, Err: ErrT1Order, Abandon: t.state == t1Dead}
	}

	sendingChain := t.state == t1Sending && t.chunk < len(t.command)
	return t.giveUp(ErrT1Aborted, t.state == t1Receiving || sendingChain)
}

// giveUp ends the exchange with an error after an abort of the chain, if there is one, and a
// resynchronisation: the sequence numbers of both sides are certain afterwards.
func (t *T1) giveUp(err error, chain bool) Step {
	t.after = err
	if !chain {
		return t.resynchronise()
	}
	return t.ask(sAbort)
}

// ask sends an S-block request for the first time.
func (t *T1) ask(pcb byte) Step {
	t.state = t1Request
	t.request = pcb
	t.requests = 0
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
		// The session goes on with the size that the card knows.
		return t.done(ErrT1IFS)
	case sAbort:
		// The last resort before the card is given up.
		return t.resynchronise()
	}
	return t.die()
}

// die gives the card up: it does not answer S(RESYNCH request), or asked for too many in one
// exchange.
func (t *T1) die() Step {
	t.done(nil)
	t.state = t1Dead
	return Step{Done: true, Err: ErrT1Dead, Abandon: true}
}

// resynchronise begins anew (rule 6) and decides what follows. A command whose last block was never
// sent cannot have been executed: it is sent again from its beginning, once. Any other exchange
// ends.
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

// resynchronised continues when both sides have begun anew. The card may have gone back to the size
// that its ATR names.
func (t *T1) resynchronised() Step {
	t.ns, t.nr = 0, 0
	t.ifsc = min(t.ifsc, within(t.config.IFSC, DefaultIFSC))
	t.retries = 0
	t.busy = 0

	if t.restart {
		return t.first()
	}

	t.response = t.response[:0]
	return t.done(t.after)
}

// receiveS takes an S-block: the response to our request, or a request of the card.
func (t *T1) receiveS(b *t1block) Step {
	if b.pcb&pcbAnswer != 0 {
		return t.receiveAnswer(b)
	}

	// Each request is answered: without a bound a card could keep the exchange going for ever.
	if b.pcb != sWTX {
		if t.busy++; t.busy > busyMax {
			return t.resynchronise()
		}
	}

	switch b.pcb {
	case sIFS:
		t.ifsc = int(b.inf[0])
	case sAbort:
		// The sequence numbers of the two sides are uncertain now: whatever comes next, both begin
		// anew. A request of our own that is pending is finished first.
		if t.state != t1Request {
			t.state = t1CardAbort
			t.after = ErrT1Aborted
		}
	case sWTX:
		step := t.send(sWTX|pcbAnswer, b.inf)
		step.WTX = b.inf[0]
		return step
	default:
		// Only the interface device may ask to resynchronise.
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
		// An abort leaves the sequence numbers in doubt on both sides.
		return t.resynchronise()
	}

	// S(IFS response) has to repeat the size; another one confirms nothing.
	if b.inf[0] != t.argument {
		return t.repeatRequest()
	}

	t.ifsd = int(t.argument)
	return t.done(nil)
}
