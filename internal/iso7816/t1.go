package iso7816

import (
	"errors"
	"fmt"
)

// T1Config says how blocks are exchanged with one card.
type T1Config struct {
	NAD         byte // of our blocks; the card's has the two nibbles exchanged
	IFSC        int  // the card's information field size; 0 is DefaultIFSC. ATR.IFSC has it
	IFSD        int  // ours, as the card knows it; 0 is DefaultIFSD. NegotiateIFS changes it
	EDC         EDC
	MaxResponse int // the longest response that is taken; 0 is 65538, the longest there is
}

// Errors of a T=1 exchange. After those that say nothing else the protocol goes on with the next exchange.
var (
	// ErrT1Lost: the protocol has been resynchronised after the whole command was sent. The card may have executed it,
	// so it is not sent again; the caller has to look.
	ErrT1Lost = errors.New("answer of the card lost, T=1 resynchronised")
	// ErrT1Dead: the card did not even answer a request to resynchronise. Only a reset helps; see Reset.
	ErrT1Dead = errors.New("card does not follow T=1 any more, a reset is needed")
	// ErrT1Aborted: the card, or the caller by Abort, gave the exchange up.
	ErrT1Aborted = errors.New("T=1 exchange aborted")
	// ErrT1Long: the response was longer than MaxResponse; it was broken off.
	ErrT1Long = errors.New("response is too long")
	// ErrT1IFS: the card did not confirm our information field size.
	ErrT1IFS = errors.New("card did not confirm the information field size")
	// ErrT1Order: a call that does not fit, for example Receive without an exchange.
	ErrT1Order = errors.New("T=1 engine called out of order")
)

// Step is what the driver has to do next in a T=1 exchange.
type Step struct {
	// Send is the block to send; then the driver calls Receive with the answer, or Fault. nil when Done. It is valid
	// until the next call.
	Send []byte
	// WTX multiplies BWT for the answer to this block; 0 is 1. The card may ask for it again and again: the driver
	// bounds the whole.
	WTX byte
	// Resync tells that this block resynchronises, for the log.
	Resync bool

	Done     bool
	Response []byte // when Done without Err, valid until the next exchange begins
	Err      error  // when Done
	Abandon  bool   // Err is ErrT1Dead: nothing but a reset of the card helps
}

// retriesMax is how often in a row a block may be asked for or repeated before the engine resynchronises, and how often
// an S-block is repeated (11.6.3.2, rules 6.4 and 7.4).
const retriesMax = 3

// busyMax bounds S-blocks of the card that bring nothing forward, except WTX.
const busyMax = 16

type t1state byte

const (
	t1Idle      t1state = iota
	t1Sending           // an I-block of ours waits to be acknowledged
	t1Receiving         // the card sends a chain
	t1Request           // an S-block request of ours waits for its response
	t1CardAbort         // we confirmed an abort of the card
	t1Dead
)

// T1 is the interface device's role in T=1 (11.6). It makes no allocation per block. Not for concurrent use.
type T1 struct {
	config     T1Config
	ifsc, ifsd int
	ns, nr     byte // N(S) of our next I-block, and of the card's next
	state      t1state

	command []byte // of this exchange; belongs to the caller
	acked   int    // bytes of it that the card has
	chunk   int    // bytes of the block on its way
	last    bool   // that block completes the command

	request  byte  // PCB of our S-block request
	argument byte  // its byte, for IFS
	after    error // what ends the exchange once a resynchronisation is through; nil begins it again
	restart  bool  // the exchange begins again after a resynchronisation

	retries, requests, busy, resyncs int

	response []byte
	out      []byte
}

// NewT1 makes an engine for a card that has just been reset.
func NewT1(config T1Config) *T1 {
	t := &T1{config: config, out: make([]byte, 0, MaxT1Block)}
	if t.config.MaxResponse <= 0 {
		t.config.MaxResponse = 65538
	}
	t.Reset()
	return t
}

// Reset brings the engine to the state after a reset of the card, with sizes as in T1Config.
func (t *T1) Reset() {
	t.ifsc = within(t.config.IFSC, DefaultIFSC)
	t.ifsd = within(t.config.IFSD, DefaultIFSD)
	t.ns, t.nr, t.state, t.command = 0, 0, t1Idle, nil
}

func within(n, otherwise int) int {
	if n <= 0 {
		return otherwise
	}
	return min(n, maxInformation)
}

// IFSC is the card's information field size now.
func (t *T1) IFSC() int { return t.ifsc }

// IFSD is ours, as far as the card has confirmed it.
func (t *T1) IFSD() int { return t.ifsd }

// Dead tells whether only a reset helps.
func (t *T1) Dead() bool { return t.state == t1Dead }

// Transmit begins an exchange: a command of at least one byte, and the response that ends it. command must not change
// until the exchange is done.
func (t *T1) Transmit(command []byte) Step {
	if step, ok := t.begin(); !ok {
		return step
	}
	if len(command) == 0 {
		t.state = t1Idle
		return Step{Done: true, Err: fmt.Errorf("%w: empty command", ErrT1Order)}
	}
	t.command = command
	return t.first()
}

