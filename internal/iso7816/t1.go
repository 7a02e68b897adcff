package iso7816

import (
	"errors"
	"fmt"
)

// T1Config are the parameters of T=1 with one card.
type T1Config struct {
	NAD         byte // of our blocks; the card's has the two nibbles exchanged
	IFSC        int  // the card's information field size, as ATR.IFSC gives it; 0 is DefaultIFSC
	IFSD        int  // ours, as the card knows it; 0 is DefaultIFSD. NegotiateIFS changes it
	EDC         EDC
	MaxResponse int // the longest response that is taken; 0 is 65538, the longest there is
}

// Errors of a T=1 exchange. Where an error does not say otherwise, the next exchange can begin.
var (
	// ErrT1Lost: the protocol was resynchronised after the whole command had been sent. The card
	// may have executed it, so it is not sent again; the caller has to find out.
	ErrT1Lost = errors.New("answer of the card lost, T=1 resynchronised")
	// ErrT1Dead: the card did not even answer a request to resynchronise. Only a reset of the card
	// helps; see Reset.
	ErrT1Dead = errors.New("card does not follow T=1 any more, a reset is needed")
	// ErrT1Aborted: the card, or the caller by Abort, gave the exchange up.
	ErrT1Aborted = errors.New("T=1 exchange aborted")
	// ErrT1Long: the response was longer than MaxResponse; it was broken off.
	ErrT1Long = errors.New("response is too long")
	// ErrT1IFS: the card did not confirm our information field size.
	ErrT1IFS = errors.New("card did not confirm the information field size")
	// ErrT1Order: a method was called in a state that does not allow it, for example Receive
	// without an exchange.
	ErrT1Order = errors.New("T=1 engine called out of order")
)

// Step is what the driver has to do next in a T=1 exchange.
type Step struct {
	// Send is the block to send; then the driver calls Receive with the answer, or Fault. It is nil
	// when Done, and valid until the next call.
	Send []byte
	// WTX multiplies BWT for the answer to this block; 0 counts as 1. The card may ask for it again
	// and again; the driver bounds the whole exchange.
	WTX byte
	// Resync reports that this block resynchronises; drivers log it.
	Resync bool

	Done     bool
	Response []byte // when Done without Err, valid until the next exchange begins
	Err      error  // when Done
	Abandon  bool   // Err is ErrT1Dead: nothing but a reset of the card helps
}

// retriesMax is how often in a row a block may be asked for or repeated before the engine
// resynchronises, and how often an S-block is repeated (11.6.3.2, rules 6.4 and 7.4).
const retriesMax = 3

// busyMax bounds the S-blocks of the card in a row that do not advance the exchange. WTX is not
// counted, see Step.WTX.
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

// T1 is the interface device's role in T=1 (11.6). It makes no allocation per block. Not for
// concurrent use.
type T1 struct {
	config     T1Config
	ifsc, ifsd int
	ns, nr     byte // N(S) of our next I-block, and the one expected of the card's next
	state      t1state

	command []byte // of this exchange; the caller's memory
	acked   int    // bytes of it that the card has acknowledged
	chunk   int    // bytes of it in the block on its way
	last    bool   // the block on its way completes the command

	request  byte  // PCB of our S-block request
	argument byte  // its information field, for IFS
	after    error // the exchange's result once both sides are resynchronised
	restart  bool  // the command is sent again after the resynchronisation

	// Repetitions so far; retriesMax and busyMax are their limits.
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
	t.ns = 0
	t.nr = 0
	t.state = t1Idle
	t.command = nil
}

// within is n as an information field size, at most 254; otherwise stands for a size not given.
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

// Dead reports whether only a reset helps.
func (t *T1) Dead() bool { return t.state == t1Dead }

// Transmit begins an exchange: a command of at least one byte, and the response that ends it.
// command must not change until the exchange is done.
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

