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

// describe is the device of a model.
func describe(vendor, product, release uint16, manufacturer, name string, interfaces ...ccidtest.Interface) ccidtest.Profile {
	return ccidtest.Profile{
		Info:       device.Info{Vendor: vendor, Product: product, Release: release, Manufacturer: manufacturer, Name: name},
		Interfaces: interfaces,
	}
}

// class is a class descriptor of which only what differs between readers is said.
func class(features device.Feature, length uint32, more func(*device.ClassDescriptor)) device.ClassDescriptor {
	d := device.ClassDescriptor{
		Release: 0x0110, VoltageSupport: 7, Protocols: 3, DefaultClock: 4000, MaximumClock: 4000, DataRate: 10752,
		MaxDataRate: 344086, MaxIFSD: 254, Features: features, MaxMessageLength: length, MaxBusySlots: 1,
	}
	if more != nil {
		more(&d)
	}
	return d
}

// models are the readers that every test of this package runs through.
func models() []model {
	one := []place{{0, 0}}
	return []model{
		{
			name: "TPDU T=1", reader: "Gemalto PC Twin", slots: one, atr: atrFast(), longest: shortAPDU,
			profile: describe(0x08E6, 0x3437, 0x0100, "Gemplus", "GemPC Twin Reader",
				ccidtest.Interface{Interrupt: true, CCID: class(0x00010230, 271, nil)}),
		},
		{
			name: "TPDU T=0", reader: "Gemalto PC Twin", slots: one, atr: atrT0(), longest: shortAPDU, t0: true,
			profile: describe(0x08E6, 0x3437, 0x0100, "Gemplus", "GemPC Twin Reader",
				ccidtest.Interface{Interrupt: true, CCID: class(0x00010230, 271, nil)}),
		},
		{
			name: "short APDU", reader: "OMNIKEY", slots: one, atr: atrT1(), longest: shortAPDU,
			profile: describe(0x076B, 0x5121, 0x0200, "OMNIKEY", "Smart Card Reader USB",
				ccidtest.Interface{Interrupt: true, CCID: class(0x000207B2, 271, nil)}),
		},
		{
			name: "extended APDU", reader: "Alcor Micro AU9540", slots: one, atr: atrFast(), longest: extendedAPDU,
			profile: describe(0x058F, 0x9540, 0x0120, "Generic", "EMV Smartcard Reader", ccidtest.Interface{
				Interrupt: true, Rates: ratesOfAlcor(),
				CCID: class(0x000404BE, 272, func(d *device.ClassDescriptor) {
					d.DefaultClock, d.MaximumClock, d.DataRate, d.MaxDataRate = 3700, 3700, 9946, 318280
					d.DataRatesSupported, d.ClassGetResponse, d.ClassEnvelope = 53, 0xFF, 0xFF
				}),
			}),
		},
		{
			name: "character T=1", reader: "O2 Micro", slots: one, atr: atrT1(), longest: shortAPDU,
			profile: describe(0x0B97, 0x7772, 0x0110, "O2", "O2Micro CCID SC Reader", character()),
		},
		{
			name: "character T=0", reader: "O2 Micro", slots: one, atr: atrT0(), longest: shortAPDU, t0: true,
			profile: describe(0x0B97, 0x7772, 0x0110, "O2", "O2Micro CCID SC Reader", character()),
		},
		{
			name: "PIN pad", reader: "ACS APG8201", slots: one, atr: atrT1(), longest: shortAPDU,
			profile: describe(0x072F, 0x8201, 0x5000, "ACS", "APG8201 PINhandy 1", ccidtest.Interface{
				Interrupt: true,
				CCID:      class(0x00010030, 271, func(d *device.ClassDescriptor) { d.VoltageSupport, d.MaxDataRate, d.PINSupport = 1, 344100, 3 }),
			}),
		},
		{
			name: "two slots", reader: "Alcor Micro AU9522", slots: []place{{0, 0}, {0, 1}}, atr: atrT1(), longest: shortAPDU,
			profile: describe(0x058F, 0x9522, 0x0102, "Generic", "EMV Smartcard Reader", ccidtest.Interface{
				Interrupt: true, Rates: ratesOfAlcor(),
				CCID: class(0x000204BE, 271, func(d *device.ClassDescriptor) {
					d.MaxSlotIndex, d.VoltageSupport, d.DefaultClock, d.MaximumClock = 1, 3, 3700, 3700
					d.DataRate, d.MaxDataRate, d.DataRatesSupported = 9946, 318280, 53
				}),
			}),
		},
		{
			name: "composite", reader: "ACS ACR1252 Dual Reader", slots: []place{{0, 0}, {1, 0}}, atr: atrT1(), longest: shortAPDU,
			profile: describe(0x072F, 0x223B, 0x0100, "ACS", "ACR1252 Dual Reader",
				ccidtest.Interface{Number: 0, Name: "PICC", Interrupt: true, CCID: class(0x00040040, 522, func(d *device.ClassDescriptor) { d.Protocols = 2 })},
				ccidtest.Interface{Number: 1, Name: "SAM", Interrupt: true, CCID: class(0x000204BA, 288, func(d *device.ClassDescriptor) { d.VoltageSupport = 1 })}),
		},
		{
			name: "ICCD-B", reader: "Gemalto", slots: one, atr: atrT1(), longest: shortAPDU,
			profile: describe(0x08E6, 0x1227, 0x0100, "Gemalto", "Gemalto PDT", ccidtest.Interface{
				Protocol: device.ProtocolICCDB,
				CCID: class(0x00020840, 261, func(d *device.ClassDescriptor) {
					d.VoltageSupport, d.Protocols, d.DefaultClock, d.MaximumClock, d.DataRate, d.MaxDataRate = 1, 2, 3580, 3580, 9600, 9600
				}),
			}),
		},
	}
}

// character is a reader that takes the bytes of the card one by one, and has its class descriptor behind an endpoint.
func character() ccidtest.Interface {
	return ccidtest.Interface{
		Interrupt: true, BehindEndpoint: true,
		CCID: class(0x00000030, 271, func(d *device.ClassDescriptor) { d.DataRate, d.MaxDataRate = 9600, 307200 }),
	}
}

// isItsOwnReader tells whether the card is the reader (ICCD): it cannot be taken out.
func (m model) isItsOwnReader() bool { return m.profile.Interfaces[0].Protocol != device.ProtocolCCID }

// ratesOfAlcor are the 53 data rates, in bit/s, of the readers of that maker.
func ratesOfAlcor() []uint32 {
	return []uint32{
		1807, 1989, 2409, 2487, 3315, 3613, 3978, 4818, 4973, 6631, 7227, 7957, 9635, 9946, 13262, 14453, 15914, 19271, 19892, 21680,
		23871, 26523, 28906, 29839, 31828, 36133, 38542, 39785, 43359, 48177, 49731, 53047, 57813, 59677, 63656, 66308, 72266, 77083,
		79570, 86719, 96354, 99462, 106093, 115625, 119355, 132616, 144531, 154167, 159140, 198925, 212186, 231250, 318280,
	}
}
