package iso7816

import (
	"bytes"
	"errors"
	"fmt"
	"math/bits"
)

// Protocol is a transmission protocol by the number T of 8.2.3.
type Protocol byte

// The protocols that are more than a number here. ProtocolGlobal is no protocol: interface bytes
// after T=15 are about the card as a whole.
const (
	ProtocolT0     Protocol = 0
	ProtocolT1     Protocol = 1
	ProtocolGlobal Protocol = 15
)

// String is the field's spelling, "T=0".
func (p Protocol) String() string { return fmt.Sprintf("T=%d", byte(p)) }

// MaxATR is the greatest length of an ATR (8.2.1: TS and at most 32 characters).
const MaxATR = 33

// ATR is an answer to reset, taken apart (8.2).
type ATR struct {
	Raw        []byte           // all of it, TS first, in direct convention; a copy
	Inverse    bool             // TS names the inverse convention
	Interface  []InterfaceBytes // TA1 to TD1 at index 0, always at least one
	Historical []byte           // T1 to TK; see ParseHistorical
	TCK        *byte            // the check byte; nil when the ATR ends before it
	Trailing   []byte           // what follows the end; not allowed, but some cards have it
	Faults     []string         // violations that were let pass, in the order of the bytes
}

// InterfaceBytes are the bytes TAi, TBi, TCi and TDi of one i (8.2.3); nil is absent. They point
// into Raw.
type InterfaceBytes struct {
	T              Protocol // the protocol they belong to, of TD(i-1); ProtocolGlobal for i = 1
	TA, TB, TC, TD *byte
}

// Errors of an ATR that cannot be read at all.
var (
	ErrATRShort = errors.New("ATR is cut short")
	ErrATRTS    = errors.New("ATR does not begin with TS 3B or 3F")
	ErrATRLong  = errors.New("ATR is longer than 33 bytes")
)

// ParseATR takes an ATR apart as real cards send it: a wrong or missing TCK, bytes after the end,
// reserved values and protocols in the wrong order are noted in Faults and let pass. An ATR whose
// bytes were not converted from the inverse convention (it begins with 03) is converted. Errors are
// ErrATRShort, ErrATRTS and ErrATRLong; beside them stands what could be read up to the fault,
// which is good for diagnostics only.
func ParseATR(raw []byte) (*ATR, error) {
	a := &ATR{Raw: bytes.Clone(raw), Interface: make([]InterfaceBytes, 1, 4)}
	// TA1 to TD1 are announced by T0, not by a TD: they belong to no protocol.
	a.Interface[0].T = ProtocolGlobal

	switch {
	case len(raw) == 0:
		return a, ErrATRShort
	case len(raw) > MaxATR:
		return a, ErrATRLong
	case raw[0] == 0x03:
		// TS 3F reads 03 in the direct convention: the reader has left the conversion to us.
		Invert(a.Raw)
	}

	switch a.Raw[0] {
	case 0x3B:
	case 0x3F:
		a.Inverse = true
	default:
		return a, ErrATRTS
	}

	if len(raw) < 2 {
		return a, ErrATRShort
	}

	at, err := a.readInterface()
	if err != nil {
		return a, err
	}

	historical := int(a.Raw[1] & 0x0F)
	if at+historical > len(a.Raw) {
		a.Historical = a.Raw[at:]
		return a, ErrATRShort
	}

	a.Historical = a.Raw[at : at+historical]
	a.readEnd(at + historical)
	a.checkValues()
	return a, nil
}

// ParseATRStrict accepts only an ATR to which ParseATR finds no fault.
func ParseATRStrict(raw []byte) (*ATR, error) {
	a, err := ParseATR(raw)
	if err == nil && len(a.Faults) > 0 {
		err = errors.New("ATR: " + a.Faults[0])
	}
	if err != nil {
		return nil, err
	}
	return a, nil
}

