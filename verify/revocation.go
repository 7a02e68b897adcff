package verify

import (
	"cmp"
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"pam_pkcs11/internal/certinfo"
	"pam_pkcs11/verify/crl"
	"pam_pkcs11/verify/internal/refusal"
	"pam_pkcs11/verify/ocsp"
	"pam_pkcs11/verify/path"
	"pam_pkcs11/verify/sig"
)

// Which source is asked about revocation, and what follows from silence.

// Network time of a login. What the caller's deadline leaves is used up to verdictReserve before
// its end, so that the verdict, also the one of `revocation = soft`, is there when the deadline
// comes.
const (
	verdictReserve  = 50 * time.Millisecond
	defaultDeadline = 10 * time.Second // for callers without one
)

// maxDelegates bounds how often the status of a responder's certificate leads to another responder.
const maxDelegates = 2

// ocspDirName is where OCSP answers are kept in Options.StoreDir; for root only, since it tells who
// logs in.
const ocspDirName = "ocsp"

// revocationPolicy asks OCSP responders first, all certificates of the path at once, then looks
// into CRLs for those that no responder answered for. A certificate of which neither says anything
// is refused, unless the administrator wrote `revocation = soft`. That is for silence: nothing that
// could be had, no answer or list at all, or one whose time is over. "Revoked" is final in any
// case, "unknown" of the CA's own responder is no silence, nor is a wrong signature.
type revocationPolicy struct {
	ocsp     *ocsp.Checker // nil: cert_policy has no ocsp_on
	crl      *crl.Checker  // nil: cert_policy has no CRL word
	soft     bool
	leafOnly bool
	logger   *slog.Logger
}

// startRevocation puts OCSP before the CRLs, and `revocation` over both.
func (v *Verifier) startRevocation() error {
	o := v.options
	if o.Policy.CRL == "" && !o.Policy.OCSP {
		return nil
	}
	policy := &revocationPolicy{
		soft:     o.Soft,
		leafOnly: o.CRLLeafOnly,
		logger:   o.Logger,
	}

	if o.Policy.CRL != "" {
		policy.crl = v.crls.Checker()
	}

	if o.Policy.OCSP {
		// Answers tell who logs in, so only root keeps them; another user's check asks anew.
		dir := ""
		if o.StoreDir != "" && os.Geteuid() == 0 {
			dir = filepath.Join(o.StoreDir, ocspDirName)
		}

		if err := v.readResponderCerts(); err != nil {
			return err
		}
		policy.ocsp = v.newOCSP(dir)
	}

	v.revoked = policy
	return nil
}

// Check is the revocation of a whole path.
func (r *revocationPolicy) Check(ctx context.Context, s *path.Search, certs []*certinfo.Certificate) *Error {
	ctx, cancel := networkContext(ctx)
	defer cancel()

	run := &revocationRun{policy: r, s: s, certs: certs}
	if r.crl != nil {
		run.crl = r.crl.Run(s.Now, certs, s)
	}
	return run.path(ctx)
}

// networkContext ends verdictReserve before the deadline of the caller, so that the verdict is in
// time.
func networkContext(ctx context.Context) (context.Context, context.CancelFunc) {
	deadline, ok := ctx.Deadline()
	if !ok {
		return context.WithTimeout(ctx, defaultDeadline)
	}
	return context.WithDeadline(ctx, deadline.Add(-verdictReserve))
}

// half is a context for the first of two sources, so that one that does not answer leaves time for
// the other.
func half(ctx context.Context) (context.Context, context.CancelFunc) {
	deadline, _ := ctx.Deadline()
	return context.WithTimeout(ctx, time.Until(deadline)/2)
}

// revocationRun is the checking of one path.
type revocationRun struct {
	policy *revocationPolicy
	s      *path.Search
	certs  []*certinfo.Certificate // the anchor first

	mu  sync.Mutex // guards s and crl: responders are asked from several goroutines
	crl *crl.Run
}

// targets are the certificates to ask about: each below the anchor, which is trusted as it is.
func (r *revocationRun) targets() []ocsp.Target {
	keys := sig.WorkingKeys(r.certs)
	from := 1
	if r.policy.leafOnly {
		from = max(1, len(r.certs)-1)
	}

	var all []ocsp.Target
	for i := from; i < len(r.certs); i++ {
		all = append(all, ocsp.Target{Cert: r.certs[i], Issuer: r.certs[i-1], Key: keys[i-1]})
	}

	return all
}

// path returns the worst that is found: a revoked certificate before one of unknown status, the
// user's own first, for which no other path need be looked for.
func (r *revocationRun) path(ctx context.Context) *Error {
	targets := r.targets()
	outcomes := r.askAll(ctx, targets)

	// The leaf is last: when it is revoked that is the answer, whatever holds for the CAs above.
	for i := range slices.Backward(targets) {
		if err := revokedBy(targets[i].Cert, outcomes[i]); err != nil {
			r.s.MarkRefused()
			return err
		}
	}

	// All addresses are announced before the first list is waited for, so that they are fetched
	// side by side.
	for i, t := range targets {
		if r.crl != nil && outcomes[i].Verdict == nil {
			r.crl.Announce(ctx, t.Cert, t.Issuer)
		}
	}

	// A status that is unknown does not end the walk: a certificate further down may be revoked.
	var silent []*Error
	for i := range targets {
		err := r.certificate(ctx, &targets[i], outcomes[i])
		switch {
		case err == nil:
		case err.Reason == ReasonRevocationUnknown:
			silent = append(silent, err)
		default:
			return r.final(ctx, targets, outcomes, err)
		}
	}

	if len(silent) == 0 {
		return nil
	}
	// Of two ways to an anchor, one on which a signature refused a certificate must not be saved by
	// silence on the other.
	if !r.policy.soft || r.s.Refused() {
		return silent[0]
	}
	// What rests on a signature, right or wrong, is no silence: soft does not pass it over.
	if i := slices.IndexFunc(silent, func(err *Error) bool { return err.Spoken }); i >= 0 {
		r.s.MarkRefused()
		return silent[i]
	}

	for _, err := range silent {
		r.s.Step(err.Cert, ReasonSoft, true, err.Detail)
		r.policy.logger.Warn("revocation not known, the login goes on (revocation = soft)",
			"subject", err.Cert.Subject.RFC4514(), "serial", err.Cert.SerialHex(":"), "detail", err.Detail)
	}
	return nil
}

