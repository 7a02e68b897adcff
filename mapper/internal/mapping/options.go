package mapping

import (
	"log/slog"
	"net"
	"time"

	"pam_pkcs11/internal/accounts"
	"pam_pkcs11/internal/certinfo"
	"pam_pkcs11/internal/fetch"
)

// Options of a chain.
type Options struct {
	Accounts                       accounts.Source // nil is the system's
	StrictPermissions              bool
	AllowUnknownUser               bool // logins need not have an account
	DirectoryMayNameSystemAccounts bool

	Authorities  []*certinfo.Certificate // of ca_dir; nil where no chain is built
	PartialChain bool                    // every CA of ca_dir ends a chain

	EnrolledFile string // of enrolled keys; "" is enrolled.DefaultFile
	EnrolledRoot bool   // an enrolled key may be that of an account with uid 0

	StoreDir string           // where root keeps records between logins; "" keeps none
	Fetch    *fetch.Client    // of remote mapfiles; nil trusts the system's authorities
	Resolver *net.Resolver    // for SRV records; nil is the system's
	Logger   *slog.Logger     // nil is silent
	Now      func() time.Time // nil is time.Now
}

// Complete fills in what is nil.
func (o Options) Complete() Options {
	if o.Accounts == nil {
		o.Accounts = accounts.System()
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return o
}