// readInterface reads T0 and the interface bytes and returns where the historical bytes begin.
func (a *ATR) readInterface() (at int, err error) {
	at = 2
	// The bytes of Raw bound the loop: each round takes a TD from them, or is the last.
	for follows := a.Raw[1]; ; {
		group := &a.Interface[len(a.Interface)-1]
		// The bits of the upper half of T0 or TD stand in the order in which the bytes follow.
		for i, field := range []**byte{&group.TA, &group.TB, &group.TC, &group.TD} {
			if follows&(0x10<<i) == 0 {
				continue
			}
			if at >= len(a.Raw) {
				return at, ErrATRShort
			}
			*field = &a.Raw[at]
			at++
		}

		if group.TD == nil {
			return at, nil
		}

		follows = *group.TD
		a.Interface = append(a.Interface, InterfaceBytes{T: Protocol(follows & 0x0F)})
	}
}

// readEnd reads what follows the historical bytes: TCK, which must be there when a protocol other
// than T=0 is named and must not be otherwise (8.2.5), and nothing else.
func (a *ATR) readEnd(at int) {
	rest := a.Raw[at:]

	if !a.wantsTCK() {
		a.Trailing = rest
		if len(rest) > 0 {
			a.fault("%d bytes after the end", len(rest))
		}
		return
	}

	if len(rest) == 0 {
		a.fault("TCK is missing")
		return
	}

	a.TCK = &rest[0]
	a.Trailing = rest[1:]
	// TCK covers T0 to the last historical byte; TS is a pattern of signals and not part of it.
	if x := LRC(a.Raw[1:at]); x != rest[0] {
		a.fault("TCK is %02X and should be %02X", rest[0], x)
	}
	if len(a.Trailing) > 0 {
		a.fault("%d bytes after TCK", len(a.Trailing))
	}
}

// wantsTCK reports whether the ATR has to end with TCK.
func (a *ATR) wantsTCK() bool {
	for _, group := range a.Interface[1:] {
		if group.T != ProtocolT0 {
			return true
		}
	}
	return false
}

func (a *ATR) fault(format string, args ...any) {
	a.Faults = append(a.Faults, fmt.Sprintf(format, args...))
}

// checkValues notes values that the standard reserves and protocols in the wrong order.
func (a *ATR) checkValues() {
	// The values of T stand in ascending order (8.2.3), and T=15 is no protocol to begin with.
	for i := 1; i < len(a.Interface); i++ {
		before, now := a.Interface[i-1].T, a.Interface[i].T
		switch {
		case i == 1 && now == ProtocolGlobal:
			a.fault("T=15 comes first")
		case i > 1 && now < before:
			a.fault("%v comes after %v", now, before)
		}
	}

	if ta1 := a.Interface[0].TA; ta1 != nil {
		if _, ok := Fi(*ta1 >> 4); !ok {
			a.fault("TA1 %02X: reserved Fi", *ta1)
		}
		if _, ok := Di(*ta1 & 0x0F); !ok {
			a.fault("TA1 %02X: reserved Di", *ta1)
		}
	}

	// In specific mode the card uses what TA2 names, and nothing else; it cannot be negotiated.
	if p, _, ok := a.SpecificMode(); ok && !a.Offers(p) {
		a.fault("TA2 names %v, which is not offered", p)
	}

	if tc2 := a.tc2(); tc2 != nil && *tc2 == 0 {
		a.fault("TC2 00 is reserved")
	}

	a.checkT1Values()
}

func (a *ATR) checkT1Values() {
	if ta := a.first(ProtocolT1, (*InterfaceBytes).ta); ta != nil && (*ta == 0 || *ta == 0xFF) {
		a.fault("IFSC %02X is reserved", *ta)
	}
	if tb := a.first(ProtocolT1, (*InterfaceBytes).tb); tb != nil && *tb>>4 > maxBWI {
		a.fault("BWI %d is reserved", *tb>>4)
	}
	if tc := a.first(ProtocolT1, (*InterfaceBytes).tc); tc != nil && *tc&^1 != 0 {
		a.fault("first TC for T=1 is %02X, of which only the lowest bit has a meaning", *tc)
	}
}

// Invert converts bytes read in one convention into the other, in place (8.1): the order of the
// bits and their meaning are reversed.
func Invert(b []byte) {
	for i, x := range b {
		b[i] = ^bits.Reverse8(x)
	}
}
