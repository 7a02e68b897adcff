// Package verify answers one question: is this certificate good now? It builds a chain to a CA of
// ca_dir and validates it by RFC 5280, section 6, with the certificate's usages, and says why when
// the answer is no. It takes certificates as certinfo reads them, so that what Go's crypto/x509
// refuses and smart-card PKIs issue can be checked too.
package verify

import (
	"context"
	"log/slog"
	"time"

	"pam_pkcs11/internal/certinfo"
	"pam_pkcs11/verify/crl"
	"pam_pkcs11/verify/crl/store"
	"pam_pkcs11/verify/internal/refusal"
	"pam_pkcs11/verify/internal/rules"
	"pam_pkcs11/verify/path"
)

// Verifier checks certificates against one set of options. It may be used by several goroutines at
// once.
type Verifier struct {
	options Options
	rules   rules.Rules
	store   *path.Store
	revoked path.Revocation
	wanted  crl.Wanted
	initial path.Policies

	responders []*certinfo.Certificate // of OCSPOptions.ResponderCerts

	crls *store.Keeper
}

// New reads ca_dir, when Policy.CA asks for a chain. Files in it that are damaged or refused are
// skipped and named by Problems; a ca_dir that cannot be read at all is an error.
func New(o Options) (*Verifier, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.MinRSABits == 0 {
		o.MinRSABits = minRSABits
	}
	o.MinRSABits = max(o.MinRSABits, lowestRSABits)

	v := &Verifier{
		options: o,
		rules:   rules.Rules{ClockSkew: o.ClockSkew, MinRSABits: o.MinRSABits, AllowSHA1: o.AllowSHA1},
		store:   path.NewStore(),
	}

	var err error
	if v.initial, err = path.NewPolicies(o.RequiredPolicies, o.RequireAllPolicies); err != nil {
		return nil, err
	}

	// Without ca, nothing is read: the verifier then checks single certificates only.
	if o.Policy.CA {
		v.store.EKU = o.EKU
		v.store.WithLists = o.CADir == o.CRLDir
		if err := v.store.Load(o.CADir, o.StrictPermissions); err != nil {
			return nil, err
		}

		for _, p := range v.store.Problems {
			o.Logger.Warn("ca_dir: file not used", "file", p.Path, "problem", p.Text)
		}
		v.finder().LogNewForms(o.Logger)

		// One pass over a CRL then answers for the authorities as well.
		v.Expect(v.store.All...)
	}

	// The keeper looks into v.store, which has to be loaded by now.
	v.crls = v.newKeeper()
	if err := v.startRevocation(); err != nil {
		return nil, err
	}
	return v, nil
}

// finder finds chains with the options of this verifier.
func (v *Verifier) finder() *path.Finder {
	return &path.Finder{
		CADir:        v.options.CADir,
		Store:        v.store,
		Rules:        v.rules,
		EKU:          v.options.EKU,
		PartialChain: v.options.PartialChain,
		V1Anchors:    v.options.V1Anchors,
		Initial:      v.initial,
		Revoked:      v.revoked,
	}
}

// Findings lists what `pam-pkcs11 config check` says of the certificates of ca_dir.
func (v *Verifier) Findings() []Finding { return v.finder().Findings() }

// Anchors lists the certificates of ca_dir at which chains end, in the order of reading.
func (v *Verifier) Anchors() []Anchor { return v.finder().Anchors(v.options.Now()) }

// DateFindings names the certificates of ca_dir that are not valid now, and those that will not be
// after the given time.
func (v *Verifier) DateFindings(within time.Duration) []Finding {
	return v.finder().DateFindings(v.options.Now(), within)
}

// Problems lists the files of ca_dir that were skipped or reported, in the order of reading.
func (v *Verifier) Problems() []Problem { return v.store.Problems }

// Certificates lists the CA certificates read from ca_dir.
func (v *Verifier) Certificates() []*certinfo.Certificate { return v.store.All }

