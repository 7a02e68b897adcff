package plan

import (
	"time"

	"pam_pkcs11/ccid/device"
)

// quirk is a difference between what a reader states and what it does. set changes the plan; when
// is a further condition.
type quirk struct {
	vendor, product uint16 // product anyProduct: all of the vendor
	from, to        uint16 // range of bcdDevice, both included; 0, 0 is all
	name            string // for the log
	reason          string // why
	when            func(*Plan, Options) bool
	set             func(*Plan)
}

const anyProduct = 0xFFFF

// matches reports whether the quirk is about a reader, without its condition.
func (q *quirk) matches(info device.Info) bool {
	return q.vendor == info.Vendor && (q.product == info.Product || q.product == anyProduct) &&
		info.Release >= q.from && (info.Release <= q.to || q.to == 0)
}

func isShort(p *Plan, _ Options) bool       { return p.Level == LevelShortAPDU }
func wantsAPDUMode(_ *Plan, o Options) bool { return o.APDUMode }
func oldFirmware(_ *Plan, o Options) bool   { return !o.OldFirmware }
func hasSecondSlot(p *Plan, _ Options) bool { return p.Slots > 1 }
func isOldMessage(p *Plan, _ Options) bool  { return p.MaxMessage == 263 && p.Level == LevelTPDU }
func noPIN(p *Plan)                         { p.Verify, p.Modify = false, false }
func extended(p *Plan)                      { p.Level, p.IFSD = LevelExtendedAPDU, ByNobody }
func noPINExtended(p *Plan)                 { noPIN(p); extended(p) }
func slow(factor time.Duration) func(*Plan) { return func(p *Plan) { p.Timeout *= factor } }
func release(minimum uint16) func(*Plan)    { return func(p *Plan) { p.MinRelease = minimum } }
func pinMessages(n int) func(*Plan)         { return func(p *Plan) { p.PIN.Messages = n } }
func pinSizes(least, most byte) func(*Plan) {
	return func(p *Plan) {
		p.PIN.MinPIN = least
		p.PIN.MaxPIN = most
		p.PIN.SizesKnown = true
	}
}
func oneMessage(p *Plan) { p.PIN.Messages, p.PIN.Condition = 1, 2 }
func secondaryRates(p *Plan) {
	p.SecondaryRates = []uint32{10753, 21505, 43011, 125000}
}

