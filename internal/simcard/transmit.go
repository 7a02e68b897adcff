package simcard

import (
	"bytes"
	"time"

	"pam_pkcs11/internal/iso7816"
)

// maxChain bounds what a chain of commands brings: the largest object with its template.
const maxChain = 16 << 10

// Instructions (part 2, table 2).
const (
	insVerify       = 0x20
	insChange       = 0x24
	insResetRetry   = 0x2C
	insGenerate     = 0x47
	insAuthenticate = 0x87
	insSelect       = 0xA4
	insGetResponse  = 0xC0
	insGetData      = 0xCB
	insPutData      = 0xDB

	claChain = 0x10
)

// Transmit answers a command APDU, short or extended. What is no command gets a status word that
// says so. It fails only as a hook wants it, and with ErrPower when the card was reset meanwhile.
func (c *Card) Transmit(command []byte) ([]byte, error) {
	c.exchange.Lock()
	defer c.exchange.Unlock()

	// The hooks run without mu: they may call any method of the card.
	n, header, before, after, resets := c.arrive(command)
	if before != nil {
		if err := before(n, header); err != nil {
			return nil, err
		}
	}

	since := c.o.Clock.Now()
	answer, cost, err := c.answer(command, resets)
	if err != nil {
		return nil, err
	}

	if !c.pause(since, cost, resets) {
		return nil, ErrPower
	}

	if c.o.Trace != nil {
		_, word, _ := iso7816.ParseResponse(answer)
		c.o.Trace(Event{
			N:       n,
			Header:  header,
			Command: len(command),
			Answer:  len(answer),
			Word:    word,
			Cost:    cost,
		})
	}

	if after != nil {
		if err := after(n, header); err != nil {
			return nil, err
		}
	}
	return answer, nil
}

// answer executes a command, unless the card has been reset since it came, and says how long a card
// would take for it.
func (c *Card) answer(command []byte, resets int) (answer []byte, cost time.Duration, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()

	// The hook before the command may have reset the card.
	if resets != c.counters.Resets {
		return nil, 0, ErrPower
	}

	if !isAuthenticate(command) {
		c.fresh = false
	}

	apdu, err := iso7816.ParseCommand(command)
	if err != nil {
		answer = iso7816.AppendResponse(nil, nil, iso7816.StatusWrongLength)
	} else {
		data, sw := c.perform(&apdu)
		answer = iso7816.AppendResponse(nil, data, sw)
	}

	// awaitTouch unlocks mu: the card may have been reset since.
	if resets != c.counters.Resets {
		return nil, 0, ErrPower
	}

	cost = c.cost(command, answer)
	c.spent += cost
	return answer, cost, nil
}

// isAuthenticate reports whether a command is GENERAL AUTHENTICATE, or a piece of one. Every other
// command that comes between VERIFY and the use of a key with PIN policy "always" spoils the
// verification (section 3.2.4 with part 1, table 5: the PIN is submitted immediately before).
func isAuthenticate(command []byte) bool {
	return len(command) > 1 && command[1] == insAuthenticate
}

func (c *Card) perform(apdu *iso7816.Command) ([]byte, iso7816.Status) {
	switch {
	case apdu.CLA&0xE0 != 0:
		return nil, iso7816.StatusWrongCLA
	case apdu.CLA&0x0C != 0:
		return nil, iso7816.StatusSecureUnsupported
	case apdu.CLA&0x03 != 0:
		return nil, iso7816.StatusChannelUnsupported
	case c.o.Limits.takes(apdu) != iso7816.StatusOK:
		return nil, iso7816.StatusWrongLength
	case apdu.INS == insGetResponse:
		c.count(apdu)
		return c.getResponse(apdu.Ne)
	}

	// What an earlier answer left behind is lost with the next command.
	c.waiting = nil
	if sw := c.gather(apdu); sw != iso7816.StatusOK || apdu.CLA&claChain != 0 {
		return nil, sw
	}

	c.count(apdu)
	data, sw := c.execute(apdu)
	if len(data) == 0 {
		return nil, sw
	}

	// Before anything is kept: with 6Cxx the command has to come again.
	if apdu.Ne > 0 && apdu.INS == insGetData {
		if sw, wrong := c.o.Limits.wrongLe(apdu.Ne, len(data)); wrong {
			return nil, sw
		}
	}

	c.waiting = data
	c.last = sw
	if apdu.Ne == 0 && c.o.Limits.Generous {
		apdu.Ne = iso7816.MaxShortNe
	}

	// T=0 has no room for Le beside data: the host fetches what waits by GET RESPONSE.
	if apdu.Ne == 0 {
		return nil, c.o.Limits.more(len(data))
	}

	return c.getResponse(apdu.Ne)
}

