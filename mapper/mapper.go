// Package mapper answers: whose certificate is it? A chain of mappers, each under the name and with the
// options of its block in the configuration, finds the login that a certificate belongs to, or tells
// whether it belongs to a login that was given. Nothing a certificate says is trusted to be plain text.
package mapper

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"time"

	"pam_pkcs11/internal/accounts"
	"pam_pkcs11/internal/certinfo"
	"pam_pkcs11/internal/fetch"
)

// ErrNoMatch is returned when no mapper says yes.
var ErrNoMatch = errors.New("no mapper says that the certificate belongs to this user")

// ErrUnavailable is part of the error when no mapper says yes and one could not ask whom it has to: a server that is
// not reached, or that refuses what the configuration makes of it. It wraps the cause.
var ErrUnavailable = errors.New("the directory cannot be asked")

// Origin is what a mapper's answer rests on; it decides which accounts the answer may name.
type Origin int

// The origins, from the weakest.
const (
	OriginNone      Origin = iota
	OriginText             // the login stands in the certificate
	OriginAccounts         // the account database holds the certificate's text
	OriginDirectory        // a directory says so
	OriginFixed            // the configuration says so for every certificate
	OriginMapfile          // a line of a mapfile
	OriginOwnerFile        // a file in the user's own home
)

// String names an origin for the log.
func (o Origin) String() string {
	return [...]string{"none", "certificate text", "account database", "directory", "configuration", "mapfile", "owner's file"}[o]
}

// Result is a yes.
type Result struct {
	User      string   // login
	Others    []string // further accounts that the same mapper knows the certificate to be of; Find only
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

// Options of a chain.
type Options struct {
	Accounts                       accounts.Source // nil is the system's
	StrictPermissions              bool
	AllowUnknownUser               bool // logins need not have an account
	DirectoryMayNameSystemAccounts bool
	Authorities                    []*certinfo.Certificate // of ca_dir; nil where no chain is built
	PartialChain                   bool                    // every CA of ca_dir ends a chain
	StoreDir                       string                  // where root keeps records between logins; "" keeps none
	Fetch                          *fetch.Client           // of remote mapfiles; nil is one that trusts the system's authorities
	Resolver                       *net.Resolver           // for SRV records; nil is the system's
	Logger                         *slog.Logger            // nil is silent
	Now                            func() time.Time        // nil is time.Now
}

// answer is what one mapper says.
type answer struct {
	user     string
	value    string
	origin   Origin
	spelling bool // another way to write the login before it, which counts where that has no account
}

// mapper is one kind of mapping, set up by one block.
type mapper interface {
	// find returns the logins that the certificate belongs to, the best first.
	find(ctx context.Context, cert *certinfo.Certificate) ([]answer, error)
	// match tells whether the certificate belongs to a person, whichever of his names it goes by.
	match(ctx context.Context, cert *certinfo.Certificate, user *person) (answer, bool, error)
	// binds tells that the answer rests on the exact certificate or its key, not on text in it.
	binds() bool
}

// errNothing is returned by a mapper for whose question the certificate holds nothing usable.
var errNothing = errors.New("the certificate holds nothing usable for this mapper")
