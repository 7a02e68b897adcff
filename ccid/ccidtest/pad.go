package ccidtest

import (
	"slices"

	"pam_pkcs11/ccid/device"
	"pam_pkcs11/internal/iso7816"
)

// Pad is what a user does at the keys of a PIN pad.
type Pad struct {
	Old, New, Again string // the digits typed as the PIN, the new PIN, and that once more
	Cancel          bool   // presses the cancel key
	Idle            bool   // presses nothing
}

// Values of bError, and status words, of a PIN operation.
const (
	errPINCancelled = 0xEF
	errPINTimeout   = 0xF0
)

var (
	swPINsDiffer = []byte{0x64, 0x02}
	swPINLength  = []byte{0x64, 0x03}
)

// pinEntry is the data of Secure (CCID 1.1, section 6.1.11), for both operations.
type pinEntry struct {
	format, block, length byte
	least, most           int
	offsets               []int // where the PINs go, from the end of the APDU's header on
	confirm               byte
	prologue              []byte
	apdu                  []byte
}

// secure performs a PIN operation.
func (s *slot) secure(data []byte) ([]byte, int) {
	switch {
	case s.card == nil || !s.powered:
		return nil, errMute
	case s.Pad.Cancel:
		return nil, errPINCancelled
	case s.Pad.Idle:
		return nil, errPINTimeout
	}

	// bPINOperation: 0 is a verification, 1 a modification.
	supported := s.reader.in.CCID.PINSupport
	var e *pinEntry
	var pins []string
	switch {
	case len(data) > 15 && data[0] == 0 && supported&1 != 0:
		e = verifyEntry(data)
		pins = []string{s.Pad.Old}
	case len(data) > 18 && data[0] == 1 && supported&2 != 0:
		if e = modifyEntry(data); e == nil {
			return nil, errBadValue
		}
		// bConfirmPIN: bit 1 asks for the old PIN, bit 0 for the new one twice.
		if e.confirm&2 != 0 {
			pins = append(pins, s.Pad.Old)
		}
		if pins = append(pins, s.Pad.New); e.confirm&1 != 0 && s.Pad.New != s.Pad.Again {
			return swPINsDiffer, succeeded
		}
	default:
		return nil, errBadValue
	}

	for _, pin := range pins {
		if len(pin) < e.least || len(pin) > e.most {
			return swPINLength, succeeded
		}
	}

	return s.sendPIN(e, e.fill(pins))
}

// verifyEntry reads the structure of a verification.
func verifyEntry(b []byte) *pinEntry {
	return &pinEntry{
		format:   b[2],
		block:    b[3],
		length:   b[4],
		most:     int(b[5]),
		least:    int(b[6]),
		offsets:  []int{0},
		prologue: b[12:15],
		apdu:     slices.Clone(b[15:]),
	}
}

// modifyEntry reads the structure of a modification; nil when it is too short.
func modifyEntry(b []byte) *pinEntry {
	e := &pinEntry{
		format:  b[2],
		block:   b[3],
		length:  b[4],
		most:    int(b[7]),
		least:   int(b[8]),
		confirm: b[9],
	}
	if e.confirm&2 != 0 {
		e.offsets = append(e.offsets, int(b[5]))
	}
	e.offsets = append(e.offsets, int(b[6]))

	// One to three message indexes, by bNumberMessage, move what is behind them.
	at := 15
	if n := b[11]; n != 0 {
		at++
		if n >= 3 {
			at++
		}
	}
	if len(b) < at+3+4 {
		return nil
	}

	e.prologue = b[at : at+3]
	e.apdu = slices.Clone(b[at+3:])
	return e
}

// fill puts PINs into the APDU. A PIN block that the APDU has not yet is appended.
func (e *pinEntry) fill(pins []string) []byte {
	apdu := e.apdu
	if len(apdu) == 4 {
		apdu = append(apdu, 0)
	}

	// bmFormatString: bit 7 is the unit of the position, bits or bytes.
	size := int(e.block & 0x0F)
	position := int(e.format >> 3 & 0x0F)
	if e.format&0x80 == 0 {
		position /= 8
	}

	for i, pin := range pins {
		code := []byte(pin)
		// BCD, two digits a byte.
		if e.format&3 == 1 {
			code = code[:0]
			for j := 0; j < len(pin); j += 2 {
				low := byte(0x0F)
				if j+1 < len(pin) {
					low = pin[j+1] & 0x0F
				}
				code = append(code, pin[j]<<4|low)
			}
		}

		// bmPINBlockString may ask for the length, which then stands in the byte before the PIN.
		start := 5 + e.offsets[i] + position
		if bits := e.block >> 4; bits != 0 && start-1 >= 5 {
			apdu[start-1] = apdu[start-1]&0xF0 | byte(len(pin))&0x0F
		}

		for len(apdu) < start+max(size, len(code)) {
			apdu = append(apdu, 0xFF)
		}
		copy(apdu[start:], code)
	}

	apdu[4] = byte(len(apdu) - 5)
	return apdu
}

// sendPIN sends the filled APDU to the card, in the reader's own block under T=1.
func (s *slot) sendPIN(e *pinEntry, apdu []byte) ([]byte, int) {
	if s.reader.in.CCID.Features&(device.FeatureShortAPDU|device.FeatureExtendedAPDU) != 0 {
		out, err := s.ask(apdu)
		if err != nil {
			return nil, errMute
		}
		return out, succeeded
	}

	if s.front.active == iso7816.ProtocolT0 {
		return s.front.t0.exchange(s.ask, apdu)
	}

	// The prologue is the host's, for a command without the PIN: the length has changed.
	block := append(slices.Clone(e.prologue), apdu...)
	block[2] = byte(len(apdu))
	return s.front.exchangeT1(s.front.atr.EDC().Append(block))
}
