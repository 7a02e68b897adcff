package simcard

import (
	"fmt"
	"time"

	"pam_pkcs11/internal/iso7816"
)

// Pace is the time that a card and its reader take. The zero value takes none. What the computer that
// simulates it needs counts as part of it, so that an answer comes when the card's would, unless the
// computer is slower than the card.
type Pace struct {
	// Command is what every command takes: in the reader, on the cable, in the card's program.
	Command time.Duration

	// Instructions take so much longer, by INS.
	Instructions map[byte]time.Duration

	// Keys is how long the use of a private key takes.
	Keys map[Algorithm]time.Duration

	// Clock of the line, in Hz. Characters then take their time: command and answer at the rate of TA1 in
	// the ATR, with what T=1 or T=0, whichever the ATR offers first, puts around them. 0: they take none.
	Clock int
}

// clockOfReaders is usual for a contact card's line.
const clockOfReaders = 4_000_000

// keyTimes are those of a card in the middle: for RSA-2048 real ones need 60 to 700 ms. All are
// estimates.
var keyTimes = map[Algorithm]time.Duration{
	RSA1024: 60 * time.Millisecond,
	RSA2048: 300 * time.Millisecond,
	RSA3072: 800 * time.Millisecond,
	RSA4096: 1600 * time.Millisecond,
	P256:    60 * time.Millisecond,
	P384:    120 * time.Millisecond,
	P521:    200 * time.Millisecond,
	Ed25519: 60 * time.Millisecond,
}

// contact is a contact card: 2 ms for reader and USB and 8 ms for the card's program, both estimates,
// and the line.
var contact = Pace{Command: 10 * time.Millisecond, Keys: keyTimes, Clock: clockOfReaders}

// Profile is a kind of card in a reader of its time.
type Profile struct {
	Name  string
	About string
	ATR   []byte
	Pace  Pace
}

// Profiles are cards as slow as real ones. The first three are those that logins are measured with.
var Profiles = []Profile{
	{
		Name:  "yubikey5",
		About: "YubiKey 5 over its own CCID: 1.5 ms a command, VERIFY 10 ms",
		ATR:   ATRYubiKey5,
		Pace: Pace{
			Command:      1500 * time.Microsecond,
			Instructions: map[byte]time.Duration{insVerify: 8500 * time.Microsecond},
			Keys:         keyTimes,
		},
	},
	{
		Name:  "contact",
		About: "contact card, T=1 at TA1=18 (372/12), as those of G+D and IDEMIA",
		ATR:   paced(0x18, true),
		Pace:  contact,
	},
	{
		Name:  "t0",
		About: "contact card, T=0 at TA1=96 (512/32), as those of Gemalto and Oberthur in CACs",
		ATR:   paced(0x96, false),
		Pace:  contact,
	},
	{
		Name:  "fast",
		About: "contact card, T=1 at TA1=97 (512/64), as ID-One 8.1",
		ATR:   paced(0x97, true),
		Pace:  contact,
	},
	{
		Name:  "slow",
		About: "contact card, T=1 at the default rate (372/1), or a reader that does no PPS",
		ATR:   paced(0x11, true),
		Pace:  contact,
	},
	{
		Name:  "nitrokey3",
		About: "Nitrokey 3: GET DATA 100 ms, VERIFY 850 ms",
		ATR:   ATRBoth,
		Pace: Pace{
			Command: 2 * time.Millisecond,
			Instructions: map[byte]time.Duration{
				insGetData: 98 * time.Millisecond,
				insVerify:  848 * time.Millisecond,
			},
			Keys: keyTimes,
		},
	},
}

// ATRYubiKey5 is that of a YubiKey 5 over USB, from OpenSC's and Yubico's documentation.
var ATRYubiKey5 = []byte{
	0x3B, 0xFD, 0x13, 0x00, 0x00, 0x81, 0x31, 0xFE, 0x15, 0x80, 0x73, 0xC0, 0x21, 0xC0,
	0x57, 0x59, 0x75, 0x62, 0x69, 0x4B, 0x65, 0x79, 0x40,
}

// paced is ATRT1 or ATRT0 with another TA1.
func paced(ta1 byte, t1 bool) []byte {
	if !t1 {
		atr := append([]byte(nil), ATRT0...)
		atr[2] = ta1
		return atr
	}
	atr := append([]byte(nil), ATRT1[:len(ATRT1)-1]...)
	atr[2] = ta1
	return append(atr, iso7816.LRC(atr[1:]))
}

// FindProfile returns the profile of that name.
func FindProfile(name string) (*Profile, error) {
	for i := range Profiles {
		if Profiles[i].Name == name {
			return &Profiles[i], nil
		}
	}
	return nil, fmt.Errorf("no profile is called %q", name)
}

// ifs is the information field size of a T=1 block, as both sides agree on it in practice.
const ifs = 254

// line is the time that command and answer take on the line of a contact card, by ISO/IEC 7816-3: with
// T=1 11 etu a character (11.3.3 with N=255), prologue and LRC around each block, and an R-block for each that is
// chained; with T=0 12 etu, and a procedure byte.
func (p *Pace) line(atr *iso7816.ATR, command, answer int) time.Duration {
	if p.Clock == 0 || atr == nil {
		return 0
	}
	f, d := iso7816.FiDi(atr.FiDi())
	etus := 0
	if atr.DefaultProtocol() == iso7816.ProtocolT1 {
		for _, n := range []int{command, answer} {
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
		c.used = 0
	}
	return d
}

// Spent is the time that all commands so far have taken, or ought to have.
func (c *Card) Spent() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.spent
}

// pause keeps an answer back until the card would have it.
func (c *Card) pause(since time.Time, cost time.Duration) {
	if rest := cost - c.o.Clock.Now().Sub(since); cost > 0 && rest > 0 {
		<-c.o.Clock.After(rest)
	}
}
