package simcard

import (
	"errors"
	"fmt"
	"maps"
	"time"

	"pam_pkcs11/internal/iso7816"
)

// Hook is called beside a command APDU: n counts from 1 all that have come to this card, and header
// is CLA INS P1 P2, never data. It may call any method of the card, and pull it out of its reader.
// With an error before the command the card does not execute it; after it the answer is lost.
// Either way Transmit returns the error, which stands for a card that says nothing.
type Hook func(n int, header [4]byte) error

// Event is one command that was answered: what a trace may show of it. Data is never in it.
type Event struct {
	N       int     // counts from 1 all commands that came to this card
	Header  [4]byte // CLA INS P1 P2
	Command int     // bytes of the APDU
	Answer  int     // bytes of the answer, its status word among them
	Word    iso7816.Status
	Cost    time.Duration // what the command takes by Options.Pace
}

// String is a line about it.
func (e Event) String() string {
	return fmt.Sprintf("%d %X %d %d %04X %d",
		e.N, e.Header, e.Command, e.Answer, uint16(e.Word), e.Cost.Nanoseconds())
}

// ErrPower is Transmit's error when the card was reset, or lost its power, before it had answered.
var ErrPower = errors.New("the card was reset or lost its power")

// Counters is what has happened to a card since it was made.
type Counters struct {
	APDUs      int          // that came, those that a hook held back among them
	ByINS      map[byte]int // that were executed
	Signatures int          // and results of key agreement
	Verifies   int          // a PIN, of whatever worth, presented by VERIFY to PIV
	Empty      int          // VERIFY without data, to PIV
	Stray      int          // VERIFY with data while PIV was not selected
	Resets     int          // and losses of power

	ForeignVerifies int // VERIFY with data to the second applet
	ForeignEmpty    int // VERIFY without data to the second applet, which may cost a try there
}

// Counters returns the counters as they are now.
func (c *Card) Counters() Counters {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := c.counters
	// The card goes on to count in its own map while the caller reads.
	n.ByINS = maps.Clone(n.ByINS)
	n.ForeignVerifies = c.foreign.verifies
	n.ForeignEmpty = c.foreign.empty
	return n
}

// Verifies is how often a PIN, of whatever worth, has been presented to PIV by VERIFY.
func (c *Card) Verifies() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.counters.Verifies
}

// Signatures is how often a private key has been used.
func (c *Card) Signatures() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.counters.Signatures
}

// Selected is the application that the next command reaches.
func (c *Card) Selected() Application {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.selected
}

// Unlocked reports whether a PIN is verified: whoever reaches the card may use its keys.
func (c *Card) Unlocked() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.authorised()
}

// Watch sets the hooks; nil is none.
func (c *Card) Watch(before, after Hook) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.o.Before = before
	c.o.After = after
}

// arrive notes that a command has come. The hooks are those at this time; resets is how many resets
// there have been, by which the command's end finds out whether there was another.
func (c *Card) arrive(command []byte) (n int, header [4]byte, before, after Hook, resets int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.counters.APDUs++
	copy(header[:], command)
	return c.counters.APDUs, header, c.o.Before, c.o.After, c.counters.Resets
}

// count notes that a whole command is executed.
func (c *Card) count(apdu *iso7816.Command) {
	if c.counters.ByINS == nil {
		c.counters.ByINS = make(map[byte]int)
	}
	c.counters.ByINS[apdu.INS]++

	if apdu.INS != insVerify {
		return
	}

	// VERIFY with data, and one that forgets, are counted where they are executed.
	switch {
	case c.selected != PIV && len(apdu.Data) > 0:
		c.counters.Stray++
	case c.selected == PIV && len(apdu.Data) == 0 && apdu.P1 == 0:
		c.counters.Empty++
	}
}
