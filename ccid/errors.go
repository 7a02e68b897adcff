package ccid

import (
	"errors"
	"fmt"
)

// Error is a command that the reader says has failed: bStatus and bError (CCID 1.1, section 6.2.6).
type Error struct {
	Slot   int
	Status byte // bStatus
	Code   byte // bError
}

// Error names what bError means.
func (e *Error) Error() string {
	return fmt.Sprintf("slot %d: the reader says %02X: %s", e.Slot, e.Code, e.meaning())
}

// IFDCode is the number of the IFD handler API: no card, unsupported, or a communication error.
func (e *Error) IFDCode() int {
	switch {
	case e.Code == codeUnsupported:
		return ifdUnsupported
	case ICC(e.Status&3) >= ICCAbsent && (e.Code >= 0x80 || e.Code == codeBadSlot):
		return ifdNotPresent
	}
	return ifdCommunication
}

// StopsCard reports whether a card that an exchange failed with so answers no more until it has power anew: the reader
// says that it has none, or a code that is of the card and the line to it.
func (e *Error) StopsCard() bool {
	if ICC(e.Status&3) == ICCInactive {
		return true
	}
	switch e.Code {
	case codeMute, codeParity, codeOverrun, codeHardware, codeNoProtocol, codeProcedureByte, codeShort:
		return true
	}
	return false
}

// Values of bError that are acted on (CCID 1.1, table 6.2-2).
const (
	codeUnsupported  = 0x00
	codeBadSlot      = 0x05
	codeSlotBusy     = 0xE0
	codePINCancelled = 0xEF
	codePINTimeout   = 0xF0
	codeBusyAuto     = 0xF2
	codeParity       = 0xFD
	codeMute         = 0xFE
	codeAborted      = 0xFF

	codeShort         = 0xA2 // makers' own
	codeNoProtocol    = 0xF3
	codeProcedureByte = 0xF4
	codeHardware      = 0xFB
	codeOverrun       = 0xFC
)

// errorCodes are the other values of bError that have a meaning, those that makers use among them.
var errorCodes = map[byte]string{
	codeUnsupported: "command not supported", 0x01: "wrong length", codeBadSlot: "no such slot",
	codeShort: "short circuit at the card", 0xA3: "the ATR is too long", 0xAB: "no data was exchanged",
	0xB0: "EMV: the T=1 message is too long", 0xBB: "EMV: protocol error", 0xBD: "card error in T=1",
	0xBE: "wrong length of an APDU", codeSlotBusy: "the slot is busy",
	codePINCancelled: "PIN entry was cancelled", codePINTimeout: "no PIN was entered in time",
	codeBusyAuto: "busy with a sequence of its own", codeNoProtocol: "the protocol is not active",
	codeProcedureByte: "the procedure byte does not fit", 0xF5: "the class is not supported by the card", 0xF6: "the protocol is not supported",
	0xF7: "TCK of the ATR is wrong", 0xF8: "TS of the ATR is wrong", codeHardware: "hardware error", codeOverrun: "overrun",
	codeParity: "parity error", codeMute: "the card does not answer", codeAborted: "aborted by the host",
}

func (e *Error) meaning() string {
	if e.Code == codeMute && ICC(e.Status&3) >= ICCAbsent {
		return "no card"
	}
	if text, ok := errorCodes[e.Code]; ok {
		return text
	}
	if e.Code < 0x80 {
		return fmt.Sprintf("the byte at %d of the command is not accepted", e.Code)
	}
	return "error of the maker's own"
}

// failedCommand is the reader's own word about a command; nil when the error is another.
func failedCommand(err error) *Error {
	var failed *Error
	if errors.As(err, &failed) {
		return failed
	}
	return nil
}
