package data

import (
	"fmt"

	"pam_pkcs11/internal/iso7816"
)

// PINResult is the meaning of the answer to a command with a PIN.
type PINResult int

// Results of VERIFY, CHANGE REFERENCE DATA and RESET RETRY COUNTER. Where nothing else is said, no
// try was spent.
const (
	PINFault       PINResult = iota // the card failed, or gave another answer; a try may be spent
	PINGood                         // it was right, or, without a PIN in VERIFY, one was before
	PINWrong                        // it was wrong, a try less; without a PIN: none was verified
	PINLocked                       // no PIN is accepted any longer
	PINFormat                       // no PIN has this length or these characters; rarely counted
	PINNoReference                  // the card has no PIN of this key reference
	PINNotHere                      // no PIN is accepted through this interface, or not now
	PINNotPIV                       // the PIV application is not selected any more

	// From a PIN pad only: nothing was sent to the card.
	PadTimeout   // nobody typed
	PadCancelled // the user ended it
	PadMismatch  // the two entries of the new PIN differ
	PadUnable    // the reader accepts no such structure
)

// pinWords are the results in English, for errors and the log.
var pinWords = map[PINResult]string{
	PINFault:       "the card failed",
	PINGood:        "the PIN is right",
	PINWrong:       "the PIN is wrong",
	PINLocked:      "the PIN is locked",
	PINFormat:      "no PIN of this card has this length or these characters",
	PINNoReference: "the card has no such PIN",
	PINNotHere:     "the card takes no PIN through this interface",
	PINNotPIV:      "the PIV application is not selected",
	PadTimeout:     "no PIN was typed at the reader in time",
	PadCancelled:   "the entry at the reader was cancelled",
	PadMismatch:    "the two entries of the new PIN differ",
	PadUnable:      "the reader cannot let this PIN be typed",
}

// PINAnswer is the status word of a command with a PIN, and what it means.
type PINAnswer struct {
	Word   iso7816.Status
	Result PINResult

	// Left is how many tries are left where Counted, 0 to 15; a card with more reports 15. Counted
	// is false for words without a number, also with PINLocked.
	Left    int
	Counted bool
}

// InterpretPIN returns the meaning of the card's answer to VERIFY, with or without a PIN, CHANGE
// REFERENCE DATA and RESET RETRY COUNTER (part 2, 3.2; and what cards answer instead).
//
//	9000           good
//	63CX           wrong, X left: 63C0 locks it
//	630X           the same of a YubiKey NEO, X from 1 to F
//	6300, 63 else  wrong, no number (a Nitrokey 3 where the old PIN was wrong)
//	6983           locked; with some cards already the answer to the last wrong PIN
//	6A80 6700      format
//	6A86 6A88      no such reference
//	6982           not through this interface (part 2, 3.2.1; contactless)
//	6D00 6E00      not PIV
//	all else       fault
func InterpretPIN(word iso7816.Status) PINAnswer {
	a := PINAnswer{Word: word}
	switch {
	case word == iso7816.StatusOK:
		a.Result = PINGood
	case word.SW1() == 0x63:
		a.Result = PINWrong
		a.Left, a.Counted = triesLeft(word)
	default:
		// A word that is not in the table is a fault: a try may be spent.
		a.Result = pinResults[word]
	}
	return a
}

// pinResults are the words that are neither good nor wrong. PINFault is the zero value: all others.
var pinResults = map[iso7816.Status]PINResult{
	iso7816.StatusBlocked:     PINLocked,
	iso7816.StatusWrongData:   PINFormat,
	iso7816.StatusWrongLength: PINFormat,
	iso7816.StatusWrongP1P2:   PINNoReference,
	iso7816.StatusNoReference: PINNoReference,
	iso7816.StatusSecurity:    PINNotHere,
	iso7816.StatusWrongINS:    PINNotPIV,
	iso7816.StatusWrongCLA:    PINNotPIV,
}

// triesLeft reads 63CX, and 630X where X is not 0: 6300 has no number.
func triesLeft(word iso7816.Status) (n int, ok bool) {
	if n, ok := word.Tries(); ok {
		return n, true
	}
	// A YubiKey NEO answers 630X.
	if n = int(word.SW2()); n >= 0x01 && n <= 0x0F {
		return n, true
	}
	return 0, false
}

// InterpretPad returns the meaning of the answer of a PIN pad, which is the card's or one of the
// reader's own (PC/SC part 10, 2.5.2 and 2.5.3).
func InterpretPad(word iso7816.Status) PINAnswer {
	a := InterpretPIN(word)

	// No card uses these words: they are the reader's.
	switch word {
	case 0x6400:
		a.Result = PadTimeout
	case 0x6401:
		a.Result = PadCancelled
	case 0x6402:
		a.Result = PadMismatch
	case 0x6403:
		a.Result = PINFormat
	case 0x6B80:
		a.Result = PadUnable
	}
	return a
}

// String returns the word and what it means, "63C2, the PIN is wrong, 2 tries left".
func (a PINAnswer) String() string {
	text := fmt.Sprintf("%04X, %s", uint16(a.Word), pinWords[a.Result])

	switch {
	case a.Result == PINFault:
		// The word's own text says what kind of fault it is.
		return text + ": " + a.Word.String()[len("9000 "):]
	case !a.Counted:
		return text
	case a.Left == 0:
		return text + ", no try left"
	case a.Left == 1:
		return text + ", 1 try left"
	}
	return fmt.Sprintf("%s, %d tries left", text, a.Left)
}
