package token

import "errors"

// What an error of a card means for whoever asked. Each is found by errors.Is; the texts are for
// errors without one of their own.
var (
	// ErrPINWrong: the card has refused this PIN, which cost a try. See Error for what is left.
	ErrPINWrong = errors.New("the PIN is wrong")
	// ErrPINFormat: the card or the reader takes no PIN of this length or of these characters. Most
	// cards count no try then, but not all.
	ErrPINFormat = errors.New("no PIN of this card has this length or these characters")
	// ErrPINLocked: no PIN is taken any more until it is unblocked.
	ErrPINLocked = errors.New("the PIN is locked")
	// ErrPINExpired: the PIN must be changed before it can be used.
	ErrPINExpired = errors.New("the PIN has expired")
	// ErrPINNotSet: no PIN was set yet.
	ErrPINNotSet = errors.New("no PIN is set")
	// ErrPINUnsupported: the card cannot verify a PIN.
	ErrPINUnsupported = errors.New("the card cannot verify a PIN")
	// ErrPINNotHere: the card takes no PIN through this interface, such as one without contacts.
	ErrPINNotHere = errors.New("the card takes no PIN through this interface")
	// ErrCancelled: the user ended the entry at the reader, or did not begin it in time.
	ErrCancelled = errors.New("the entry of the PIN at the reader was cancelled")

	// ErrRemoved: the card is gone. The session is of no use any more.
	ErrRemoved = errors.New("the card was removed")
	// ErrOtherCard: another card is in the reader. The session is of no use any more.
	ErrOtherCard = errors.New("another card is in the reader")
	// ErrReset: other programs reset the card again and again.
	ErrReset = errors.New("the card was reset by another program")
	// ErrInUse: another program keeps the card or its reader for itself.
	ErrInUse = errors.New("the card is in use by another program")
	// ErrFault: card, reader or library failed, which says nothing about what was asked.
	ErrFault = errors.New("the card, its reader or its library failed")

	// ErrNoKey: the card has no key that could sign for the certificate.
	ErrNoKey = errors.New("the card has no signing key for the certificate")
	// ErrTouch: the card waited for a touch, and nobody touched it.
	ErrTouch = errors.New("the card was not touched")

	// ErrNotStarted: the module is there, and could not be started.
	ErrNotStarted = errors.New("the module for cards could not be started")
	// ErrNoService: the daemon of the readers cannot be reached, or may not be believed.
	ErrNoService = errors.New("the daemon of the card readers cannot be reached")
	// ErrNoWait: the module cannot wait for cards; the caller asks for the slots every 250 ms or
	// less.
	ErrNoWait = errors.New("the module cannot wait for cards")
	// ErrForeign, in Slot.Err: the module has looked, and the card is of a kind that it cannot use.
	ErrForeign = errors.New("the card is none of this module's")
	// ErrPending, in Slot.Err: there is a card, and it has not answered by the time that
	// Selective.SlotsFor had enough. Nothing is known of it.
	ErrPending = errors.New("the card has not answered yet")
	// ErrSkipped, in Slot.Err: there is a card, and nobody has looked at it, since Want.Skip has
	// taken its reader.
	ErrSkipped = errors.New("the card was not looked at")
	// ErrNotSupported: there is no way to do this on this card or through this module.
	ErrNotSupported = errors.New("not possible with this card")
)

// Error is an error that has what it means beside it. An implementation whose own errors answer to
// errors.Is needs none, but for what is left of the tries.
type Error struct {
	Kind  error // one of the Err values
	Tries Tries // what is left after ErrPINWrong, where Counted; else the caller asks with Refresh
	Err   error // what happened, in the implementation's words; nil where Kind says all

	// Unsent, with ErrPINFormat: the implementation has refused the PIN itself, and the card has
	// not got it.
	Unsent bool
}

// Error returns the text of Err, or of Kind.
func (e *Error) Error() string {
	if e.Err == nil {
		return e.Kind.Error()
	}
	return e.Err.Error()
}

// Unwrap returns Kind and Err.
func (e *Error) Unwrap() []error {
	if e.Err == nil {
		return []error{e.Kind}
	}
	return []error{e.Kind, e.Err}
}

// EndsSigning reports whether after this error of a key no other key is tried: the card is not
// usable any more, or another key would cost another try of the PIN or another touch.
func EndsSigning(err error) bool {
	for _, end := range []error{
		ErrPINWrong, ErrPINFormat, ErrPINLocked,
		ErrRemoved, ErrOtherCard, ErrReset, ErrInUse, ErrFault, ErrTouch,
	} {
		if errors.Is(err, end) {
			return true
		}
	}
	return false
}
