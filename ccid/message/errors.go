package message

import (
	"errors"
	"fmt"

	"pam_pkcs11/ccid/internal/ifd"
)

// Error is a command that has failed, with what the reader says about it: bStatus and bError (CCID
// 1.1, section 6.2.6).
type Error struct {
	Slot   int
	Status byte // bStatus
	Code   byte // bError
}

// Error names what bError means.
func (e *Error) Error() string {
	return fmt.Sprintf("slot %d: the reader says %02X: %s", e.Slot, e.Code, e.meaning())
}

// IFDCode returns the number of the IFD handler API: no card, unsupported, or a communication
// error.
func (e *Error) IFDCode() int {
	// A code below 80 is about the bytes of the command, whatever bStatus says of the card.
	switch {
	case e.Code == CodeUnsupported:
		return ifd.Unsupported
	case ICC(e.Status&3) >= ICCAbsent && (e.Code >= 0x80 || e.Code == CodeBadSlot):
		return ifd.NotPresent
	}
	return ifd.Communication
}

// StopsCard reports whether, after an exchange that failed in this way, the card does not answer
// until it is powered anew: the reader says that it has no power, or gives a code that is about the
// card and the line to it.
func (e *Error) StopsCard() bool {
	if ICC(e.Status&3) == ICCInactive {
		return true
	}
	switch e.Code {
	case CodeMute, CodeParity, CodeOverrun, CodeHardware,
		CodeNoProtocol, CodeProcedureByte, CodeShort:
		return true
	}
	return false
}

// Values of bError that the driver acts on (CCID 1.1, table 6.2-2).
const (
	CodeUnsupported  = 0x00
	CodeBadSlot      = 0x05
	CodeSlotBusy     = 0xE0
	CodePINCancelled = 0xEF
	CodePINTimeout   = 0xF0
	CodeBusyAuto     = 0xF2
	CodeParity       = 0xFD
	CodeMute         = 0xFE
	CodeAborted      = 0xFF

	CodeShort         = 0xA2 // makers' own
	CodeNoProtocol    = 0xF3
	CodeProcedureByte = 0xF4
	CodeHardware      = 0xFB
	CodeOverrun       = 0xFC
)

// errorCodes are the values of bError that have a meaning, those that only some makers use among
// them.
var errorCodes = map[byte]string{
	CodeUnsupported:   "command not supported",
	0x01:              "wrong length",
	CodeBadSlot:       "no such slot",
	CodeShort:         "short circuit at the card",
	0xA3:              "the ATR is too long",
	0xAB:              "no data was exchanged",
	0xB0:              "EMV: the T=1 message is too long",
	0xBB:              "EMV: protocol error",
	0xBD:              "card error in T=1",
	0xBE:              "wrong length of an APDU",
	CodeSlotBusy:      "the slot is busy",
	CodePINCancelled:  "PIN entry was cancelled",
	CodePINTimeout:    "no PIN was entered in time",
	CodeBusyAuto:      "busy with a sequence of its own",
	CodeNoProtocol:    "the protocol is not active",
	CodeProcedureByte: "the procedure byte does not fit",
	0xF5:              "the class is not supported by the card",
	0xF6:              "the protocol is not supported",
	0xF7:              "TCK of the ATR is wrong",
	0xF8:              "TS of the ATR is wrong",
	CodeHardware:      "hardware error",
	CodeOverrun:       "overrun",
	CodeParity:        "parity error",
	CodeMute:          "the card does not answer",
	CodeAborted:       "aborted by the host",
}

// meaning is what bError means, by the specification or as makers use it.
func (e *Error) meaning() string {
	// Readers answer "mute" for an empty slot, too; bStatus tells the two apart.
	if e.Code == CodeMute && ICC(e.Status&3) >= ICCAbsent {
		return "no card"
	}

	if text, ok := errorCodes[e.Code]; ok {
		return text
	}

	// Table 6.2-2: the offset of the byte that is wrong, or that the reader does not support.
	if e.Code < 0x80 {
		return fmt.Sprintf("the byte at %d of the command is not accepted", e.Code)
	}
	return "error of the maker's own"
}

// AsError returns the reader's own answer to a command that failed; nil when the error is another.
func AsError(err error) *Error {
	var failed *Error
	if errors.As(err, &failed) {
		return failed
	}
	return nil
}
