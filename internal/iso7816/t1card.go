package iso7816

// CardStep is what a card does after it received a block.
type CardStep struct {
	// Send is the block to send, valid until the next call; nil when there is something else to do
	// first.
	Send []byte
	// Command is a complete command, valid until the next block is received. The card executes it
	// and calls Respond.
	Command []byte
	// Extended reports that the interface device granted the waiting time that RequestWTX asked
	// for: the card continues its command.
	Extended bool
}

// T1Card is the card's role in T=1, for simulated cards. Not for concurrent use.
type T1Card struct {
	config     T1Config
	ifsd       int  // the largest information field that the interface device takes
	ns, nr     byte // N(S) of our next I-block, and the one expected of the interface device's next
	executing  bool // a command has been handed out and not yet answered
	unanswered bool // an I-block of ours waits to be acknowledged

	command  []byte
	response []byte
	sent     int  // bytes of response in the blocks before the one on its way
	chunk    int  // bytes in the block on its way
	request  byte // PCB of our S-block request; 0 is none
	argument byte // its information field
	out      []byte
}

// NewT1Card makes the card's engine. In its configuration IFSC is the size that the card's ATR
// names, IFSD that of the interface device before it negotiates, and NAD that of the blocks the
// card expects.
func NewT1Card(config T1Config) *T1Card {
	c := &T1Card{config: config}
	c.Reset()
	return c
}

// Reset is a reset of the card.
func (c *T1Card) Reset() {
	c.ifsd = within(c.config.IFSD, DefaultIFSD)
	c.restart()
}

// restart is the state of a reset as far as blocks are concerned. Resynchronisation leaves IFSD as
// it was negotiated.
func (c *T1Card) restart() {
	c.ns = 0
	c.nr = 0
	c.executing = false
	c.unanswered = false
	c.request = 0
	c.command = c.command[:0]
	c.response = nil
}

func (c *T1Card) send(pcb byte, inf []byte) CardStep {
	nad := c.config.NAD<<4 | c.config.NAD>>4
	c.out = appendBlock(c.out[:0], nad, pcb, inf, c.config.EDC)
	return CardStep{Send: c.out}
}

func (c *T1Card) sendR(problem byte) CardStep { return c.send(pcbR|c.nr<<4|problem, nil) }

func (c *T1Card) sendI() CardStep {
	rest := c.response[c.sent:]
	c.chunk = min(len(rest), c.ifsd)
	pcb := c.ns << 6
	if c.chunk < len(rest) {
		pcb |= pcbMore
	}
	return c.send(pcb, rest[:c.chunk])
}

// Respond sends the response to the command handed out last. It must not change until the next
// command is handed out.
func (c *T1Card) Respond(response []byte) CardStep {
	c.executing = false
	c.unanswered = true
	c.response = response
	c.sent = 0
	return c.sendI()
}

// RequestWTX asks, in place of a response, for n times the block waiting time.
func (c *T1Card) RequestWTX(n byte) CardStep { return c.ask(sWTX, n) }

// RequestIFS tells the interface device another size, 1 to 254, in place of any block of the card.
// The block itself is sent when the interface device has confirmed.
func (c *T1Card) RequestIFS(n byte) CardStep { return c.ask(sIFS, n) }

// RequestAbort breaks off the chain in progress, in place of any block of the card.
func (c *T1Card) RequestAbort() CardStep {
	c.command = c.command[:0]
	c.unanswered = false
	c.executing = false
	return c.ask(sAbort, 0)
}

// ask sends an S-block request for the first time.
func (c *T1Card) ask(pcb, argument byte) CardStep {
	c.request, c.argument = pcb, argument
	return c.again()
}

// again repeats our S-block request.
func (c *T1Card) again() CardStep {
	if c.request == sAbort {
		return c.send(sAbort, nil)
	}
	one := [1]byte{c.argument}
	return c.send(c.request, one[:])
}

// Receive takes a block of the interface device. A block that cannot be read, or whose check sum is
// wrong, is answered by a request to send it again.
func (c *T1Card) Receive(block []byte) CardStep {
	b, err := parseBlock(block, c.config.EDC)

	switch {
	case err == errBlockEDC:
		return c.invalid(rEDC)
	case err != nil, b.nad != c.config.NAD:
		return c.invalid(rOther)
	case b.isI():
		return c.receiveI(&b)
	case b.isR():
		return c.receiveR(&b)
	}
	return c.receiveS(&b)
}

// invalid answers a block that could not be read or is not allowed now, as T1 does.
func (c *T1Card) invalid(problem byte) CardStep {
	if c.request != 0 {
		return c.again()
	}
	return c.sendR(problem)
}

// receiveI takes a block of a command. It acknowledges our last block, unless our chain goes on
// after that.
func (c *T1Card) receiveI(b *t1block) CardStep {
	inChain := c.unanswered && c.sent+c.chunk < len(c.response)
	busy := c.request != 0 || c.executing
	if busy || inChain || b.seq() != c.nr {
		return c.invalid(rOther)
	}

	// The first block of the next command: only now may the response to the last one be forgotten.
	if c.unanswered {
		c.ns ^= 1
		c.unanswered = false
		c.command = c.command[:0]
	}

	c.nr ^= 1
	// A chain longer than any APDU would only fill the memory.
	if len(c.command)+len(b.inf) > maxCommand {
		return c.RequestAbort()
	}

	c.command = append(c.command, b.inf...)
	if b.more() {
		return c.sendR(rGood)
	}

	c.executing = true
	return CardStep{Command: c.command}
}

// receiveR takes an R-block: our last I-block is wanted again, or it has arrived and the next of
// the chain is wanted. Where there is nothing to send, an R-block says which block the card waits
// for.
func (c *T1Card) receiveR(b *t1block) CardStep {
	switch {
	case c.request != 0:
		return c.again()
	case !c.unanswered:
		return c.sendR(rGood)
	case b.seq() == c.ns:
		return c.sendI()
	case c.sent+c.chunk < len(c.response):
		c.ns ^= 1
		c.sent += c.chunk
		return c.sendI()
	}
	return c.sendR(rGood)
}

// receiveS takes an S-block, and confirms a request by the same block as a response.
func (c *T1Card) receiveS(b *t1block) CardStep {
	if b.pcb&pcbAnswer != 0 {
		return c.receiveAnswer(b)
	}

	switch b.pcb {
	case sResynch:
		c.restart()
	case sIFS:
		c.ifsd = int(b.inf[0])
	case sAbort:
		c.command = c.command[:0]
		c.unanswered = false
		c.request = 0
	default:
		// WTX: only the card may ask for time.
		return c.invalid(rOther)
	}

	return c.send(b.pcb|pcbAnswer, b.inf)
}

// receiveAnswer takes the response to our own request and continues where the card was.
func (c *T1Card) receiveAnswer(b *t1block) CardStep {
	if c.request == 0 || b.pcb != c.request|pcbAnswer {
		return c.invalid(rOther)
	}
	// A confirmation repeats the value of the request.
	if len(b.inf) == 1 && b.inf[0] != c.argument {
		return c.invalid(rOther)
	}

	request := c.request
	c.request = 0

	switch {
	case request == sWTX || request == sIFS && c.executing:
		return CardStep{Extended: true}
	case request == sIFS && c.unanswered:
		return c.sendI()
	}
	return c.sendR(rGood)
}