// final completes a refusal that needs no further list: when a CA's certificate is revoked, the
// user's own may be revoked as well.
func (r *revocationRun) final(ctx context.Context, targets []ocsp.Target, outcomes []ocsp.Outcome, err *Error) *Error {
	if err.Reason != ReasonRevoked {
		return err
	}
	r.s.MarkRefused()

	last := len(targets) - 1
	if targets[last].Cert == err.Cert {
		return err
	}

	if own := r.certificate(ctx, &targets[last], outcomes[last]); own != nil && own.Reason == ReasonRevoked {
		return own
	}
	return err
}

// askAll asks the responders about all certificates at once. A revoked one ends the asking.
func (r *revocationRun) askAll(ctx context.Context, targets []ocsp.Target) []ocsp.Outcome {
	outcomes := make([]ocsp.Outcome, len(targets))
	if r.policy.ocsp == nil {
		return outcomes
	}

	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	// Where CRLs may answer too, responders get half of the time at most.
	if r.crl != nil {
		var release context.CancelFunc
		ctx, release = half(ctx)
		defer release()
	}

	var group sync.WaitGroup
	for i := range targets {
		group.Go(func() {
			outcomes[i] = r.policy.ocsp.Ask(ctx, &targets[i], r.delegates(1))
			// Revoked is final for the whole path: the other responders need not be waited for.
			if v := outcomes[i].Verdict; v != nil && v.Revoked() {
				cancel()
			}
		})
	}

	group.Wait()
	return outcomes
}

// certificate finds the status of one certificate from what its responders said, else from CRLs,
// which are fetched under ctx.
func (r *revocationRun) certificate(ctx context.Context, t *ocsp.Target, o ocsp.Outcome) *Error {
	r.mu.Lock()
	defer r.mu.Unlock()

	if r.policy.ocsp != nil {
		for _, note := range o.Notes {
			r.s.Step(t.Cert, ReasonNoAnswer, false, note)
		}
		if err := revokedBy(t.Cert, o); err != nil || o.Verdict != nil {
			if err == nil {
				r.s.Step(t.Cert, ReasonOCSPGood, true, "good at "+refusal.Stamp(o.Verdict.SaidAt())+", says "+refusal.Clip(o.From))
			}
			return err
		}
	}

	why := strings.Join(o.Notes, "; ")
	// Without CRLs the missing answer is the whole reason.
	if r.crl == nil {
		err := refusal.New(t.Cert, ReasonRevocationUnknown, "no OCSP answer: %s", why)
		err.Spoken, err.Restore = o.Spoken, o.Restore
		return err
	}

	err := r.crl.Certificate(ctx, t.Cert, t.Issuer, t.Key)
	switch {
	case err == nil:
		r.s.Step(t.Cert, ReasonCRLGood, true, "no CRL at hand lists it")
		return nil
	// The time was up in the search for a signer: the status is unknown, the work not too much.
	case err.Reason == ReasonWork && ctx.Err() != nil:
		err = refusal.New(t.Cert, ReasonRevocationUnknown, "no usable CRL: %v", ctx.Err())
	}
	// The administrator needs both reasons, for either source would have been enough.
	if why != "" && err.Reason == ReasonRevocationUnknown {
		both := refusal.New(err.Cert, err.Reason, "%s; no OCSP answer: %s", err.Detail, why)
		both.Spoken = err.Spoken || o.Spoken
		both.Restore = cmp.Or(err.Restore, o.Restore)
		err = both
	}

	return err
}

// revokedBy returns the refusal when the verdict of a responder is "revoked", else nil.
func revokedBy(cert *certinfo.Certificate, o ocsp.Outcome) *Error {
	if o.Verdict == nil || !o.Verdict.Revoked() {
		return nil
	}
	at, reason := o.Verdict.Revocation()
	return refusal.New(cert, ReasonRevoked, "revoked at %s (%s), says %s", refusal.Stamp(at), reason, refusal.Clip(o.From))
}

// delegates finds the status of responders' certificates: by OCSP, as for any certificate, and by
// CRLs where cert_policy has them. No certificate can vouch for itself, so the chain of them ends
// soon.
func (r *revocationRun) delegates(depth int) ocsp.DelegateStatus {
	return func(ctx context.Context, t ocsp.Target) *Error {
		var o ocsp.Outcome
		// Beyond the limit no responder is asked: the empty outcome leaves the CRLs, or an unknown
		// status.
		if depth <= maxDelegates {
			o = r.policy.ocsp.Ask(ctx, &t, r.delegates(depth+1))
		}
		return r.certificate(ctx, &t, o)
	}
}
