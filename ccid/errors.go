package ccid

import (
	"context"
	"errors"
	"fmt"
)

// Codes of the IFD handler API (3.0, "return codes") that this package gives its errors.
const (
	ifdErrorTag           = 600
	ifdReadOnly           = 602
	ifdPTSFailure         = 605
	ifdProtocolNot        = 607
	ifdPowerAction        = 608
	ifdCommunication      = 612
	ifdTimeout            = 613
	ifdUnsupported        = 614
	ifdNotPresent         = 616
	ifdNoSuchDevice       = 617
	ifdInsufficientBuffer = 618
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

// fault is an error of this package's own with its number of the IFD handler API.
type fault struct {
	code  int
	text  string
	cause error
}

func (f *fault) Error() string {
	if f.cause != nil {
		return f.text + ": " + f.cause.Error()
	}
	return f.text
}

func (f *fault) Unwrap() error { return f.cause }

// IFDCode is the number of the IFD handler API.
func (f *fault) IFDCode() int { return f.code }

func failure(code int, format string, args ...any) error {
	return &fault{code: code, text: fmt.Sprintf(format, args...)}
}

// transportError gives an error of a Transport its number.
func transportError(doing string, err error) error {
	switch {
	case errors.Is(err, ErrGone), errors.Is(err, ErrClosed):
		return &fault{code: ifdNoSuchDevice, text: doing, cause: err}
	case errors.Is(err, context.DeadlineExceeded):
		return &fault{code: ifdTimeout, text: doing, cause: errTimeout}
	}
	return &fault{code: ifdCommunication, text: doing, cause: err}
}

// errTimeout is a reader that does not answer within its time.
var errTimeout = errors.New("no answer in time")

// failedCommand is the reader's own word about a command; nil when the error is another.
func failedCommand(err error) *Error {
	var failed *Error
	if errors.As(err, &failed) {
		return failed
	}
	return nil
}

// absent tells whether an error means that there is no card.
func absent(err error) bool {
	if err == nil {
		return false
	}
	var coded interface{ IFDCode() int }
	return errors.As(err, &coded) && coded.IFDCode() == ifdNotPresent
}
