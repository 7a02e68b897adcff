package mapping

import (
	"context"

	"pam_pkcs11/internal/certinfo"
)

// Standing is how sure it is that a certificate's issuer is the authority that its name says. A CA
// can certify another one of any name, so a name alone proves only that some root of ca_dir has let
// it pass.
type Standing int

// The standings.
const (
	// StandingUnknown means that no chain was built: the name is a text of the certificate.
	StandingUnknown Standing = iota

	// StandingForeign means that ca_dir has CAs of that name, and this one is below another anchor.
	StandingForeign

	// StandingNamed means that ca_dir has no CA of that name, and several roots that could have
	// certified one.
	StandingNamed

	// StandingBound means that the key is that of a CA of ca_dir, or was certified below the same
	// anchor.
	StandingBound
)

type standingKey struct{}

// WithStanding hands the standing of the issuer to the mapper that is asked.
func WithStanding(ctx context.Context, s Standing) context.Context {
	return context.WithValue(ctx, standingKey{}, s)
}

// IssuerIsBound reports whether the issuer's name stands for its key. Where nothing is known it
// does not.
func IssuerIsBound(ctx context.Context) bool { return ctx.Value(standingKey{}) == StandingBound }

type chainKey struct{}

// WithChain hands to the mapper that is asked whether a good chain to a CA of ca_dir was built.
func WithChain(ctx context.Context, built bool) context.Context {
	return context.WithValue(ctx, chainKey{}, built)
}

// HasChain reports whether a good chain to a CA of ca_dir was built. Where nothing is known it was
// not.
func HasChain(ctx context.Context) bool { return ctx.Value(chainKey{}) == true }

// IssuerIsForeign reports whether the issuer has the name of a CA of ca_dir and another key, below
// another anchor.
func IssuerIsForeign(ctx context.Context) bool { return ctx.Value(standingKey{}) == StandingForeign }

// IssuerUse is what a mapper makes of the issuer's name.
type IssuerUse int

// The uses.
const (
	UsesNoIssuer   IssuerUse = iota
	ComparesIssuer           // a directory may go by the name, and the mapper checks its entry
	RestsOnIssuer            // the answer may rest on the name
)

// IssuerReader is a mapper that goes by the issuer's name.
type IssuerReader interface {
	// IssuerUse returns what the mapper makes of the issuer's name for this certificate, with nil
	// for any.
	IssuerUse(cert *certinfo.Certificate) IssuerUse
}

// NameTheKey is what to write where a name alone is not enough.
const NameTheKey = `put the CA's certificate into ca_dir, or write issuer = "file:..." or "sha256:..."`
