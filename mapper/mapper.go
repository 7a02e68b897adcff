// Package mapper answers whose certificate it is. A chain of mappers, each under the name and with
// the options of its block in the configuration, finds the login that a certificate belongs to, or
// reports whether it belongs to a login that was given. Nothing a certificate says is trusted to be
// plain text.
package mapper

import (
	"errors"

	"pam_pkcs11/mapper/internal/mapping"
)

// ErrNoMatch is returned when no mapper says yes.
var ErrNoMatch = errors.New("no mapper says that the certificate belongs to this user")

// ErrUnavailable is part of the error when no mapper says yes and one could not ask whom it has to:
// a server that is not reached, or that refuses what the configuration makes of it. It wraps the
// cause.
var ErrUnavailable = mapping.ErrUnavailable

// Options of a chain.
type Options = mapping.Options

// Origin is what a mapper's answer rests on; it decides which accounts the answer may name.
type Origin = mapping.Origin

// The origins, from the weakest.
const (
	OriginNone      = mapping.OriginNone
	OriginText      = mapping.OriginText      // the login is a text of the certificate
	OriginAccounts  = mapping.OriginAccounts  // the account database holds the certificate's text
	OriginDirectory = mapping.OriginDirectory // a directory says so
	OriginFixed     = mapping.OriginFixed     // the configuration says so for every certificate
	OriginMapfile   = mapping.OriginMapfile   // a line of a mapfile
	OriginOwnerFile = mapping.OriginOwnerFile // a file in the user's own home
	OriginEnrolled  = mapping.OriginEnrolled  // a line of the file of enrolled keys
)

// Restore returns what to write into the configuration so that an error of Find or Match does not
// come again; "" where no key does that.
func Restore(err error) string { return mapping.Restore(err) }

// Result is a yes.
type Result struct {
	User      string   // login
	Others    []string // further accounts that the same mapper found; Find only
	Mapper    string   // block name
	Value     string   // what of the certificate decided
	Origin    Origin
	Decisions []Decision
}

// Decision is what one mapper did, in English, for the log and for explanations.
type Decision struct {
	Mapper  string
	Read    string // from the certificate
	Asked   string // and of whom
	Answer  string
	Verdict string
}
