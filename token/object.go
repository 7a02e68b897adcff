package token

import (
	"iter"

	"pam_pkcs11/internal/certinfo"
)

// Object is a certificate on a card.
type Object struct {
	Handle uint                  // the implementation's own name for it, while the session is open
	ID     []byte                // CKA_ID, or what a library would give; nil when there is none
	Label  string                // CKA_LABEL, or what a library would give; printable
	Cert   *certinfo.Certificate // nil when Err is set

	// Err is why it cannot be used. ErrFault is found in it where the card or the reader failed.
	Err error

	// Value is the octets of one that is no certificate to be used, to be shown as far as it goes;
	// nil for others.
	Value []byte
}

// Choose decides, after the log-in, which certificates are to be proved. shown reads what the card
// shows now, which may be more than before the log-in, as Session.Certificates does; whoever wants
// no news does not loop over it. Only cards that show nothing before the log-in may be kept waiting
// here: others may be in a transaction, which keeps other programs off the card.
type Choose func(shown iter.Seq2[Object, error]) (Choice, error)

// Choice is what Choose returns: the objects, and what is called while their keys sign.
type Choice struct {
	// Objects are tried in this order, as Session.Certificates returned them in this session.
	Objects []Object

	// Message returns what the next key is to sign, at most 2000 bytes. It is called before each
	// try of a key, and not for an object that is known to have none. Never nil where there are
	// Objects.
	Message func() ([]byte, error)

	// Signing is called after Message, before a key begins to sign, which may take as long as
	// somebody needs to touch the card; done, which is not nil, when it has signed or failed.
	// Signing may be nil.
	Signing func(KeyUse) (done func())

	// PINAgain is called, after Signing, before the user has to type the PIN at the reader once
	// more; done, which is not nil without an error, when he has. PINAgain may be nil where
	// PIN.AtReader is not set.
	PINAgain func() (done func(), err error)

	// Passed is told of an object whose key is not there or has not signed, before the next one is
	// tried. It may be nil.
	Passed func(o Object, err error)

	// Anew is called, at most once, where the session had shown from memory what the card does not
	// hold any more: a certificate was renewed, or the card is another. shown reads what the card
	// holds; the Choice that Anew returns takes this one's place, and its error ends LogInAndSign
	// as Choose's does. nil has the object passed over with ErrNoKey. Only a Session that remembers
	// what cards hold calls it.
	Anew Choose

	// More is called, at most once, where no key of Objects has signed though none of the errors of
	// EndsSigning came: the caller may have read only some of the certificates. shown reads what
	// the card shows, from its beginning. The objects of the Choice that More returns are tried
	// then, and its functions are called for them; without objects the error is that of the first
	// key. More's error ends LogInAndSign as Choose's does. nil: there is nothing else to try.
	More Choose
}

// KeyUse is what a key that is about to sign asks of the user.
type KeyUse struct {
	Object   Object
	PINAgain bool  // the PIN, typed at the reader
	Touch    Touch // of the card
}

// Touch is whether a key waits for somebody to touch the card.
type Touch int

// What is known of a key's wish to be touched.
const (
	TouchUntold Touch = iota // the card does not tell
	TouchNever
	TouchCached // not if it was touched some seconds before
	TouchAlways
)

// Signature is what LogInAndSign returns.
type Signature struct {
	// Object is the index of the one whose key signed in the Objects of the Choice that holds: that
	// of Choose, or the one that has taken its place (Anew, More).
	Object int

	Scheme certinfo.SignatureScheme
	Bytes  []byte // for ECDSA in DER; nil where there was nothing to sign
}
