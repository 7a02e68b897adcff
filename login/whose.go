package login

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"pam_pkcs11/pkcs11"
	"pam_pkcs11/verify"
)

// whose asks, in ModeSkip, whose a certificate is that was refused for its dates or its status. Where it is the user's
// the refusal stays; somebody else's expired card, or one of an unknown authority, says nothing about him. In the other
// modes the answer would be the same, and nobody is asked.
func (t *attempt) whose(ctx context.Context, j *judge, o pkcs11.Object, all []pkcs11.Object, r *Refusal) *Refusal {
	if t.mode() != ModeSkip {
		return r
	}
	at := t.a.now()
	switch r.Outcome {
	case CertificateExpired:
		at = o.Cert.NotAfter
	case CertificateNotYetValid:
		at = o.Cert.NotBefore
	case CertificateRevoked, RevocationUnknown:
	default:
		return r
	}
	if fault := t.checkChain(ctx, o, all, at); fault != nil {
		fault.Err = fmt.Errorf("%w (and %w)", fault.Err, r)
		return fault
	}
	_, other := t.mapObject(ctx, j, o)
	switch {
	case other == nil:
		return r
	case r.Outcome == RevocationUnknown && !saysNothing(other.Outcome):
		return r // nothing more is known, and the answer is the same
	}
	other.Err = fmt.Errorf("%w (and %w)", other.Err, r)
	return other
}

// checkChain checks a certificate as of a moment at which it was valid, without its revocation status.
func (t *attempt) checkChain(ctx context.Context, o pkcs11.Object, all []pkcs11.Object, at time.Time) *Refusal {
	options, err := t.verifyOptions()
	if err != nil {
		return refuse(InternalFault, err)
	}
	options.Now = func() time.Time { return at }
	options.Policy.CRL = ""
	options.Policy.OCSP = false
	options.Logger = slog.New(slog.DiscardHandler) // what there is to say about ca_dir has been said

	v, err := verify.New(options)
	if err != nil {
		return refuse(InternalFault, err)
	}
	if _, err := v.Check(ctx, o.Cert, certificates(all)); err != nil {
		return t.verifyRefusal(o.Cert, check{err: err, late: ctx.Err() != nil})
	}
	return nil
}

// saysNothing reports whether a card with this outcome says nothing about the user: ModeSkip passes it over in silence.
func saysNothing(o Outcome) bool {
	a := o.Answer(ModeSkip)
	return a.Class == ClassUnavailable && a.Message == ""
}
