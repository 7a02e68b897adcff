// Package plan decides once, from the descriptor of a reader, the table of quirks and the options
// of the administrator, how the reader is driven. The result is data: Plan. The package also has
// the list of known readers.
package plan

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"pam_pkcs11/ccid/device"
	"pam_pkcs11/ccid/message"
)

// Level is the exchange level: what a reader accepts in an XfrBlock (CCID 1.1, table 5.1-1,
// dwFeatures).
type Level int

// Exchange levels.
const (
	LevelCharacter Level = iota
	LevelTPDU
	LevelShortAPDU
	LevelExtendedAPDU
)

// Party is who does a part of the work.
type Party int

// Parties.
const (
	ByNobody Party = iota
	ByHost
	ByReader
)

// Presence is how the driver learns that a card has come or gone.
type Presence int

// Values of Presence.
const (
	PresencePoll      Presence = iota // by asking
	PresenceInterrupt                 // by notifications
	PresenceFixed                     // the card is the reader, or cannot be taken out
)

// Plan is what the driver does with a reader: everything that its descriptor and the table of
// quirks decide. It does not change while the reader is there.
type Plan struct {
	Link       byte // ProtocolCCID, ProtocolICCDA or ProtocolICCDB
	Level      Level
	Slots      int   // 1 to 16
	Concurrent bool  // all slots may work at the same time
	T0, T1     bool  // protocols
	PPS        Party // who exchanges the PPS with a card
	Parameters bool  // the host sends SetParameters
	IFSD       Party // who sends the reader's information field size to a T=1 card
	MaxIFSD    int   // 1 to 254
	MaxMessage int   // longest message, header included
	Clock      int   // kHz, the one that cards run at
	MaxRate    int   // bit/s
	AskRates   int   // number of data rates to ask for; 0: any rate up to MaxRate is good
	Voltages   []message.Voltage
	Presence   Presence
	Activates  bool // the reader switches a card on when it comes in
	Verify     bool // the reader has a PIN pad that verifies
	Modify     bool // ... and that changes a PIN
	Display    uint16

	// The fields below are for readers that differ from the specification; see the table of quirks.

	Timeout         time.Duration // for an answer that does not depend on the card
	OpenDelay       time.Duration // before the first message
	SecondaryRates  []uint32      // data rates of all slots but the first
	RateLimit       int           // drop rates of GET_DATA_RATES above this; 0: none
	FirstProtocol   bool          // only a card's first protocol, with its first parameters
	ReadOneFirst    bool          // character level: read answers that fill packets in two pieces
	ParametersReset bool          // when SetParameters fails, reset the card twice and go on
	ISOMode         bool          // when PowerOn fails with BB, leave EMV mode and try again
	APDUMode        bool          // switch the reader to its mode of APDU level
	Oversize        bool          // a TPDU may be longer than MaxMessage
	OffBeforeOn     bool          // switch off before switching on
	AnswersTags     bool          // answer FF 9A 01 xx in the reader's place
	AlwaysThere     bool          // the reader cannot tell whether a card is in it
	NoDetect        bool          // its second slot cannot
	ExtraT1         time.Duration // more time for T=1
	Escapes         bool          // escapes are allowed to everybody
	KobilEscape     bool          // MCT_READER_DIRECT
	GemaltoFeatures bool          // asked by an escape what its PIN pad can do
	PIN             PINQuirks
	MinRelease      uint16 // bcdDevice below this is not driven

	Quirks []string // names of the quirks that apply, in the order of the table
}

// PINQuirks are differences of PIN pads.
type PINQuirks struct {
	Condition      byte // bEntryValidationCondition in place of the application's; 0: as it is
	Messages       int  // bNumberMessage to send in place of the application's; -1: as it is
	ZeroIsFF       bool // bNumberMessage 0 is sent as FF
	AllIndexes     bool // modify: bNumberMessage 0 on the wire, but all three bMsgIndex
	NoLength       bool // SPR532: a length that is not inserted needs an escape first
	Wait           time.Duration
	SwapDigits     bool // bytes of wPINMaxExtraDigit the other way round
	MinPIN, MaxPIN byte // to tell in the properties; 0, 0 is unknown
	SizesKnown     bool
}

// LargestIFSD is the largest IFSD of T=1 in bytes.
const LargestIFSD = 254

