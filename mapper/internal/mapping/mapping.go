// Package mapping has what mappers of all kinds share: the interface, answers and what they rest
// on, the person who is asked about, the standing of an issuer, the record of what was read, asked
// and heard, and errors with their cures.
package mapping

import (
	"context"
	"errors"

	"pam_pkcs11/internal/certinfo"
)

// MaxLogin bounds a login, in octets.
const MaxLogin = 256

// ErrUnavailable is part of the error when no mapper says yes and one could not ask whom it has to:
// a server that is not reached, or that refuses what the configuration makes of it. It wraps the
// cause.
var ErrUnavailable = errors.New("the directory cannot be asked")

// Origin is what a mapper's answer rests on; it decides which accounts the answer may name.
type Origin int

// The origins, from the weakest.
const (
	OriginNone      Origin = iota
	OriginText             // the login is a text of the certificate
	OriginAccounts         // the account database holds the certificate's text
	OriginDirectory        // a directory says so
	OriginFixed            // the configuration says so for every certificate
	OriginMapfile          // a line of a mapfile
	OriginOwnerFile        // a file in the user's own home
	OriginEnrolled         // a line of the file of enrolled keys
)

// String names an origin for the log.
func (o Origin) String() string {
	return [...]string{
		"none", "certificate text", "account database", "directory",
		"configuration", "mapfile", "owner's file", "enrolled key",
	}[o]
}

// Answer is one login that a mapper names.
type Answer struct {
	User   string // login
	Value  string // what of the certificate decided
	Origin Origin

	// Spelling is set for another way to write the login of the answer before. It counts where that
	// login has no account.
	Spelling bool
}

// Mapper is one kind of mapping, set up by one block.
type Mapper interface {
	// Find returns the logins that the certificate belongs to, the best first.
	Find(ctx context.Context, cert *certinfo.Certificate) ([]Answer, error)
	// Match reports whether the certificate belongs to a person, whichever of his names it goes by.
	Match(ctx context.Context, cert *certinfo.Certificate, user *Person) (Answer, bool, error)
	// Binds reports whether the answer rests on the exact certificate or its key, not on text in
	// it.
	Binds() bool
}

// Prefetcher is a mapper that asks a server, and can connect to it before it is asked.
type Prefetcher interface {
	// Expects reports whether a question about the certificate goes to the server, with nil whether
	// one about any does. user is "" or the one that is asked about.
	Expects(cert *certinfo.Certificate, user string) bool
	// Connect begins to connect, and does not wait. A connection that nobody has used when ctx ends
	// is closed.
	Connect(ctx context.Context)
}

// EverybodyNamer is a mapper that knows accounts besides those that it finds.
type EverybodyNamer interface {
	// Everybody returns all logins that the certificate may be used for.
	Everybody(ctx context.Context, cert *certinfo.Certificate) ([]Answer, error)
}

// Enroller is a mapper that knows keys which need no certificate authority.
type Enroller interface {
	// Enrols reports whether the certificate's key is one of them, whosever it is. What cannot be
	// read or is ambiguous is a no.
	Enrols(cert *certinfo.Certificate) bool
}

// ErrNothing is returned by a mapper for whose question the certificate holds nothing usable.
var ErrNothing = errors.New("the certificate holds nothing usable for this mapper")

// ErrAmbiguous is returned when a certificate fits two users.
var ErrAmbiguous = errors.New("more than one user fits")

// FirstError returns the first error that is not nil; nil where all are.
func FirstError(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// Users names the logins of answers.
func Users(found []Answer) []string {
	var list []string
	for _, a := range found {
		list = append(list, a.User)
	}
	return list
}
