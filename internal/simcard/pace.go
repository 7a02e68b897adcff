package simcard

import (
	"time"

	"pam_pkcs11/internal/iso7816"
)

// Pace is the time that a card and its reader take. The zero value takes none. What the computer
// that simulates it needs counts as part of it, so that an answer comes when the card's would,
// unless the computer is slower than the card.
type Pace struct {
	// Command is what every command takes: in the reader, on the cable, in the card's program.
	Command time.Duration

	// Instructions take so much longer, by INS.
	Instructions map[byte]time.Duration

	// Keys is how long the use of a private key takes.
	Keys map[Algorithm]time.Duration

	// Clock of the line, in Hz. Characters then take their time: command and answer at the rate of
	// TA1 in the ATR, with what T=1 or T=0, whichever the ATR offers first, puts around them. 0:
	// they take none.
	Clock int
}

// ifs is the information field size of a T=1 block, as both sides agree on it in practice.
const ifs = 254

// line is the time that command and answer take on the line of a contact card, by ISO/IEC 7816-3:
// with T=1 11 etu a character (11.2 with N=255), prologue and LRC around each block, and an R-block
// for each that is chained; with T=0 12 etu, and a procedure byte.
func (p *Pace) line(atr *iso7816.ATR, command, answer int) time.Duration {
	if p.Clock == 0 || atr == nil {
		return 0
	}

	f, d := iso7816.FiDi(atr.FiDi())
	etus := 0
	if atr.DefaultProtocol() == iso7816.ProtocolT1 {
		for _, n := range []int{command, answer} {
			// T=1 has blocks of three bytes before the field and one after; the R-block has four as
			// well.
			blocks := max(1, (n+ifs-1)/ifs)
			etus += 11 * (n + 4*blocks + 4*(blocks-1))
		}
	} else {
		etus = 12 * (max(command, 5) + 1 + answer)
	}

	cycles := int64(etus) * int64(f) / int64(d)
	return time.Duration(cycles * int64(time.Second) / int64(p.Clock))
}

// cost is what a command takes: its bytes, its instruction, and the key that it used, if any.
func (c *Card) cost(command, answer []byte) time.Duration {
	p := &c.o.Pace
	d := p.Command + p.line(c.parsed, len(command), len(answer))

	if len(command) > 1 {
		d += p.Instructions[command[1]]
	}
	if c.used != 0 {
		d += p.Keys[c.used]
		// Forgotten here, so that the next command does not pay for this one's key.
		c.used = 0
	}

	return d
}

// Spent is the time that all commands so far have taken, or ought to have. Where the machine has
// kept an answer back for longer than the card would, it is in it too.
func (c *Card) Spent() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.spent
}

// pause keeps an answer back until the card would have it, and reports whether the card still has
// power then. A touch that was waited for comes on top of the cost. resets is how many resets there
// had been when the command came.
func (c *Card) pause(since time.Time, cost time.Duration, resets int) bool {
	c.mu.Lock()
	if resets != c.counters.Resets {
		c.mu.Unlock()
		return false
	}

	due := since.Add(cost + c.awaited)
	rest := due.Sub(c.o.Clock.Now())
	c.awaited = 0
	lost := c.lost
	c.mu.Unlock()

	if cost == 0 || rest <= 0 {
		return true
	}

	select {
	case <-c.o.Clock.After(rest):
		c.addDelay(c.o.Clock.Now().Sub(due))
		return true
	case <-lost:
		return false
	}
}

// addDelay notes that an answer came by so much after its time.
func (c *Card) addDelay(by time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.spent += max(by, 0)
}

// Clock is the time of a card: how long it computes, and how long it waits for a touch. A test may
// have one of its own.
type Clock interface {
	Now() time.Time
	After(d time.Duration) <-chan time.Time
}

// systemClock is the clock of the system.
type systemClock struct{}

func (systemClock) Now() time.Time                         { return time.Now() }
func (systemClock) After(d time.Duration) <-chan time.Time { return time.After(d) }