// Defaults and bounds of what descriptors say.
const (
	defaultMaxMessage = 271
	minMaxMessage     = 32
	largestMessage    = 65548 + message.HeaderLength
	maxSlots          = 16
	defaultClock      = 4000  // kHz
	slowestClock      = 1000  // kHz: what is slower is a mistake
	fastestClock      = 20000 // kHz, ISO 7816-3 table 7
	defaultIFSD       = 32
	readTimeout       = 3 * time.Second
)

// New decides what to do with a reader. Absurd values of the descriptor are corrected here, so that
// later code need not check them.
func New(info device.Info, in *device.Interface, o Options) *Plan {
	d := &in.CCID
	p := &Plan{
		Link:       linkOf(in),
		Level:      levelOf(d.Features),
		Slots:      min(int(d.MaxSlotIndex)+1, maxSlots),
		Clock:      clockOf(d.DefaultClock),
		MaxRate:    int(min(d.MaxDataRate, 1<<30)),
		AskRates:   int(d.DataRatesSupported),
		Activates:  d.Features&device.FeatureActivation != 0,
		MaxIFSD:    ifsdOf(d.MaxIFSD),
		MaxMessage: messageOf(d.MaxMessageLength),
		Verify:     d.PINSupport&1 != 0,
		Modify:     d.PINSupport&2 != 0,
		Display:    d.LCDLayout,
		Timeout:    readTimeout,
		PIN:        PINQuirks{Messages: -1},
	}
	p.T0, p.T1 = protocolsOf(d.Protocols)

	// A reader with fewer busy slots than slots is used by one at a time: which ones may work
	// together is not in the descriptor.
	p.Concurrent = p.Slots > 1 && int(d.MaxBusySlots) >= p.Slots
	p.Voltages = voltagesOf(d, o.FirstVoltage)

	p.negotiation(d.Features)
	p.presence(in)

	// Last, so that a quirk sees and overrides what the descriptor has decided.
	for i := range quirks {
		if q := &quirks[i]; q.matches(info) && (q.when == nil || q.when(p, o)) {
			q.set(p)
			p.Quirks = append(p.Quirks, q.name)
		}
	}

	return p
}

// linkOf is bInterfaceProtocol. A reader that names ICCD but has bulk endpoints (ActivCard V2) is
// an ordinary one.
func linkOf(in *device.Interface) byte {
	if in.Protocol > device.ProtocolICCDB || in.BulkIn.Address != 0 && in.BulkOut.Address != 0 {
		return device.ProtocolCCID
	}
	return in.Protocol
}

// levelOf is the exchange level. A reader that claims several has the highest.
func levelOf(f device.Feature) Level {
	switch {
	case f&device.FeatureExtendedAPDU != 0:
		return LevelExtendedAPDU
	case f&device.FeatureShortAPDU != 0:
		return LevelShortAPDU
	case f&device.FeatureTPDU != 0:
		return LevelTPDU
	}
	return LevelCharacter
}

// clockOf is the clock of cards in kHz. Some readers state 250 kHz or 1 GHz.
func clockOf(kHz uint32) int {
	if kHz < slowestClock || kHz > fastestClock {
		return defaultClock
	}
	return int(kHz)
}

// ifsdOf is the IFSD: 254 is the largest of T=1, and 0 is not stated.
func ifsdOf(n uint32) int {
	if n == 0 {
		return defaultIFSD
	}
	return int(min(n, LargestIFSD))
}

// messageOf is the longest message. What is too short for a command with its header cannot be
// meant.
func messageOf(n uint32) int {
	if n < minMaxMessage {
		return defaultMaxMessage
	}
	return int(min(n, largestMessage))
}

// protocolsOf reads dwProtocols. One reader has its bytes swapped (09BE:0002). A reader that names
// no protocol is tried with both.
func protocolsOf(n uint32) (t0, t1 bool) {
	if n&0xFF == 0 {
		n = n >> 8 & 0xFF
	}
	if n&3 == 0 {
		return true, true
	}
	return n&1 != 0, n&2 != 0
}