// begin prepares an exchange; not ok when there is one already or the card is dead.
func (t *T1) begin() (Step, bool) {
	switch t.state {
	case t1Dead:
		return Step{Done: true, Err: ErrT1Dead, Abandon: true}, false
	case t1Idle:
	default:
		return Step{Done: true, Err: ErrT1Order}, false
	}

	t.command = nil
	t.response = t.response[:0]
	t.after = nil
	t.restart = false

	// The limits on repetitions hold for each exchange, not for the life of the card.
	t.retries = 0
	t.requests = 0
	t.busy = 0
	t.resyncs = 0
	return Step{}, true
}

// first sends the command from its beginning.
func (t *T1) first() Step {
	t.acked = 0
	t.last = false
	t.response = t.response[:0]
	t.state = t1Sending
	return t.sendI()
}

// sendI sends the block that begins at acked. Until the card acknowledges it, a call sends the same
// block again.
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

// done ends the exchange and clears the last block, which may have held a PIN.
func (t *T1) done(err error) Step {
	t.state = t1Idle
	t.command = nil
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
	// A NAD that is not ours with the nibbles exchanged: not an answer to our block (11.3.2.1).
	case err != nil, b.nad != t.config.NAD<<4|t.config.NAD>>4:
		return t.invalid(rOther)
	case b.isI():
		return t.receiveI(&b)
	case b.isR():
		return t.receiveR(&b)
	}
	return t.receiveS(&b)
}

// Fault tells the engine that no answer came in time, or one with parity errors.
func (t *T1) Fault() Step {
	if t.state == t1Idle || t.state == t1Dead {
		return Step{Done: true, Err: ErrT1Order, Abandon: t.state == t1Dead}
	}
	return t.invalid(rEDC)
}

// invalid reacts to a block that could not be read or is not allowed now (rule 7).
func (t *T1) invalid(problem byte) Step {
	switch t.state {
	case t1Request:
		// What is missing is the response to our request: only the request again brings it.
		return t.repeatRequest()
	case t1CardAbort:
		// Without the card's next block it is not certain that the confirmation arrived.
		return t.resynchronise()
	}

	if t.retries++; t.retries > retriesMax {
		return t.resynchronise()
	}
	return t.sendR(problem)
}

// receiveI takes an I-block. It acknowledges the last block of our command; in the middle of our
// chain, or with another N(S) than the expected one, it is not valid.
func (t *T1) receiveI(b *t1block) Step {
	switch t.state {
	case t1Sending:
		if !t.last || b.seq() != t.nr {
			return t.invalid(rOther)
		}
		// The answer is the acknowledgement: no R-block comes for the last block of a command.
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

	// A valid block ends the row of repetitions, so that the limits do not bound long responses.
	t.state = t1Receiving
	t.nr ^= 1
	t.retries = 0
	t.busy = 0

	// Nothing beyond the limit is kept: a chain that never ends must not fill the memory.
	if len(t.response)+len(b.inf) > t.config.MaxResponse {
		return t.giveUp(ErrT1Long, b.more())
	}

	t.response = append(t.response, b.inf...)
	if b.more() {
		return t.sendR(rGood)
	}
	return t.done(nil)
}

// invalidAfter refuses a block that acknowledged ours but has no data: by empty blocks in the
// middle of a chain a card could go on for ever.
func (t *T1) invalidAfter() Step {
	t.state = t1Receiving
	return t.invalid(rOther)
}

// receiveR takes an R-block: the card has our block and wants the next (the other N(R)), or wants
// the same again.
func (t *T1) receiveR(b *t1block) Step {
	switch {
	case t.state != t1Sending:
		return t.invalid(rOther)
	case b.seq() == t.ns:
		// N(R) names the block on its way: the card could not read it.
		if t.retries++; t.retries > retriesMax {
			return t.resynchronise()
		}
		return t.sendI()
	case t.last:
		// It has the whole command, and an I-block is due: ask for that.
		return t.invalid(rGood)
	}

	t.ns ^= 1
	t.acked += t.chunk
	t.retries = 0
	t.busy = 0
	return t.sendI()
}