// gather puts the commands of a chain together (part 2, section 2.4 "command chaining"). A command
// of another kind in the middle of a chain breaks it off.
func (c *Card) gather(apdu *iso7816.Command) iso7816.Status {
	of := [3]byte{apdu.INS, apdu.P1, apdu.P2}

	// A chain is of one instruction with the same parameters.
	if c.chain != nil && c.chainOf != of {
		c.chain = nil
		if apdu.CLA&claChain == 0 && !c.o.Limits.DropChain {
			return iso7816.StatusLastExpected
		}
	}

	if len(c.chain)+len(apdu.Data) > c.o.Limits.maxCommand() {
		c.chain = nil
		return iso7816.StatusWrongLength
	}

	if apdu.CLA&claChain != 0 {
		c.chain = append(c.chain, apdu.Data...)
		c.chainOf = of
		return iso7816.StatusOK
	}

	if c.chain != nil {
		apdu.Data = append(c.chain, apdu.Data...)
		c.chain = nil
	}

	return iso7816.StatusOK
}

// getResponse brings at most ne bytes of what waits, and says how much there still is.
func (c *Card) getResponse(ne int) ([]byte, iso7816.Status) {
	limits := &c.o.Limits
	if c.waiting == nil {
		if limits.Silent {
			return nil, iso7816.StatusWrongData
		}
		return nil, iso7816.StatusConditions
	}

	if sw, wrong := limits.wrongLe(ne, len(c.waiting)); wrong {
		return nil, sw
	}

	if limits.MaxAnswer > 0 {
		ne = min(ne, limits.MaxAnswer)
	}

	n := min(ne, len(c.waiting))
	data := bytes.Clone(c.waiting[:n])
	c.waiting = c.waiting[n:]

	if rest := len(c.waiting); rest > 0 {
		if limits.Silent {
			return data, c.last
		}
		return data, limits.more(rest)
	}

	c.waiting = nil
	return data, c.last
}

// execute gives a whole command to the application that is selected.
func (c *Card) execute(apdu *iso7816.Command) ([]byte, iso7816.Status) {
	switch {
	case apdu.INS == insSelect:
		return c.selectApplication(apdu)
	case c.selected == Foreign:
		return nil, c.foreign.execute(apdu)
	case c.selected == OneTime:
		return c.oneTime(apdu)
	case c.selected != PIV:
		return nil, iso7816.StatusWrongINS // the card manager knows none of these
	}

	switch apdu.INS {
	case insGetData:
		return c.getData(apdu)
	case insPutData:
		return nil, c.putData(apdu)
	case insVerify:
		return nil, c.verify(apdu)
	case insChange:
		return nil, c.changeReference(apdu)
	case insResetRetry:
		return nil, c.resetRetryCounter(apdu)
	case insAuthenticate:
		return c.generalAuthenticate(apdu)
	case insGenerate:
		return c.generate(apdu)
	}

	if data, sw, ok := c.yubico(apdu); ok {
		return data, sw
	}
	return nil, iso7816.StatusWrongINS
}

// Limits is what a card can transport. The zero value takes short and extended APDUs, and chains,
// of any length.
type Limits struct {
	// ShortOnly: an APDU of extended length is answered 6700.
	ShortOnly bool

	// MaxCommand bounds the data of a command, its whole chain together; more is answered 6700
	// (YubiKey NEO 2048, YubiKey 4 3072, by yubico-piv-tool). 0 is 16 KiB.
	MaxCommand int

	// MaxAnswer bounds what one answer brings, as if fewer bytes had been asked for. 0 is no bound.
	MaxAnswer int

	// Full61: 61FF tells of 256 bytes or more, where the specification has 6100 (CanoKey).
	Full61 bool

	// ExactLe: GET DATA and GET RESPONSE that ask for another number of bytes than there are, 256
	// apart, are answered 6Cxx, and bring nothing.
	ExactLe bool

	// Silent: a piece that fills the answer ends with 9000, and not with 61xx; GET RESPONSE brings
	// the rest, and after the last 6A80 (cards that pivy knows).
	Silent bool

	// Generous: a command that does not ask for data gets it all the same, as with Le 00 (YubiKey
	// over T=1: yubico-piv-tool selects PIV so, and takes nothing but 9000).
	Generous bool

	// DropChain: a command in the middle of a chain ends the chain in silence, and is executed; the
	// specification's card answers 6883.
	DropChain bool
}

// takes checks the length of a command as it arrives.
func (l *Limits) takes(apdu *iso7816.Command) iso7816.Status {
	if l.ShortOnly && (len(apdu.Data) > iso7816.MaxShortNc || apdu.Ne > iso7816.MaxShortNe) {
		return iso7816.StatusWrongLength
	}
	return iso7816.StatusOK
}

// maxCommand is the most that a command brings.
func (l *Limits) maxCommand() int {
	if l.MaxCommand > 0 {
		return l.MaxCommand
	}
	return maxChain
}

// more is the word that tells how much still waits.
func (l *Limits) more(rest int) iso7816.Status {
	switch {
	case rest < 256:
		return 0x6100 | iso7816.Status(rest)
	case l.Full61:
		return 0x61FF
	}
	return 0x6100
}

// wrongLe is 6Cxx, where the number of bytes asked for is not that of those that are there.
func (l *Limits) wrongLe(ne, there int) (iso7816.Status, bool) {
	// 6Cxx has one byte for a number, and 256 bytes asked for is "as many as there are".
	tooLong := there >= iso7816.MaxShortNe || ne >= iso7816.MaxShortNe
	if !l.ExactLe || tooLong || ne == there {
		return 0, false
	}
	return 0x6C00 | iso7816.Status(there), true
}
