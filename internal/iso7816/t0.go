package iso7816

import (
	"errors"
	"fmt"
)

// Errors of a T=0 exchange.
var (
	// ErrT0Command: the command cannot be sent in T=0. It has fields of extended length, or an INS
	// that would look like a status byte.
	ErrT0Command = errors.New("command cannot be sent in T=0")
	// ErrT0Procedure: the card sent a byte that is no procedure byte, or more bytes than there were
	// to send.
	ErrT0Procedure = errors.New("card sent a wrong procedure byte")
	// ErrT0Order: a method was called in a state that does not allow it.
	ErrT0Order = errors.New("T=0 engine called out of order")
)

// T0Step is what the driver of a character level reader has to do next in a T=0 exchange.
type T0Step struct {
	// Send are the bytes to send now, before anything is read; nil is nothing. Valid until the next
	// call.
	Send []byte
	// Expect is the number of bytes that the card sends next, at least 1, within WWT each. Receive
	// takes more at a time, too.
	Expect int
	// NULL reports that the card asked for time: the wait begins anew. It may ask for ever; the
	// driver bounds the whole exchange.
	NULL bool

	Done     bool
	Response []byte // when Done without Err, valid until the next exchange begins
	Err      error  // when Done
}

type t0state byte

const (
	t0Idle      t0state = iota
	t0Procedure         // a procedure byte or SW1 comes next
	t0Data              // data of the card comes next
	t0SW2
)

// T0 is the interface device's role in T=0 (10.3). 61xx and 6Cxx are answers like any other: GET
// RESPONSE and the repetition with another Le are left to the application, as in PC/SC. Not for
// concurrent use.
type T0 struct {
	state    t0state
	ins      byte
	outgoing []byte // command data not yet sent
	wanted   int    // response data not yet received
	burst    int    // of that, what the card sends before the next procedure byte
	response []byte
	header   [5]byte
	data     [MaxShortNc]byte
}

// NewT0 makes an engine.
func NewT0() *T0 { return &T0{response: make([]byte, 0, MaxShortNe+2)} }

// Transmit begins an exchange with a command of case 1, 2, 3 or 4 with short fields. T=0 has no
// place for the Le of case 4: it is left out, and the card answers 61xx when it has data.
func (t *T0) Transmit(command []byte) T0Step {
	c, err := ParseCommand(command)
	switch {
	case err != nil:
		return T0Step{Done: true, Err: err}
	case c.Extended:
		return T0Step{Done: true, Err: fmt.Errorf("%w: extended length", ErrT0Command)}
	// The card could not tell its procedure byte, which repeats INS, from SW1.
	case c.INS&0xF0 == 0x60 || c.INS&0xF0 == 0x90:
		return T0Step{Done: true, Err: fmt.Errorf("%w: INS %02X", ErrT0Command, c.INS)}
	}

	t.ins = c.INS
	t.response = t.response[:0]
	t.wanted = 0
	// A copy, unlike in T=1: the caller may reuse the command before the card has asked for the
	// data.
	t.outgoing = t.data[:copy(t.data[:], c.Data)]

	// P3 is Lc or Le, by what the command carries. Le 256 becomes 00.
	t.header = [5]byte{c.CLA, c.INS, c.P1, c.P2, byte(len(c.Data))}
	if len(c.Data) == 0 {
		t.header[4] = byte(c.Ne)
		t.wanted = c.Ne
	}

	t.state = t0Procedure
	return T0Step{Send: t.header[:], Expect: 1}
}

// Fault ends the exchange: the card did not answer in time, or with parity errors. T=0 has no way
// to ask again.
func (t *T0) Fault(err error) T0Step { return t.fail(err) }

func (t *T0) fail(err error) T0Step { return t.done(T0Step{Done: true, Err: err}) }

// done ends the exchange and clears the command's data, which may have been a PIN.
func (t *T0) done(step T0Step) T0Step {
	t.state = t0Idle
	clear(t.data[:])
	return step
}

// Receive takes bytes of the card.
func (t *T0) Receive(b []byte) T0Step {
	if t.state == t0Idle || len(b) == 0 {
		return t.fail(ErrT0Order)
	}

	var step T0Step
	for len(b) > 0 {
		// After a step that sends or ends the card has nothing to say: what follows is not T=0.
		if step.Done || step.Send != nil {
			return t.fail(fmt.Errorf("%w: %d bytes too many", ErrT0Procedure, len(b)))
		}

		n := 1
		switch t.state {
		case t0Data:
			n = min(len(b), t.burst)
			step = t.takeData(b[:n])
		case t0Procedure:
			step = t.procedure(b[0])
		case t0SW2:
			t.response = append(t.response, b[0])
			step = t.done(T0Step{Done: true, Response: t.response})
		}

		b = b[n:]
	}
	return step
}

// takeData takes response data, up to the next procedure byte.
func (t *T0) takeData(b []byte) T0Step {
	t.response = append(t.response, b...)
	t.burst -= len(b)
	t.wanted -= len(b)
	if t.burst > 0 {
		return T0Step{Expect: t.burst}
	}

	t.state = t0Procedure
	return T0Step{Expect: 1}
}

// procedure acts on a procedure byte (table 11). The lowest bit of an acknowledgement once switched
// VPP and has no meaning today.
func (t *T0) procedure(b byte) T0Step {
	switch {
	case b == 0x60:
		return T0Step{Expect: 1, NULL: true}
	// Transmit refuses an INS 6x or 9x, so that this can be SW1 only.
	case b&0xF0 == 0x60 || b&0xF0 == 0x90:
		t.response = append(t.response, b)
		t.state = t0SW2
		return T0Step{Expect: 1}
	// INS: all that is left goes in one piece. 256 is more than any P3 allows.
	case b&^1 == t.ins&^1:
		return t.transfer(256)
	// The complement of INS: a single byte goes, and another procedure byte follows.
	case b&^1 == ^t.ins&^1:
		return t.transfer(1)
	}
	return t.fail(fmt.Errorf("%w: %02X", ErrT0Procedure, b))
}

// transfer moves at most n bytes in the command's direction. An acknowledgement with nothing left
// to send is an error, else a card could go on for ever.
func (t *T0) transfer(n int) T0Step {
	switch {
	case len(t.outgoing) > 0:
		n = min(n, len(t.outgoing))
		send := t.outgoing[:n]
		t.outgoing = t.outgoing[n:]
		return T0Step{Send: send, Expect: 1}
	case t.wanted > 0:
		t.state = t0Data
		t.burst = min(n, t.wanted)
		return T0Step{Expect: t.burst}
	}
	return t.fail(fmt.Errorf("%w: %02X with nothing left to send", ErrT0Procedure, t.ins))
}