// AsOf returns a verifier with the same authorities and rules, for which it is always the given
// time and which does not check revocation. It logs nothing: what there is to say about ca_dir has
// been logged.
func (v *Verifier) AsOf(at time.Time) *Verifier {
	o := v.options
	o.Now = func() time.Time { return at }
	o.Policy.CRL = ""
	o.Policy.OCSP = false
	o.Logger = slog.New(slog.DiscardHandler)

	then := &Verifier{
		options: o,
		rules:   v.rules,
		store:   v.store,
		initial: v.initial,
	}
	then.crls = then.newKeeper()
	return then
}

// Expect announces certificates that Check will be asked about, so that one pass over a CRL answers
// for all of them.
func (v *Verifier) Expect(certs ...*certinfo.Certificate) { v.wanted.Add(certs...) }

// Check reports whether the certificate is good now. The intermediates are those that travel with
// it, on the card; they are not trusted. The error is an *Error; the result holds the decisions in
// either case, and the chain when it is good.
func (v *Verifier) Check(ctx context.Context, cert *certinfo.Certificate, intermediates []*certinfo.Certificate) (*Result, error) {
	if cert == nil {
		return &Result{}, refusal.New(nil, ReasonMalformed, "there is no certificate")
	}

	// A serial number that a pass over a CRL did not look for costs another pass.
	v.Expect(cert)
	v.Expect(intermediates...)

	now := v.options.Now()
	result := &Result{Expires: cert.NotAfter}

	if err := v.check(ctx, cert, intermediates, now, result); err != nil {
		result.add(err.Cert, err.Reason, false, err.Detail)
		return result, err
	}

	result.ExpiresSoon = v.endsSoon(cert, now)
	return result, nil
}

// endsSoon reports whether the last days of a certificate have begun.
func (v *Verifier) endsSoon(cert *certinfo.Certificate, now time.Time) bool {
	warnFrom := cert.NotAfter.AddDate(0, 0, -v.options.ExpiryWarningDays)
	return v.options.ExpiryWarningDays > 0 && !now.Before(warnFrom)
}

// check makes the decisions in the order in which they are most telling: what is wrong with the
// certificate itself is said before what is wrong with its chain.
func (v *Verifier) check(ctx context.Context, cert *certinfo.Certificate, intermediates []*certinfo.Certificate, now time.Time, result *Result) *Error {
	if err := v.checkAvailable(cert); err != nil {
		return err
	}
	if err := v.checkAlone(cert, now); err != nil {
		return err
	}

	// The certificate passed by itself; its chain decides the rest.
	result.add(cert, ReasonUsable, true, "is valid now and may be used for a login")
	result.tolerated(cert)

	if !v.options.Policy.CA {
		result.Chain = []*certinfo.Certificate{cert}
		result.add(cert, ReasonNoChain, true, "no chain is asked for (cert_policy without ca)")
		return nil
	}

	s := v.finder().Search(ctx, now, intermediates)
	found, err := s.Find(cert)
	// A search that failed says as well what it has tried.
	result.Decisions = append(result.Decisions, s.Decisions...)
	if err != nil {
		return err
	}

	result.Chain = found.Chain()
	result.Anchored = true
	result.Policies = found.Policies
	for _, c := range result.Chain[1:] {
		result.tolerated(c)
	}
	return nil
}

// checkAvailable refuses a policy that this verifier cannot enforce, instead of skipping the check.
func (v *Verifier) checkAvailable(cert *certinfo.Certificate) *Error {
	p := v.options.Policy
	switch {
	case !p.CA && (p.CRL != "" || p.OCSP):
		return refusal.New(cert, ReasonNotAvailable, "revocation is not available without ca: no signer of a list or an answer is known")
	case p.CRL != "" && v.revoked == nil:
		return refusal.New(cert, ReasonNotAvailable, "cert_policy asks for crl_%s: checking CRLs is not available in this version", p.CRL)
	}
	return nil
}

// checkAlone checks what needs no other certificate.
func (v *Verifier) checkAlone(cert *certinfo.Certificate, now time.Time) *Error {
	if err := v.rules.CheckKey(cert, cert.PublicKey); err != nil {
		return err
	}
	if err := v.rules.CheckDates(cert, now); err != nil {
		return err
	}
	if err := rules.CheckExtensions(cert); err != nil {
		return err
	}
	if err := rules.CheckKeyUsage(cert); err != nil {
		return err
	}
	return rules.CheckPurpose(cert, v.options.EKU)
}
