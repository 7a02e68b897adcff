package piv

import (
	"context"

	"pam_pkcs11/internal/iso7816"
	"pam_pkcs11/internal/secret"
)

// Limits on what is taken from a card: the bytes of an answer, and the GET RESPONSE for it.
const (
	maxAnswer = 16 << 10
	maxRounds = 128
)

// claChain is the CLA of all commands of a chain but the last (SP 800-73-4 part 2, section 2.4.2).
const claChain = 0x10

// command is a command to the card. Only short APDUs are made of it.
type command struct {
	name        string // for the trace and for errors; tells nothing of the data
	ins, p1, p2 byte
	data        []byte // what is longer than 255 bytes is chained
	answers     bool   // the card has data to answer
}

// answer is what came back.
type answer struct {
	data []byte
	sw   iso7816.Status
}

// send sends a command and gathers the whole answer.
func (c *connection) send(ctx context.Context, cmd command) (answer, error) {
	a, err := c.first(ctx, cmd)
	if err != nil {
		return a, err
	}
	return c.rest(ctx, cmd.name, a)
}

// first sends a command and returns the first part of its answer: at most 256 bytes, with 61xx
// where more waits. Whoever does not want the rest need not ask for it: the next command discards
// it.
func (c *connection) first(ctx context.Context, cmd command) (answer, error) {
	a, err := c.chain(ctx, cmd)
	if err != nil || len(a.data) > 0 {
		return a, err
	}
	if _, more := a.sw.More(); more && cmd.answers { // T=0
		return c.getResponse(ctx, cmd.name, a.sw)
	}
	return a, nil
}

// chain sends a command, in pieces where it is long. Its answer is that to the last piece, or the
// first word that refuses one.
func (c *connection) chain(ctx context.Context, cmd command) (answer, error) {
	data := cmd.data
	for len(data) > iso7816.MaxShortNc {
		piece := iso7816.Command{CLA: claChain, INS: cmd.ins, P1: cmd.p1, P2: cmd.p2, Data: data[:iso7816.MaxShortNc]}
		a, err := c.exchange(ctx, cmd.name, &piece)
		if err != nil || a.sw != iso7816.StatusOK {
			return a, err
		}
		data = data[iso7816.MaxShortNc:]
	}

	last := iso7816.Command{INS: cmd.ins, P1: cmd.p1, P2: cmd.p2, Data: data}
	if cmd.answers && (!c.isT0() || len(data) == 0) {
		last.Ne = iso7816.MaxShortNe // T=0 has no room for Le beside data
	}
	return c.exchange(ctx, cmd.name, &last)
}

// exchange sends one APDU, and once more where the card names the right Le (6Cxx): such a command
// was not executed.
func (c *connection) exchange(ctx context.Context, name string, apdu *iso7816.Command) (answer, error) {
	for again := false; ; again = true {
		bytes, err := apdu.Marshal()
		if err != nil {
			return answer{}, err
		}
		a, err := c.transmit(ctx, name, bytes, nil)
		if err != nil {
			return a, err
		}
		le, wrong := a.sw.RightLe()
		if !wrong || again || len(a.data) > 0 {
			return a, nil
		}
		apdu.Ne = le
	}
}

// rest gathers what waits behind the first part of an answer. The length of the outer data object
// tells what is missing where the card does not.
func (c *connection) rest(ctx context.Context, name string, a answer) (answer, error) {
	for round := 0; ; round++ {
		_, more := a.sw.More()
		silent := a.sw == iso7816.StatusOK && len(a.data) > 0 && len(a.data)%256 == 0 && outerLength(a.data) > len(a.data)
		switch {
		case !more && !silent:
			return a, nil
		case len(a.data) > maxAnswer || outerLength(a.data) > maxAnswer || round == maxRounds:
			return answer{}, malformed(name, "the answer is longer than %d bytes", maxAnswer)
		}

		next, err := c.getResponse(ctx, name, a.sw)
		if err != nil {
			return answer{}, err
		}
		if silent && next.sw != iso7816.StatusOK && len(next.data) == 0 {
			return a, nil // there was no more: whoever reads the object sees that it is cut
		}
		if len(next.data) == 0 && next.sw.SW1() == 0x61 {
			return answer{}, malformed(name, "GET RESPONSE brought nothing")
		}
		a = answer{append(a.data, next.data...), next.sw}
	}
}

// getResponse is GET RESPONSE (SP 800-73-4 part 2, section 2.4.1).
func (c *connection) getResponse(ctx context.Context, name string, sw iso7816.Status) (answer, error) {
	le, more := sw.More()
	if !more {
		le = iso7816.MaxShortNe
	}
	return c.exchange(ctx, name+" (GET RESPONSE)", &iso7816.Command{INS: 0xC0, Ne: le})
}

// outerLength is the whole length of the data object that b begins with; 0 where b does not tell.
func outerLength(b []byte) int {
	_, header, length, ok := iso7816.ReadTLVHeader(b)
	if !ok {
		return 0
	}
	return header + length
}

// transmit sends the bytes of one APDU. hidden, where it is not nil, is the memory of bytes, and is
// wiped when the call has returned, be that after the caller has given it up.
func (c *connection) transmit(ctx context.Context, name string, bytes []byte, hidden *secret.PIN) (answer, error) {
	if err := c.ready(ctx); err != nil {
		hidden.Wipe()
		return answer{}, err
	}
	c.module.trace(name)
	defer c.module.trace("")

	c.fresh = false
	protocol := c.card.ActiveProtocol()
	raw, err := start(ctx, c, name, func() ([]byte, error) {
		defer hidden.Wipe()
		return c.module.service.Transmit(c.card.Handle(), protocol, bytes, iso7816.MaxShortNe+2)
	})
	if err != nil {
		return answer{}, err
	}
	data, sw, err := iso7816.ParseResponse(raw)
	if err != nil {
		return answer{}, malformed(name, "%w", err)
	}
	return answer{data[:len(data):len(data)], sw}, nil
}
