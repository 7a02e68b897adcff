package iso7816

import "slices"

// Default values of 8.3 and 11.4, used where the ATR leaves a parameter out or gives a reserved
// value.
const (
	DefaultFi   = 372
	DefaultDi   = 1
	DefaultWI   = 10
	DefaultIFSC = 32
	DefaultIFSD = 32
	DefaultBWI  = 4
	DefaultCWI  = 13

	// DefaultFiDi is the byte that stands for the default rate in PPS1 and in a reader's
	// parameters.
	DefaultFiDi = 0x11

	maxBWI = 9
)

var (
	fiTable = [16]int{372, 372, 558, 744, 1116, 1488, 1860, 0, 0, 512, 768, 1024, 1536, 2048, 0, 0}
	diTable = [16]int{0, 1, 2, 4, 8, 16, 32, 64, 12, 20, 0, 0, 0, 0, 0, 0}
	// fmaxTable holds the greatest clock in kHz for each Fi.
	fmaxTable = [16]int{
		4000, 5000, 6000, 8000, 12000, 16000, 20000, 0,
		0, 5000, 7500, 10000, 15000, 20000, 0, 0,
	}
)

// Fi is the clock rate conversion integer behind a code of 4 bits (table 7); not ok when the code
// is reserved.
func Fi(code byte) (int, bool) { return entry(&fiTable, code) }

// Di is the baud rate adjustment integer behind a code of 4 bits (table 8); not ok when the code is
// reserved.
func Di(code byte) (int, bool) { return entry(&diTable, code) }

// MaxClock is the greatest clock, in kHz, that a card with this code of Fi takes (table 7).
func MaxClock(code byte) (int, bool) { return entry(&fmaxTable, code) }

func entry(table *[16]int, code byte) (int, bool) {
	if code > 15 || table[code] == 0 {
		return 0, false
	}
	return table[code], true
}

// FiDi returns the integers behind a byte as in TA1 and PPS1, with the defaults in place of both
// when one is reserved.
func FiDi(b byte) (f, d int) {
	f, okF := Fi(b >> 4)
	d, okD := Di(b & 0x0F)
	if !okF || !okD {
		// Never half of it: the pair of a given and an assumed value is no rate of the card's.
		return DefaultFi, DefaultDi
	}
	return f, d
}

func (g *InterfaceBytes) ta() *byte { return g.TA }
func (g *InterfaceBytes) tb() *byte { return g.TB }
func (g *InterfaceBytes) tc() *byte { return g.TC }

// first finds the first byte of a kind with i > 2 that belongs to a protocol, or nil. The meaning
// of those alone depends on the protocol named before them (8.2.3).
func (a *ATR) first(p Protocol, kind func(*InterfaceBytes) *byte) *byte {
	for i := 2; i < len(a.Interface); i++ {
		if group := &a.Interface[i]; group.T == p && kind(group) != nil {
			return kind(group)
		}
	}
	return nil
}

// Protocols lists the protocols offered, in the order of the ATR, each once, without T=15. A card
// that names none offers T=0.
func (a *ATR) Protocols() []Protocol {
	var all []Protocol
	// The group of index 0 stands before the first TD and names no protocol.
	for _, group := range a.Interface[1:] {
		if group.T != ProtocolGlobal && !slices.Contains(all, group.T) {
			all = append(all, group.T)
		}
	}

	if all == nil {
		return []Protocol{ProtocolT0}
	}
	return all
}

// Offers reports whether a protocol is among Protocols.
func (a *ATR) Offers(p Protocol) bool { return slices.Contains(a.Protocols(), p) }

// HasGlobal reports whether T=15 is in the ATR. It announces the global bytes behind it, and
// decides in which rate the extra guard time is counted.
func (a *ATR) HasGlobal() bool {
	for _, group := range a.Interface[1:] {
		if group.T == ProtocolGlobal {
			return true
		}
	}
	return false
}

// DefaultProtocol is what the card uses after reset without PPS: the protocol of its specific
// mode, else the first offered (6.3.1).
func (a *ATR) DefaultProtocol() Protocol {
	if p, _, ok := a.SpecificMode(); ok {
		return p
	}
	return a.Protocols()[0]
}

// SpecificMode reads TA2 (8.3): the card is in specific mode, uses this protocol and takes no PPS.
// With implicit its rate is not that of TA1 but one the interface device has to know. Not ok:
// negotiable mode.
func (a *ATR) SpecificMode() (p Protocol, implicit, ok bool) {
	if len(a.Interface) < 2 || a.Interface[1].TA == nil {
		return 0, false, false
	}
	ta2 := *a.Interface[1].TA
	return Protocol(ta2 & 0x0F), ta2&0x10 != 0, true
}

