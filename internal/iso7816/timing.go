package iso7816

import (
	"math"
	"time"
)

// Rate is the speed of characters: the clock and the integers F and D in force. The elementary time
// unit (etu) is F/(D·clock) (7.1).
type Rate struct {
	Clock int // Hz, greater than 0
	F, D  int // greater than 0, as FiDi returns them
}

// times returns n etu plus cycles clock cycles. A rate with anything not greater than 0 makes the
// longest duration: a fault must not turn a wait into none. Fractions of a nanosecond are rounded
// up.
func (r Rate) times(etu, cycles float64) time.Duration {
	if r.Clock <= 0 || r.F <= 0 || r.D <= 0 {
		return math.MaxInt64
	}

	ns := (etu*float64(r.F)/float64(r.D) + cycles) * 1e9 / float64(r.Clock)
	// Beyond this the conversion to an integer has no defined result.
	if ns >= math.MaxInt64 {
		return math.MaxInt64
	}
	return time.Duration(math.Ceil(ns))
}

// ETU is the duration of n elementary time units.
func (r Rate) ETU(n float64) time.Duration { return r.times(n, 0) }

// GuardTime is the least time between the leading edges of two characters sent to the card (8.3,
// TC1; 11.2). With N of TC1 from 0 to 254 it is 12 etu + R·N/f, where R is F/D of the rate in
// force, or Fi/Di of TA1 when T=15 is in the ATR. N = 255 is 12 etu in T=0 and during PPS, and 11
// etu in T=1.
func (a *ATR) GuardTime(p Protocol, r Rate) time.Duration {
	n, _ := a.TC1()
	if n == 255 {
		if p == ProtocolT1 {
			return r.ETU(11)
		}
		return r.ETU(12)
	}
	if a.HasGlobal() {
		f, d := FiDi(a.FiDi())
		return r.times(12, float64(n)*float64(f)/float64(d))
	}
	return r.ETU(12 + float64(n))
}

// CardGuardTime is the least time between the leading edges of two characters that the card sends.
// TC1 does not change it, but for N = 255, which makes it 11 etu in T=1.
func (a *ATR) CardGuardTime(p Protocol, r Rate) time.Duration {
	if n, _ := a.TC1(); n == 255 && p == ProtocolT1 {
		return r.ETU(11)
	}
	return r.ETU(12)
}

// WWT is the waiting time of T=0 between two characters: WI·960·Fi/f (10.2). Where Fi of TA1 and
// the F in force differ the longer is taken, for cards that count in the other.
func (a *ATR) WWT(r Rate) time.Duration {
	f, _ := FiDi(a.FiDi())
	return r.times(0, float64(a.WI())*960*float64(max(f, r.F)))
}

// BWT is the block waiting time of T=1, from the last character sent to the first of the answer:
// 11 etu + 2^BWI·960·372/f (11.4.3). A reserved BWI counts as 9. S(WTX) multiplies it.
func (a *ATR) BWT(r Rate) time.Duration {
	return r.times(11, float64(int(1)<<min(a.BWI(), maxBWI))*960*372)
}

// CWT is the character waiting time of T=1 within a block: (11 + 2^CWI) etu (11.4.3).
func (a *ATR) CWT(r Rate) time.Duration { return r.ETU(11 + float64(int(1)<<a.CWI())) }

// BGT is the block guard time of T=1 between blocks of opposite directions, 22 etu (11.4.3).
func BGT(r Rate) time.Duration { return r.ETU(22) }
