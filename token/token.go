// Package token is what a login needs of a card, in the words of a login: a Module has slots, an
// opened card is a Session, and what goes wrong is one of the errors of this package. It holds no
// implementation: package pkcs11 is one over a PKCS#11 library, and login's tests have one over
// keys in memory.
//
// # Who calls, and from where
//
// One goroutine at a time calls a Module and all that comes from it, and it stays on one thread
// where the implementation needs that (PKCS#11 libraries keep state by thread): whoever opens a
// Module locks its goroutine to the thread. An implementation calls the functions that it is given
// (Choose, those of a Choice, the body of a loop over Certificates) on the goroutine of its caller,
// before it returns, and none of them after that. They call nothing of the same Module. So
// iter.Pull is not for Certificates.
//
// # Time
//
// Where a method has a context, its end ends the method as soon as the implementation can; the
// error is the context's then. Every implementation looks at it in Wait, and in LogInAndSign before
// the PIN is sent and before each key. PKCS#11 has no way to end any other call, and a library that
// hangs hangs its caller: whoever needs a deadline runs the login in a process that can be killed.
//
// # Errors
//
// errors.Is finds the Err values of this package in what a Module and a Session return, in Slot.Err
// and in Object.Err. The text of an error is in the words of the implementation, such as "C_Login:
// CKR_PIN_LOCKED", and is for the log. An error in which none of the Err values is found tells only
// that the call failed. Where a wrong PIN comes with what is left of the tries, errors.As finds an
// *Error.
//
// # PINs
//
// A PIN goes to the card that the Session was opened on and to no other: where another card may be
// in the reader by now, the implementation refuses with ErrRemoved or ErrOtherCard before it sends
// the PIN. It sends a PIN once for each call of LogInAndSign, and once more only for a key that
// wants it for each signature (see LogInAndSign). It never sends one that it was not given, keeps
// none beyond the call, logs none, and leaves the wiping to the caller.
package token

import (
	"context"
	"iter"
	"log/slog"

	"pam_pkcs11/internal/secret"
)

// Options are what whoever opens a Module gives to it.
type Options struct {
	Logger *slog.Logger // nil is silent

	// Trace is called with the name of each call to the library or the card before it begins;
	// Running too, and with "" once the call has returned. Both may be nil.
	Trace   func(call string)
	Running func(call string)

	// Using is called with the name of what the calls go to from now on, before the first of them,
	// by a Module that is made of several. It may be nil.
	Using func(name string)
}

// Module is a source of cards: a PKCS#11 library, or readers.
type Module interface {
	// Slots lists the places for cards in a fixed order, with what the card in each tells of itself
	// without a PIN. A card that cannot be read has Slot.Err and concerns no other; the error is of
	// the list itself.
	Slots(ctx context.Context) ([]Slot, error)

	// Wait returns when a card may have come or gone since the last Slots, or with an error: the
	// context's, or ErrNoWait where the module cannot wait and Slots is to be called again and
	// again. After the context's end PKCS#11 libraries are of no use any more until the wait ends
	// in them: each call fails then.
	Wait(ctx context.Context) error

	// Open opens the card in a slot, which has a Token, for reading. It asks for no PIN and changes
	// nothing on the card.
	Open(ctx context.Context, s Slot) (Session, error)

	// Close ends the module, and with it all its sessions. It may be called again. It is called
	// when the verdict of a login is out, and no verdict depends on it.
	Close() error
}