// CanChangeMode reports whether a warm reset may bring a card from specific to negotiable mode
// (TA2, highest bit 0).
func (a *ATR) CanChangeMode() bool {
	return len(a.Interface) > 1 && a.Interface[1].TA != nil && *a.Interface[1].TA&0x80 == 0
}

// TA1 returns the codes of Fi and Di that the card proposes; not ok when TA1 is absent.
func (a *ATR) TA1() (fi, di byte, ok bool) {
	if a.Interface[0].TA == nil {
		return 1, 1, false
	}
	return *a.Interface[0].TA >> 4, *a.Interface[0].TA & 0x0F, true
}

// FiDi is TA1 as a byte, or DefaultFiDi when TA1 is absent or one of its halves is reserved.
func (a *ATR) FiDi() byte {
	fi, di, ok := a.TA1()
	_, okF := Fi(fi)
	_, okD := Di(di)
	if !ok || !okF || !okD {
		return DefaultFiDi
	}
	return fi<<4 | di
}

// TC1 is the extra guard time integer N, 0 to 255; absent is 0, as the standard has it, and not ok.
func (a *ATR) TC1() (n byte, ok bool) {
	if a.Interface[0].TC == nil {
		return 0, false
	}
	return *a.Interface[0].TC, true
}

// tc2 is TC2, the waiting time integer of T=0; nil is absent.
func (a *ATR) tc2() *byte {
	if len(a.Interface) < 2 {
		return nil
	}
	return a.Interface[1].TC
}

// WI is the waiting time integer of T=0, 1 to 255 (10.2). Absent and the reserved 0 are DefaultWI.
func (a *ATR) WI() int {
	if tc2 := a.tc2(); tc2 != nil && *tc2 != 0 {
		return int(*tc2)
	}
	return DefaultWI
}

// IFSC is the information field size of the card for T=1, 1 to 254 bytes (11.4.2). The reserved 255
// counts as 254, and 0 as DefaultIFSC, as does an absent byte.
func (a *ATR) IFSC() int {
	ta := a.first(ProtocolT1, (*InterfaceBytes).ta)
	switch {
	case ta == nil || *ta == 0:
		return DefaultIFSC
	case *ta == 0xFF:
		return maxInformation
	}
	return int(*ta)
}

// BWI is the block waiting time integer of T=1 as the ATR has it, 0 to 15 (11.4.3; above 9 is
// reserved).
func (a *ATR) BWI() int {
	if tb := a.first(ProtocolT1, (*InterfaceBytes).tb); tb != nil {
		return int(*tb >> 4)
	}
	return DefaultBWI
}

// CWI is the character waiting time integer of T=1, 0 to 15 (11.4.3).
func (a *ATR) CWI() int {
	if tb := a.first(ProtocolT1, (*InterfaceBytes).tb); tb != nil {
		return int(*tb & 0x0F)
	}
	return DefaultCWI
}

// EDC is the error detection code that the card uses in T=1 (11.4.4). Only the value 1 means CRC.
func (a *ATR) EDC() EDC {
	if tc := a.first(ProtocolT1, (*InterfaceBytes).tc); tc != nil && *tc == 1 {
		return EDCCRC
	}
	return EDCLRC
}

// Classes are the operating conditions that a card names after T=15, a bit for each: 1 is class A
// (5 V), 2 class B (3 V), 4 class C (1.8 V). Not ok when it names none: then class A only.
func (a *ATR) Classes() (mask byte, ok bool) {
	ta := a.first(ProtocolGlobal, (*InterfaceBytes).ta)
	if ta == nil {
		return 1, false
	}
	return *ta & 0x3F, true
}

// ClockStop is whether the clock may be stopped, and in which state (8.3, first TA after T=15).
type ClockStop byte

// The values are those of the two bits in the ATR.
const (
	ClockStopNo   ClockStop = 0 // the clock must not be stopped
	ClockStopLow  ClockStop = 1 // in state L
	ClockStopHigh ClockStop = 2 // in state H
	ClockStopAny  ClockStop = 3 // in either
)

// ClockStop reads the clock stop indicator; absent is ClockStopNo.
func (a *ATR) ClockStop() ClockStop {
	if ta := a.first(ProtocolGlobal, (*InterfaceBytes).ta); ta != nil {
		return ClockStop(*ta >> 6)
	}
	return ClockStopNo
}

// SPU is the card's use of the contact C6 (first TB after T=15): whether it uses it,
// and whether in a proprietary way. Not ok when the byte is absent.
func (a *ATR) SPU() (used, proprietary, ok bool) {
	tb := a.first(ProtocolGlobal, (*InterfaceBytes).tb)
	if tb == nil {
		return false, false, false
	}
	return *tb&0x7F != 0, *tb&0x80 != 0, true
}