// voltagesOf is the order in which voltages are tried. 5 V comes first, unless the options say
// otherwise: cards of class A need it, the others withstand it, and it is what the drivers do that
// readers are tested with.
func voltagesOf(d *device.ClassDescriptor, first message.Voltage) []message.Voltage {
	if d.Features&(device.FeatureActivation|device.FeatureVoltage) != 0 {
		return []message.Voltage{message.VoltageAutomatic}
	}

	var all []message.Voltage
	for v := message.Voltage5; v <= message.Voltage18; v++ {
		if d.VoltageSupport&(1<<(v-1)) != 0 {
			all = append(all, v)
		}
	}

	switch i := slices.Index(all, first); {
	case len(all) == 0:
		// The reader states no voltage: let it choose, or apply the one that every card withstands.
		return []message.Voltage{message.VoltageAutomatic, message.Voltage5}
	case i > 0:
		all = slices.Concat([]message.Voltage{first}, all[:i], all[i+1:])
	}
	return all
}

// negotiation decides who exchanges the PPS, sends the parameters and exchanges the IFSD.
func (p *Plan) negotiation(f device.Feature) {
	switch {
	case f&device.FeatureNegotiation != 0:
		// The reader negotiates by rules of its own, and takes no parameters from the host (CCID
		// 1.1, table 5.1-1).
		p.PPS = ByReader
	case f&device.FeaturePPS != 0:
		// The reader makes the PPS from the parameters that it is sent.
		p.PPS = ByReader
		p.Parameters = true
	default:
		p.PPS = ByHost
		p.Parameters = true
	}
	// ICCD has no messages for either.
	if p.Link != device.ProtocolCCID {
		p.PPS = ByNobody
		p.Parameters = false
	}

	switch {
	case !p.T1 || p.Level > LevelTPDU:
		p.IFSD = ByNobody
	case f&device.FeatureIFSD != 0:
		p.IFSD = ByReader
	default:
		p.IFSD = ByHost
	}
}

// presence decides how the driver learns of cards; without an interrupt endpoint it has to ask.
func (p *Plan) presence(in *device.Interface) {
	switch {
	case p.Link != device.ProtocolCCID:
		p.Presence = PresenceFixed
	case in.Interrupt.Address != 0:
		p.Presence = PresenceInterrupt
	}
}

// Rates returns the data rates of a slot that are known without asking the reader; limit is the
// highest.
func (p *Plan) Rates(slot int) (rates []uint32, limit int) {
	if slot > 0 && p.SecondaryRates != nil {
		return p.SecondaryRates, int(slices.Max(p.SecondaryRates))
	}
	return nil, p.MaxRate
}

var (
	levelNames    = [...]string{"character", "TPDU", "short APDU", "extended APDU"}
	partyNames    = [...]string{"nobody", "host", "reader"}
	presenceNames = [...]string{"poll", "interrupt", "fixed"}
	linkNames     = map[byte]string{
		device.ProtocolCCID:  "CCID",
		device.ProtocolICCDA: "ICCD-A",
		device.ProtocolICCDB: "ICCD-B",
	}
)

// String is the name of the level.
func (l Level) String() string { return levelNames[l] }

// String is "nobody", "host" or "reader".
func (p Party) String() string { return partyNames[p] }

// String is "poll", "interrupt" or "fixed".
func (p Presence) String() string { return presenceNames[p] }

// String is the plan on one line, for the log and for tables.
func (p *Plan) String() string {
	var b strings.Builder
	var protocols, voltages, pin []string

	// Sorted afterwards: the order of a map is not fixed.
	for name, has := range map[string]bool{"T=0": p.T0, "T=1": p.T1} {
		if has {
			protocols = append(protocols, name)
		}
	}
	slices.Sort(protocols)

	for _, v := range p.Voltages {
		voltages = append(voltages, v.String())
	}

	if p.Verify {
		pin = append(pin, "verify")
	}
	if p.Modify {
		pin = append(pin, "modify")
	}

	fmt.Fprintf(&b, "%s %s; %s; PPS %s; IFSD %s %d; %s; presence %s; PIN %s; slots %d",
		linkNames[p.Link], p.Level, strings.Join(protocols, "+"), p.PPS, p.IFSD, p.MaxIFSD,
		strings.Join(voltages, ","), p.Presence, orNone(pin), p.Slots)
	if p.Concurrent {
		b.WriteString(" at once")
	}
	fmt.Fprintf(&b, "; message %d; %d kHz; %d bit/s; quirks %s",
		p.MaxMessage, p.Clock, p.MaxRate, orNone(p.Quirks))
	return b.String()
}

// orNone joins words for String.
func orNone(words []string) string {
	if len(words) == 0 {
		return "none"
	}
	return strings.Join(words, ",")
}
