// Package store finds CRLs where they are (crl_dir, files, the network), keeps what it fetched from
// one login to the next, and brings it up to date ahead of logins. Its Keeper gives package crl
// a source of lists; whether a certificate is revoked is not decided here.
package store

import (
	"log/slog"
	"sync"
	"time"

	"pam_pkcs11/internal/certinfo"
	"pam_pkcs11/internal/fetch"
	"pam_pkcs11/verify/crl"
	"pam_pkcs11/verify/internal/rules"
)

// Options are those of a keeper. Their meaning is that of the options of package verify with the
// same words.
type Options struct {
	Word              string // of cert_policy: "", "offline", "online" or "auto"
	Dir               string
	StrictPermissions bool
	Rules             rules.Rules
	LeafOnly          bool
	Grace             time.Duration
	MaxSize           int64
	URLs              []string
	Mirrors           []Mirror
	LDAPServers       []string
	Period            time.Duration
	StoreDir          string
	Now               func() time.Time
	Logger            *slog.Logger

	// Client makes the client for one question; allowLocal lets an address be of this machine, and
	// maxBytes bounds the answer.
	Client func(allowLocal bool, maxBytes int64) *fetch.Client

	Hooks Hooks
}

// Hooks are what tests change.
type Hooks struct {
	Local    bool              // certificates may name addresses of this machine
	ReadOnly bool              // nothing is kept
	FS       FS                // nil: the disk
	State    func() string     // of the machine's way to the network; nil: as it is
	Opened   func(path string) // is told of each file that is opened to be read as a whole; nil: nobody
}

// Authorities are the CA certificates of ca_dir.
type Authorities interface {
	All() []*certinfo.Certificate
	Named(subject certinfo.Name) []*certinfo.Certificate
	// Has reports whether this very certificate is in ca_dir.
	Has(c *certinfo.Certificate) bool
	// Reaches reports whether a CA has a good path to one of ca_dir now, over others that were
	// kept.
	Reaches(c *certinfo.Certificate, others []*certinfo.Certificate) bool
}

// Keeper finds CRLs where they are, keeps those that it fetched, and brings them up to date ahead
// of logins. It may be used by several goroutines at once.
type Keeper struct {
	options     Options
	authorities Authorities
	wanted      *crl.Wanted // serial numbers that a pass over a CRL looks for

	keptOnce sync.Once                          // guards kept
	kept     map[string][]*certinfo.Certificate // by subject, see authority.go
}

// New makes a keeper for the CA certificates of ca_dir.
func New(o Options, a Authorities, w *crl.Wanted) *Keeper {
	if o.MaxSize == 0 {
		o.MaxSize = defaultMaxSize
	}
	return &Keeper{options: o, authorities: a, wanted: w}
}

// open opens the store; nil when there is no directory to use.
func (k *Keeper) open() *store {
	s := openStore(k.options.StoreDir)
	if s == nil {
		return nil
	}

	if k.options.Hooks.FS != nil {
		s.fs = k.options.Hooks.FS
	}
	if k.options.Hooks.ReadOnly {
		s.writes = false
	}
	return s
}
