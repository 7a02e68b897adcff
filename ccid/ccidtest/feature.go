package ccidtest

import "slices"

// Control codes of the features of PC/SC part 10 (section 2.2) that a reader with a PIN pad has
// here, as pcsc-lite numbers the codes that a driver chooses.
const (
	CodeFeatures = 0x42000D48 // CM_IOCTL_GET_FEATURE_REQUEST
	CodeVerify   = 0x42330006 // FEATURE_VERIFY_PIN_DIRECT
	CodeModify   = 0x42330007 // FEATURE_MODIFY_PIN_DIRECT
)

// Features is the answer to CodeFeatures: both features, by tag, length and code.
var Features = []byte{
	0x06, 4, 0x42, 0x33, 0x00, 0x06,
	0x07, 4, 0x42, 0x33, 0x00, 0x07,
}

// Answers of a reader in place of the card's (PC/SC part 10, section 2.5.2 and 2.5.3).
var (
	swPINTimeout   = []byte{0x64, 0x00}
	swPINCancelled = []byte{0x64, 0x01}
	swPINBlock     = []byte{0x6B, 0x80}
)

// Lengths of PIN_VERIFY and PIN_MODIFY before the APDU.
const (
	verifyLength = 19
	modifyLength = 24
)

// Verify does with a PIN_VERIFY structure what a reader with this pad does: it returns the card's
// answer to the command with the PIN in it, or an answer of the reader.
func (p Pad) Verify(block []byte, transmit func([]byte) ([]byte, error)) ([]byte, error) {
	if len(block) < verifyLength+4 {
		return swPINBlock, nil
	}

	// Without ulDataLength it is the structure of CCID, but for the two bytes at the beginning.
	entry := append(slices.Clone(block[:verifyLength-4]), block[verifyLength:]...)
	return p.enter(verifyEntry(entry), []string{p.Old}, transmit)
}

// Modify is Verify for a PIN_MODIFY structure.
func (p Pad) Modify(block []byte, transmit func([]byte) ([]byte, error)) ([]byte, error) {
	if len(block) < modifyLength+4 {
		return swPINBlock, nil
	}

	// PC/SC always has three message indexes; CCID has as many as bNumberMessage says.
	messages := 1
	switch n := block[11]; {
	case n == 0:
		messages = 1
	case n < 3:
		messages = 2
	default:
		messages = 3
	}

	entry := slices.Concat(block[:14], block[14:14+messages], block[17:20], block[modifyLength:])
	e := modifyEntry(entry)
	if e == nil {
		return swPINBlock, nil
	}

	var pins []string
	if e.confirm&2 != 0 {
		pins = append(pins, p.Old)
	}
	pins = append(pins, p.New)
	if e.confirm&1 != 0 && p.New != p.Again {
		return swPINsDiffer, nil
	}

	return p.enter(e, pins, transmit)
}

// enter types the PINs, and sends the command.
func (p Pad) enter(
	e *pinEntry, pins []string, transmit func([]byte) ([]byte, error),
) ([]byte, error) {
	switch {
	case p.Cancel:
		return swPINCancelled, nil
	case p.Idle:
		return swPINTimeout, nil
	case e.format&3 == 3:
		// Neither binary, BCD nor ASCII.
		return swPINBlock, nil
	}

	for _, pin := range pins {
		if len(pin) < e.least || len(pin) > e.most {
			return swPINLength, nil
		}
	}

	return transmit(e.fill(pins))
}