// Session is one opened card.
type Session interface {
	// Info returns what the card told of itself last, without asking it. It is never nil.
	Info() *Info

	// Refresh asks the card for its state now, and Info returns that then. The error is ErrRemoved
	// where the card is gone, and ErrOtherCard where another one is in the reader; Info stays as it
	// was then.
	Refresh(ctx context.Context) (*Info, error)

	// Certificates reads the certificates that the card shows now, in its order. Each is read when
	// the loop asks for it: a loop that ends early reads no more. One that cannot be used has
	// Object.Err and concerns no other. An error ends the loop, has an empty Object, and says that
	// nothing is known of the rest. Whoever wants more later loops anew and passes over what is
	// known: what was read in this session may be shown from memory while the card is the same.
	Certificates(ctx context.Context) iter.Seq2[Object, error]

	// LogInAndSign verifies the PIN on the card and lets the card sign with the first key that can,
	// in one call: there is no other way to a signature. pin nil has the PIN typed at the reader
	// (PIN.AtReader), which the caller has told the user before; an empty PIN is sent as one.
	//
	// The card really verifies the PIN: that it was unlocked already, by whomever, is no proof. An
	// error of the log-in returns before choose was called: ErrPINWrong, ErrPINFormat,
	// ErrPINLocked, ErrPINExpired, ErrPINNotSet, ErrPINUnsupported, ErrCancelled, ErrRemoved and
	// others. LogInAndSign may be called again then, with another PIN.
	//
	// After the log-in, choose is called once. Its error ends LogInAndSign and is returned as it
	// is. The keys of the objects that it returns are tried in their order, with a fresh
	// Choice.Message for each, until one has signed. A card that has no key for an object
	// (ErrNoKey), or does not sign with it, is told to Choice.Passed, and the next object is tried;
	// EndsSigning tells after which errors none is. ErrCancelled at the reader ends it too, as do
	// the errors of the context, of Choice.Message and of Choice.PINAgain, which errors.Is and
	// errors.As find in what is returned. When no key has signed, the error is that of the first.
	// Without objects nothing is signed, and the Signature is empty: the log-in was all.
	//
	// A key that wants the PIN for each signature gets the same PIN once more, right before it
	// signs; where it is typed at the reader, Choice.PINAgain tells the user. Nobody checks here
	// whether the signature is the key's of the certificate: that is for the caller, with the
	// message and the object that it has chosen.
	//
	// The card stays logged in until Close at the latest.
	LogInAndSign(ctx context.Context, pin *secret.PIN, choose Choose) (Signature, error)

	// ChangePIN sets a new PIN, once, with the old one; nil and nil has both typed at the reader.
	// ErrPINWrong is of the old PIN, ErrPINFormat of either. After ErrFault the PIN may have been
	// changed. Afterwards only Info, Refresh and Close may be called.
	ChangePIN(ctx context.Context, old, fresh *secret.PIN) error

	// Unblock sets a new PIN with the PUK, or whatever the card's issuer calls it: ErrPINWrong and
	// ErrPINLocked are of the PUK. ErrNotSupported where there is no such way for this card.
	Unblock(ctx context.Context, puk, fresh *secret.PIN) error

	// Close locks the card again where this session has unlocked it, and ends the session. The
	// error says that one of these may not have happened. Close may be called again.
	Close() error
}

// Selective is a Module that can leave out cards which nobody wants to see, or to wait for.
type Selective interface {
	Module

	// SlotsFor is Slots, but for the cards that w leaves out. The next Slots or SlotsFor begins
	// anew with them.
	SlotsFor(ctx context.Context, w Want) ([]Slot, error)
}

// Want says which cards SlotsFor is to read. Its zero value wants what Slots does. Its functions
// are called on the goroutine of the caller of SlotsFor, before it returns.
type Want struct {
	// Skip reports that the card in a slot is not looked at, whatever it is: the slot has
	// ErrSkipped then. It is called for slots with a card, of which Index, Block and Description
	// are known. It may be nil.
	Skip func(*Slot) bool

	// Enough reports that a card that was read will do. Once there is one, others are waited for
	// only a moment longer, so that among cards that answer the order of their slots decides, and
	// not which was quicker: those that have not answered by then have ErrPending. It may be nil:
	// all are waited for.
	Enough func(*Slot) bool
}

// SlotsFor is m.SlotsFor where m is Selective, and m.Slots where it is not.
func SlotsFor(ctx context.Context, m Module, w Want) ([]Slot, error) {
	if selective, ok := m.(Selective); ok {
		return selective.SlotsFor(ctx, w)
	}
	return m.Slots(ctx)
}

// PINless is a Session that can be used without a log-in. Only implementations over PKCS#11 have
// it, for tokens that have no PIN or cannot verify one; whether that is enough is for the caller's
// configuration.
type PINless interface {
	Session

	// SignWithoutPIN is LogInAndSign without the log-in: choose is called at once. It is refused,
	// before that, for a card with PIN.Required. pin is only for keys that want one for each
	// signature; it may be nil.
	SignWithoutPIN(ctx context.Context, pin *secret.PIN, choose Choose) (Signature, error)
}

// PUKTeller is a Session that reports whether its PIN can be unblocked, and of the tries for that,
// without spending one.
type PUKTeller interface {
	Session

	// PUK asks the card for the state of what Unblock takes. ErrNotSupported where Unblock is not
	// possible, with a sentence why.
	PUK(ctx context.Context) (PUK, error)
}

// PUK is the state of what unblocks a PIN.
type PUK struct {
	Default bool // the card tells that it is the one that its maker has set, known to everybody
	Tries   Tries
}

// Doubter is a Session that may know why a signature does not fit the certificate that it has
// shown.
type Doubter interface {
	Session

	// WhyUnproved returns, in words for the administrator, what besides the card itself may be the
	// cause, and its cure; "" where nothing is known.
	WhyUnproved() string
}