// quirks is applied from top to bottom. A stray empty packet (GemPC Twin 2.00 on USB 3) and a class
// descriptor behind the last endpoint (O2Micro, Reiner SCT, BluDrive II) need no entry: both are
// accepted from every reader.
var quirks = []quirk{
	{vendor: 0x09BE, product: 0x0002,
		name: "IFSD-254", reason: "MySmartPad says an IFSD that it does not take",
		set: func(p *Plan) { p.MaxIFSD = LargestIFSD }},
	{vendor: 0x0B81, product: 0x0200,
		name: "slow-open", reason: "CL1356D is deaf for a second after it is opened, and slow",
		set: func(p *Plan) { p.OpenDelay, p.Timeout = time.Second, time.Minute }},
	{vendor: 0x0B97, product: 0x7762,
		name: "O2Micro", reason: "Oz776: hangs at PPS and at answers that fill their packets",
		set: oz776},
	{vendor: 0x0B97, product: 0x7772,
		name: "O2Micro", reason: "Oz776: hangs at PPS and at answers that fill their packets",
		set: oz776},
	{vendor: 0x09D8, product: 0x0427,
		name: "slow-10", reason: "TWN4 answers after a second when there is no tag",
		set: slow(10)},
	{vendor: 0x09D8, product: 0x0428,
		name: "slow-10", reason: "TWN4 answers after a second when there is no tag",
		set: slow(10)},
	{vendor: 0x072F, product: 0x2200,
		name: "slow-10", reason: "ACR122U answers after a second when there is no tag",
		set: slow(10)},
	{vendor: 0x04E6, product: 0x5293,
		name: "slow-4", reason: "SCL011 needs 350 ms for an answer",
		set: slow(4)},
	{vendor: 0x04E6, product: 0x5790,
		name: "slow-4", reason: "uTrust 3700F needs 350 ms for an answer",
		set: slow(4)},
	{vendor: 0x04E6, product: 0x5791,
		name: "slow-4", reason: "uTrust 3701F needs 350 ms for an answer",
		set: slow(4)},
	{vendor: 0x04E6, product: 0x5724,
		name: "slow-4", reason: "uTrust 4701F needs 350 ms for an answer",
		set: slow(4)},
	{vendor: 0x058F, product: 0x9540,
		name:   "AU9540",
		reason: "AU9540 fails at rates above 200000 bit/s, and at some SetParameters",
		set:    func(p *Plan) { p.RateLimit, p.ParametersReset = 200000, true }},
	{vendor: 0x08E6, product: 0x4433,
		name: "ISO-mode", reason: "GemPC433 may be in EMV mode, in which other cards fail",
		set: func(p *Plan) { p.ISOMode = true }},
	{vendor: 0x046A, product: 0x0005,
		name: "ISO-mode", reason: "SmartBoard XX33 may be in EMV mode, in which other cards fail",
		set: func(p *Plan) { p.ISOMode = true }},
	{vendor: 0x08E6, product: 0x3437,
		name: "APDU-mode", reason: "asked for by the administrator",
		when: wantsAPDUMode, set: apduMode},
	{vendor: 0x08E6, product: 0x3438,
		name: "APDU-mode", reason: "asked for by the administrator",
		when: wantsAPDUMode, set: apduMode},
	{vendor: 0x08E6, product: 0x3478,
		name: "one-message", reason: "GemPC PinPad knows one message and one condition",
		set: oneMessage},
	{vendor: 0x0982, product: 0x0008,
		name: "one-message", reason: "Vega Alpha knows one message and one condition",
		set: oneMessage},
	{vendor: 0x08E6, product: 0x3478, from: 0x0100, to: 0x0100,
		name: "PIN-4-8", reason: "GemPC PinPad 1.00 takes PINs of 4 to 8 digits",
		set: pinSizes(4, 8)},
	{vendor: 0x0982, product: 0x0008,
		name: "PIN-4-8", reason: "Vega Alpha takes PINs of 4 to 8 digits",
		set: pinSizes(4, 8)},
	{vendor: 0x08E6, product: anyProduct,
		name: "Gemalto", reason: "the PIN pads tell by an escape what they can do",
		when: func(p *Plan, _ Options) bool { return p.Verify || p.Modify },
		set:  func(p *Plan) { p.GemaltoFeatures = true }},
	{vendor: 0x03F0, product: 0x1024,
		name: "no-PIN", reason: "the HP keyboard sends the digits of the PIN to the host",
		set: noPIN},
	{vendor: 0x03F0, product: 0x0036,
		name: "no-PIN", reason: "the HP keyboard sends the digits of the PIN to the host",
		set: noPIN},
	{vendor: 0x0BF8, product: 0x1017,
		name: "no-PIN", reason: "the Fujitsu keyboard has no working PIN entry",
		set: noPIN},
	{vendor: 0x04F2, product: 0x1469,
		name: "no-PIN", reason: "the Chicony keyboard has no working PIN entry",
		set: noPIN},
	{vendor: 0x0783, product: 0x0006,
		name: "no-PIN", reason: "C3PO LTC31 v2 has no keys",
		set: noPIN},
	{vendor: 0x25DD, product: 0x3111,
		name: "no-PIN", reason: "Bit4id miniLector has no keys",
		set: noPIN},
	{vendor: 0x076B, product: 0x3A21,
		name: "no-PIN,chaining", reason: "HID: no keys, and long APDUs by chaining",
		set: noPINExtended},
	{vendor: 0x076B, product: 0x3031,
		name: "no-PIN,chaining", reason: "HID: no keys, and long APDUs by chaining",
		set: noPINExtended},
	{vendor: 0x076B, product: 0x6632,
		name: "no-PIN,chaining", reason: "HID: no keys, and long APDUs by chaining",
		set: noPINExtended},
	{vendor: 0x046A, product: 0x00A7,
		name: "no-PIN,chaining", reason: "Cherry: no keys, and long APDUs by chaining",
		set: noPINExtended},
	{vendor: 0x0BF8, product: 0x1024,
		name: "no-PIN,chaining", reason: "Fujitsu D323: no keys, and long APDUs by chaining",
		set: noPINExtended},
	{vendor: 0x0D46, product: 0x3010,
		name: "short-APDU", reason: "Kobil TriBank answers the pieces of a long APDU wrongly",
		set: func(p *Plan) { p.Level, p.KobilEscape = LevelShortAPDU, true }},
	{vendor: 0x0D46, product: 0x4289,
		name: "MCT", reason: "mIDentity visual knows MCT_READER_DIRECT",
		set: func(p *Plan) { p.KobilEscape = true }},
	{vendor: 0x2F7C, product: 0x6007,
		name: "chaining", reason: "PN7362AU says short and does extended",
		set: extended},
	{vendor: 0x046A, product: 0x00A1, from: 0x0100, to: 0x0100,
		name: "chaining", reason: "KC1000SC 1.00 says short and does extended",
		when: isShort, set: extended},
	{vendor: 0x0529, product: 0x0620, from: 0x0012, to: 0x0013,
		name: "no-IFSD", reason: "eToken 5110 fails at S(IFS)",
		set: func(p *Plan) { p.IFSD = ByNobody }},
	{vendor: 0x0D46, product: 0x301D,
		name:   "IDToken",
		reason: "Kobil IDToken resets only from power off, and leaves its tags to the driver",
		set:    func(p *Plan) { p.OffBeforeOn, p.AnswersTags = true, true }},
	{vendor: 0x08E6, product: 0x3480, to: 0x01FF,
		name: "always-there", reason: "GemCore SIM Pro before 2.00 does not see its card",
		set: func(p *Plan) { p.AlwaysThere = true }},
	{vendor: 0x08E6, product: 0x3480,
		name:   "secondary-rates",
		reason: "GemCore SIM Pro: the other slots are slower than the first",
		when:   hasSecondSlot, set: secondaryRates},
	{vendor: 0x08E6, product: 0x3479,
		name:   "secondary-rates",
		reason: "GemCore POS Pro: the other slots are slower than the first",
		when:   hasSecondSlot, set: secondaryRates},
	{vendor: 0x08E6, product: 0x34D2,
		name: "slow-T1", reason: "Thales Fusion NFC keys take minutes to make",
		set: func(p *Plan) { p.ExtraT1 = 5 * time.Minute }},
	{vendor: 0x04E6, product: 0xE003,
		name:   "SPR532",
		reason: "inserts a PIN length unless told not to, and reads all message indexes",
		set:    func(p *Plan) { p.PIN.NoLength, p.PIN.AllIndexes = true, true }},
	{vendor: 0x046A, product: 0x003E,
		name: "ST-2000", reason: "Cherry ST-2000 reads all message indexes",
		set: func(p *Plan) { p.PIN.AllIndexes, p.PIN.Condition = true, 2; pinSizes(0, 25)(p) }},
	{vendor: 0x046A, product: 0x0010,
		name: "three-messages", reason: "SmartBoard XX44 wants bNumberMessage 3",
		set: pinMessages(3)},
	{vendor: 0x046A, product: 0x00A1,
		name: "KC1000SC", reason: "takes bNumberMessage 0 for an error",
		set: func(p *Plan) { p.PIN.ZeroIsFF = true; pinSizes(0, 32)(p) }},
	{vendor: 0x076B, product: 0x3821,
		name: "PIN-1-31", reason: "Omnikey 3821 takes PINs of 1 to 31 digits",
		set: pinSizes(1, 31)},
	{vendor: 0x413C, product: 0x2101,
		name: "Dell", reason: "no messages, and a pause before the PIN, or keys are lost",
		set: func(p *Plan) { p.PIN.Messages, p.PIN.Wait = 0, 250*time.Millisecond }},
	{vendor: 0x413C, product: 0x2100,
		name: "Dell", reason: "no messages, a pause before the PIN, and wPINMaxExtraDigit swapped",
		set: func(p *Plan) {
			p.PIN.Messages = 0
			p.PIN.Wait = 250 * time.Millisecond
			p.PIN.SwapDigits = true
		}},
	{vendor: 0x0424, product: 0x1202,
		name: "SEC1210", reason: "its second interface does not see its card",
		set: func(p *Plan) { p.NoDetect = true }},
	{vendor: 0x076B, product: 0x5427,
		name: "escapes", reason: "Omnikey 5427 CK is set up by applications, by escapes",
		set: func(p *Plan) { p.Escapes = true }},
	{vendor: 0x04E6, product: anyProduct,
		name: "oversize", reason: "old SCM readers say 263 and take a full TPDU",
		when: isOldMessage, set: func(p *Plan) { p.Oversize = true }},

	{vendor: 0x04E6, product: 0xE001, to: 0x0515,
		name: "firmware", reason: "SCR331 before 5.16",
		when: oldFirmware, set: release(0x0516)},
	{vendor: 0x04E6, product: 0x5111, to: 0x061F,
		name: "firmware", reason: "SCR331-DI before 6.20",
		when: oldFirmware, set: release(0x0620)},
	{vendor: 0x04E6, product: 0xE003, to: 0x050F,
		name: "firmware", reason: "SPR532 before 5.10",
		when: oldFirmware, set: release(0x0510)},
	{vendor: 0x0D46, product: 0x3001, to: 0x0036,
		name: "firmware", reason: "KAAN Base before 0.37",
		when: oldFirmware, set: release(0x0037)},
	{vendor: 0x0D46, product: 0x3002, to: 0x0036,
		name: "firmware", reason: "KAAN Advanced before 0.37",
		when: oldFirmware, set: release(0x0037)},
	{vendor: 0x09C3, product: 0x0008, to: 0x0202,
		name: "firmware", reason: "ActivCard V2 before 2.03",
		when: oldFirmware, set: release(0x0203)},
	{vendor: 0x0DC3, product: 0x1004, to: 0x0501,
		name: "firmware", reason: "ASE IIIe before 5.02",
		when: oldFirmware, set: release(0x0502)},
	{vendor: 0x0DC3, product: 0x1102, to: 0x0606,
		name: "firmware", reason: "ASEDrive IIIe KB before 6.07",
		when: oldFirmware, set: release(0x0607)},
	{vendor: 0x058F, product: 0x9520, to: 0x0101,
		name: "firmware", reason: "AU9520 before 1.02",
		when: oldFirmware, set: release(0x0102)},
	{vendor: 0x072F, product: 0x2200, to: 0x0205,
		name: "firmware", reason: "ACR122U before 2.06",
		when: oldFirmware, set: release(0x0206)},
	{vendor: 0x08C3, product: 0x0402, to: 0x4FFF,
		name: "firmware", reason: "Precise 200 MC before 50.00",
		when: oldFirmware, set: release(0x5000)},
	{vendor: 0x08C3, product: 0x0401, to: 0x4FFF,
		name: "firmware", reason: "Precise 250 MC before 50.00",
		when: oldFirmware, set: release(0x5000)},
	{vendor: 0x0B0C, product: 0x0050, to: 0x0100,
		name: "firmware", reason: "Todos Argos Mini II before 1.01",
		when: oldFirmware, set: release(0x0101)},
	{vendor: 0x0DC3, product: 0x0900, to: 0x01FF,
		name: "firmware", reason: "ASE IIIe USB V2 before 2.00",
		when: oldFirmware, set: release(0x0200)},
	{vendor: 0x03F0, product: 0x0036, to: 0x0123,
		name: "firmware", reason: "HP keyboard before 1.24",
		when: oldFirmware, set: release(0x0124)},
	{vendor: 0x062D, product: 0x0001, to: 0x0101,
		name: "firmware", reason: "THRC reader before 1.02",
		when: oldFirmware, set: release(0x0102)},
	{vendor: 0x04E6, product: 0x5291, to: 0x0111,
		name: "firmware", reason: "SCL010 before 1.12",
		when: oldFirmware, set: release(0x0112)},
}

func oz776(p *Plan) {
	p.MaxRate = 9600
	p.FirstProtocol = true
	p.ReadOneFirst = true
}

func apduMode(p *Plan) {
	p.APDUMode = true
	p.Level = LevelShortAPDU
	p.IFSD = ByNobody
}