// begin makes ready for an exchange; not ok when there is one already or the card is dead.
func (t *T1) begin() (Step, bool) {
	switch t.state {
	case t1Dead:
		return Step{Done: true, Err: ErrT1Dead, Abandon: true}, false
	case t1Idle:
	default:
		return Step{Done: true, Err: ErrT1Order}, false
	}
	t.command, t.response = nil, t.response[:0]
	t.retries, t.requests, t.busy, t.resyncs = 0, 0, 0, 0
	t.after, t.restart = nil, false
	return Step{}, true
}

// first sends the command from its beginning.
func (t *T1) first() Step {
	t.acked, t.last, t.response = 0, false, t.response[:0]
	t.state = t1Sending
	return t.sendI()
}

// sendI sends the block that begins at acked; again, when it has been sent before.
func (t *T1) sendI() Step {
	rest := t.command[t.acked:]
	t.chunk = min(len(rest), t.ifsc)
	pcb := t.ns << 6
	t.last = t.chunk == len(rest)
	if !t.last {
		pcb |= pcbMore
	}
	return t.send(pcb, rest[:t.chunk])
}

func (t *T1) sendR(problem byte) Step { return t.send(pcbR|t.nr<<4|problem, nil) }

func (t *T1) send(pcb byte, inf []byte) Step {
	t.out = appendBlock(t.out[:0], t.config.NAD, pcb, inf, t.config.EDC)
	return Step{Send: t.out, Resync: pcb == sResynch}
}

// done ends the exchange. The last block may have held a PIN.
func (t *T1) done(err error) Step {
	t.state, t.command = t1Idle, nil
	clear(t.out[:cap(t.out)])
	if err != nil {
		return Step{Done: true, Err: err}
	}
	return Step{Done: true, Response: t.response}
}

// Receive takes what came in answer to the last block, complete with prologue and epilogue.
func (t *T1) Receive(block []byte) Step {
	if t.state == t1Idle || t.state == t1Dead {
		return Step{Done: true, Err: ErrT1Order, Abandon: t.state == t1Dead}
	}
	b, err := parseBlock(block, t.config.EDC)
	switch {
	case errors.Is(err, errBlockEDC):
		return t.invalid(rEDC)
	case err != nil, b.nad != t.config.NAD<<4|t.config.NAD>>4:
		return t.invalid(rOther)
	case b.isI():
		return t.receiveI(&b)
	case b.isR():
		return t.receiveR(&b)
	}
	return t.receiveS(&b)
}

// Fault says that no answer came in time, or one with parity errors.
func (t *T1) Fault() Step {
	if t.state == t1Idle || t.state == t1Dead {
		return Step{Done: true, Err: ErrT1Order, Abandon: t.state == t1Dead}
	}
	return t.invalid(rEDC)
}

// invalid answers a block that could not be read, or does not fit (rule 7).
func (t *T1) invalid(problem byte) Step {
	switch t.state {
	case t1Request:
		return t.repeatRequest()
	case t1CardAbort:
		return t.resynchronise()
	}
	if t.retries++; t.retries > retriesMax {
		return t.resynchronise()
	}
	return t.sendR(problem)
}

// receiveI takes an I-block. It acknowledges the last block of our command; in the middle of our chain, and with
// another N(S) than the expected one, it does not fit.
func (t *T1) receiveI(b *t1block) Step {
	switch t.state {
	case t1Sending:
		if !t.last || b.seq() != t.nr {
			return t.invalid(rOther)
		}
		t.ns ^= 1
		t.acked += t.chunk
	case t1Receiving:
		if b.seq() != t.nr {
			return t.invalid(rOther)
		}
	default:
		return t.invalid(rOther)
	}
	if b.more() && len(b.inf) == 0 {
		return t.invalidAfter()
	}
	t.state = t1Receiving
	t.nr ^= 1
	t.retries, t.busy = 0, 0
	if len(t.response)+len(b.inf) > t.config.MaxResponse {
		return t.giveUp(ErrT1Long, b.more())
	}
	t.response = append(t.response, b.inf...)
	if b.more() {
		return t.sendR(rGood)
	}
	return t.done(nil)
}

// invalidAfter refuses a block that acknowledged ours but brings nothing: an empty one in the middle of a chain would
// allow a card to go on for ever.
func (t *T1) invalidAfter() Step {
	t.state = t1Receiving
	return t.invalid(rOther)
}

// receiveR takes an R-block: the card has our block and wants the next (the other N(R)), or wants it again.
func (t *T1) receiveR(b *t1block) Step {
	switch {
	case t.state != t1Sending:
		return t.invalid(rOther)
	case b.seq() == t.ns:
		if t.retries++; t.retries > retriesMax {
			return t.resynchronise()
		}
		return t.sendI()
	case t.last: // it has the whole command and owes the answer
		return t.invalid(rGood)
	}
	t.ns ^= 1
	t.acked += t.chunk
	t.retries, t.busy = 0, 0
	return t.sendI()
}
