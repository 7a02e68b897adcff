package iso7816

// T0CardStep is what a card does after it received bytes in T=0.
type T0CardStep struct {
	Send   []byte // bytes to send, valid until the next call
	Expect int    // bytes that the card waits for; 0 when a command is complete
	// Command is a complete TPDU, valid until the next header is received: a header of five bytes
	// and the data that came, or, where none came, the header with P3 as Le. The card executes it
	// and calls Respond.
	Command []byte
}

// T0Card is the card's role in T=0, for simulated cards. Not for concurrent use.
type T0Card struct {
	// Incoming reports whether the command with this INS brings data. The header does not say it:
	// in T=0 only the card knows whether P3 is Lc or Le.
	Incoming func(ins byte) bool
	// ByteWise makes the card acknowledge every byte of data by itself.
	ByteWise bool
	// Nulls is how many NULL bytes it sends before each procedure byte.
	Nulls int

	command []byte
	out     []byte
}

// Reset is a reset of the card.
func (c *T0Card) Reset() { c.command = c.command[:0] }

// Receive takes bytes of the interface device: a header, or data that was acknowledged.
func (c *T0Card) Receive(b []byte) T0CardStep {
	c.command = append(c.command, b...)
	if len(c.command) < 5 {
		return T0CardStep{Expect: 5 - len(c.command)}
	}

	missing := 0
	if c.Incoming(c.command[1]) {
		missing = 5 + int(c.command[4]) - len(c.command)
	}

	if missing <= 0 {
		return T0CardStep{Command: c.command}
	}

	c.out = c.nulls(c.out[:0])
	if c.ByteWise {
		return T0CardStep{Send: append(c.out, ^c.command[1]), Expect: 1}
	}
	return T0CardStep{Send: append(c.out, c.command[1]), Expect: missing}
}

// Respond ends the command given out last: data, at most as much as P3 allowed, and the status
// word.
func (c *T0Card) Respond(data []byte, sw Status) T0CardStep {
	ins := c.command[1]
	c.command = c.command[:0]

	c.out = c.out[:0]
	switch {
	case len(data) == 0:
	case c.ByteWise:
		for _, x := range data {
			c.out = append(c.nulls(c.out), ^ins, x)
		}
	default:
		c.out = append(append(c.nulls(c.out), ins), data...)
	}

	c.out = append(c.nulls(c.out), sw.SW1(), sw.SW2())
	return T0CardStep{Send: c.out, Expect: 5}
}

// nulls appends the NULL bytes that stand before a procedure byte.
func (c *T0Card) nulls(b []byte) []byte {
	for range c.Nulls {
		b = append(b, 0x60)
	}
	return b
}
