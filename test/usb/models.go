package usb

import (
	"pam_pkcs11/ccid/ccidtest"
	"pam_pkcs11/ccid/device"
)

// model is a reader of the bench, one of each kind, with the numbers of a reader that Debian's libccid knows.
type model struct {
	name    string // of the kind
	reader  string // the beginning of the name that libccid gives it
	profile ccidtest.Profile
	slots   []place // where cards can be
	atr     []byte  // of the cards it is tried with
	// longest is the longest command and answer data that the reader can carry: 255 and 256, or more.
	longest int
	// t0 is a reader that leaves T=0 with all its rules to the application: no command has both data and an answer.
	t0 bool
}

// place is a slot of a device with more than one.
type place struct {
	number byte // interface
	slot   int
}

// ATRs of cards that speak T=0 and T=1.
func atrT0() []byte { return []byte{0x3B, 0x65, 0x00, 0x00, 0x20, 0x63, 0xCB, 0x68, 0x00} }
func atrT1() []byte { return []byte{0x3B, 0x80, 0x81, 0x31, 0xFE, 0x45, 0x8B} }

// atrFast offers T=1 at a higher rate: TA1 is 18.
func atrFast() []byte { return []byte{0x3B, 0x90, 0x18, 0x81, 0x31, 0xFE, 0x45, 0x83} }

const (
	shortAPDU    = 255
	extendedAPDU = 4000
)

// readerOf is the bench's reader of a level.
func readerOf(l ccidtest.Level) ccidtest.Profile {
	p, _ := ccidtest.Model(l)
	return p
}

// models are the readers that every test of this package runs through.
func models() []model {
	one := []place{{0, 0}}
	return []model{
		{
			name: "TPDU T=1", reader: "Gemalto PC Twin", slots: one, atr: atrFast(), longest: shortAPDU,
			profile: readerOf(ccidtest.LevelTPDU),
		},
		{
			name: "TPDU T=0", reader: "Gemalto PC Twin", slots: one, atr: atrT0(), longest: shortAPDU, t0: true,
			profile: readerOf(ccidtest.LevelTPDU),
		},
		{
			name: "short APDU", reader: "OMNIKEY", slots: one, atr: atrT1(), longest: shortAPDU,
			profile: readerOf(ccidtest.LevelShort),
		},
		{
			name: "extended APDU", reader: "Alcor Micro AU9540", slots: one, atr: atrFast(), longest: extendedAPDU,
			profile: readerOf(ccidtest.LevelExtended),
		},
		{
			name: "character T=1", reader: "O2 Micro", slots: one, atr: atrT1(), longest: shortAPDU,
			profile: readerOf(ccidtest.LevelCharacter),
		},
		{
			name: "character T=0", reader: "O2 Micro", slots: one, atr: atrT0(), longest: shortAPDU, t0: true,
			profile: readerOf(ccidtest.LevelCharacter),
		},
		{
			name: "PIN pad", reader: "ACS APG8201", slots: one, atr: atrT1(), longest: shortAPDU,
			profile: ccidtest.PINPad(),
		},
		{
			name: "two slots", reader: "Alcor Micro AU9522", slots: []place{{0, 0}, {0, 1}}, atr: atrT1(), longest: shortAPDU,
			profile: ccidtest.Describe(0x058F, 0x9522, 0x0102, "Generic", "EMV Smartcard Reader", ccidtest.Interface{
				Interrupt: true, Rates: ccidtest.RatesOfAlcor(),
				CCID: ccidtest.Class(0x000204BE, 271, func(d *device.ClassDescriptor) {
					d.MaxSlotIndex, d.VoltageSupport, d.DefaultClock, d.MaximumClock = 1, 3, 3700, 3700
					d.DataRate, d.MaxDataRate, d.DataRatesSupported = 9946, 318280, 53
				}),
			}),
		},
		{
			name: "composite", reader: "ACS ACR1252 Dual Reader", slots: []place{{0, 0}, {1, 0}}, atr: atrT1(), longest: shortAPDU,
			profile: ccidtest.Describe(0x072F, 0x223B, 0x0100, "ACS", "ACR1252 Dual Reader",
				ccidtest.Interface{Number: 0, Name: "PICC", Interrupt: true, CCID: ccidtest.Class(0x00040040, 522, func(d *device.ClassDescriptor) { d.Protocols = 2 })},
				ccidtest.Interface{Number: 1, Name: "SAM", Interrupt: true, CCID: ccidtest.Class(0x000204BA, 288, func(d *device.ClassDescriptor) { d.VoltageSupport = 1 })}),
		},
		{
			name: "ICCD-B", reader: "Gemalto", slots: one, atr: atrT1(), longest: shortAPDU,
			profile: ccidtest.Describe(0x08E6, 0x1227, 0x0100, "Gemalto", "Gemalto PDT", ccidtest.Interface{
				Protocol: device.ProtocolICCDB,
				CCID: ccidtest.Class(0x00020840, 261, func(d *device.ClassDescriptor) {
					d.VoltageSupport, d.Protocols, d.DefaultClock, d.MaximumClock, d.DataRate, d.MaxDataRate = 1, 2, 3580, 3580, 9600, 9600
				}),
			}),
		},
	}
}

// isItsOwnReader tells whether the card is the reader (ICCD): it cannot be taken out.
func (m model) isItsOwnReader() bool { return m.profile.Interfaces[0].Protocol != device.ProtocolCCID }
