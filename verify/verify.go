// Package verify answers one question: is this certificate good now? It builds a chain to a CA of ca_dir and validates
// it by RFC 5280, section 6, with the certificate's usages, and says why when the answer is no. It takes certificates
// as certinfo reads them, so that what Go's crypto/x509 refuses and smart-card PKIs issue can be judged too.
package verify

import (
	"context"
	"encoding/asn1"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"slices"
	"strings"
	"time"

	"pam_pkcs11/internal/certinfo"
	"pam_pkcs11/verify/crl"
	"pam_pkcs11/verify/crl/store"
	"pam_pkcs11/verify/internal/refusal"
	"pam_pkcs11/verify/internal/rules"
)

// Policy is what cert_policy asks for.
type Policy struct {
	CA        bool   // a chain to a CA of ca_dir
	Signature bool   // proof of the private key; made by the caller with CheckSignature
	CRL       string // "", "offline", "online" or "auto"
	OCSP      bool
}

// Options of a Verifier. The zero value checks validity dates and usages only.
type Options struct {
	CADir             string // file or directory; read when Policy.CA is set
	CRLDir            string // file or directory of CRLs; read when a certificate needs one
	Policy            Policy
	EKU               EKU
	StrictPermissions bool // refuse, not only report, files of ca_dir and crl_dir that a group may write

	PartialChain bool // every CA certificate of ca_dir is an anchor, not only the self-signed ones
	V1Anchors    bool // anchors without basicConstraints are authorities too, see isV1Anchor
	AllowSHA1    bool // SHA-1 signatures in the chain; older hashes are never accepted
	MinRSABits   int  // shortest RSA and DSA key; 0 means 2048, lower than 1024 counts as 1024
	ClockSkew    time.Duration

	RequiredPolicies   []asn1.ObjectIdentifier // certificate policies of which one must be valid for the chain
	RequireAllPolicies bool                    // each of them must be

	CRLLeafOnly bool          // crl_scope = leaf: revocation of the certificate alone, not of the CAs above it
	CRLGrace    time.Duration // how long after its nextUpdate a CRL still proves a certificate good
	MaxCRLSize  int64         // in octets; 0 means 512 MiB
	CRLURLs     []string      // beside those of certificates: http, https, ldap, ldaps or file; may be on this machine
	CRLMirrors  []CRLMirror   // where the addresses of certificates are asked instead; may be on this machine

	// CRLLDAPServers, ldap://HOST or ldaps://HOST, are asked for addresses of certificates that name no
	// server; may be on this machine.
	CRLLDAPServers []string

	NoProxy   []string      // hosts, .domains, addresses and networks that are reached without Proxy
	Proxy     string        // http://HOST:PORT for http and https, "" for none
	CRLPeriod time.Duration // between two runs of UpdateCRLs; 0: not known, LongestCRLPeriod at most
	Resolver  *net.Resolver // of the names in addresses; nil: the system's
	StoreDir  string        // DefaultStore, or "" to keep nothing; written to by its owner only

	OCSP OCSPOptions // how responders are asked, with Policy.OCSP
	Soft bool        // revocation = soft: go on, and log it, when nothing can be found out about revocation

	ExpiryWarningDays int // set Result.ExpiresSoon in the last days before the certificate runs out; 0: never

	hooks store.Hooks

	Now    func() time.Time // nil: time.Now
	Logger *slog.Logger     // nil: silent
}

// minRSABits is the length that holds when Options.MinRSABits is 0, lowestRSABits the one below which nothing helps.
const (
	minRSABits    = 2048
	lowestRSABits = 1024
)

// Verifier checks certificates against one set of options. It may be used by several goroutines at once.
type Verifier struct {
	options Options
	rules   rules.Rules
	store   *caStore
	revoked revocation
	wanted  crl.Wanted
	initial initialPolicies

	responders []*certinfo.Certificate // of OCSPOptions.ResponderCerts

	crls *store.Keeper
}

// initialPolicies are the user's inputs of RFC 5280, 6.1.1 (c) to (g); the zero value is anyPolicy and no inhibition.
type initialPolicies struct {
	set            []string // content octets; empty: anyPolicy
	all            bool     // each of set must be valid, not one
	explicit       bool
	inhibitMapping bool
	inhibitAny     bool
}

// Decision is one step of the judgement, for explain and the log.
type Decision struct {
	Cert   *certinfo.Certificate
	Reason Reason // what the step was about
	OK     bool
	Detail string // English
}

// Result says why a certificate is good.
type Result struct {
	Chain       []*certinfo.Certificate // the certificate first, its anchor last; only the certificate when not Anchored
	Anchored    bool                    // the chain ends at a CA of ca_dir
	Policies    []asn1.ObjectIdentifier // valid certificate policies of the chain; anyPolicy stands for all
	Decisions   []Decision
	Expires     time.Time // notAfter of the certificate
	ExpiresSoon bool      // within ExpiryWarningDays
}

// New reads ca_dir, when Policy.CA asks for a chain. Files in it that are damaged or refused are skipped and named by
// Problems; a ca_dir that cannot be read at all is an error.
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
		store:   newStore(),
	}
	for _, oid := range o.RequiredPolicies {
		key, err := policyKey(oid)
		if err != nil {
			return nil, err
		}
		v.initial.set = append(v.initial.set, key)
	}
	v.initial.explicit = len(v.initial.set) > 0
	v.initial.all = o.RequireAllPolicies
	if o.Policy.CA {
		v.store.eku, v.store.withLists = o.EKU, o.CADir == o.CRLDir
		if err := v.store.load(o.CADir, o.StrictPermissions); err != nil {
			return nil, err
		}
		for _, p := range v.store.problems {
			o.Logger.Warn("ca_dir: file not used", "file", p.Path, "problem", p.Text)
		}
		v.logNewForms()
		v.Expect(v.store.all...)
	}
	v.crls = v.newKeeper()
	if err := v.startRevocation(); err != nil {
		return nil, err
	}
	return v, nil
}

// Problem is something wrong with one file of ca_dir that did not stop the rest.
type Problem struct {
	Path string
	Text string
}

// Finding is something to know about a file of ca_dir that is used.
type Finding struct {
	Path    string
	Text    string // English
	Restore string // the configuration key that brings back what the file meant before, "" when there is none
}

// Findings lists what `pam-pkcs11 config check` says of the certificates of ca_dir.
func (v *Verifier) Findings() []Finding { return append(v.newFormFindings(), v.v1Findings()...) }

// logNewForms says the same for the log of a login, in one line for each file and without checking signatures: only the
// first of its anchors are named.
func (v *Verifier) logNewForms() {
	const most = 5
	anchors, counts := map[string][]string{}, map[string]int{}
	for _, n := range v.store.newForms {
		file := v.store.origin[n.cert]
		counts[file]++
		if n.cert.SelfIssued() && len(anchors[file]) < most {
			anchors[file] = append(anchors[file], refusal.Clip(n.cert.Subject.RFC4514()))
		}
	}
	for _, file := range slices.Sorted(maps.Keys(counts)) {
		v.options.Logger.Info("ca_dir: earlier releases did not read this file (see pam-pkcs11 config check)",
			"file", file, "certificates", counts[file], "anchors", strings.Join(anchors[file], "; "))
	}
}

// newFormFindings names the certificates, and which of them are anchors, of files whose form was not read before: they
// are trusted since, and nobody may remember that they are there.
func (v *Verifier) newFormFindings() []Finding {
	var all []Finding
	for _, n := range v.store.newForms {
		role := "may stand in a chain"
		if v.anchors(n.cert) {
			role = "is an anchor"
		}
		all = append(all, Finding{
			Path: v.store.origin[n.cert],
			Text: fmt.Sprintf("%s %s; earlier releases did not read %s", refusal.Describe(n.cert), role, n.form),
		})
	}
	return all
}

// Problems lists the files of ca_dir that were skipped or reported, in the order of reading.
func (v *Verifier) Problems() []Problem { return v.store.problems }

// Certificates lists the CA certificates read from ca_dir.
func (v *Verifier) Certificates() []*certinfo.Certificate { return v.store.all }

// AsOf returns a verifier with the same authorities and rules, for which it is always the given time and which asks
// nobody about revocation. It is silent: what there is to say about ca_dir has been said.
func (v *Verifier) AsOf(at time.Time) *Verifier {
	o := v.options
	o.Now = func() time.Time { return at }
	o.Policy.CRL = ""
	o.Policy.OCSP = false
	o.Logger = slog.New(slog.DiscardHandler)

	then := &Verifier{options: o, rules: v.rules, store: v.store, initial: v.initial}
	then.crls = then.newKeeper()
	return then
}

// Expect announces certificates that Check will be asked about, so that one pass over a CRL answers for all of them.
func (v *Verifier) Expect(certs ...*certinfo.Certificate) { v.wanted.Add(certs...) }

// Check tells whether the certificate is good now. The intermediates are those that travel with it, on the card; they
// are not trusted. The error is an *Error; the result holds the decisions in either case, and the chain when it is good.
func (v *Verifier) Check(ctx context.Context, cert *certinfo.Certificate, intermediates []*certinfo.Certificate) (*Result, error) {
	if cert == nil {
		return &Result{}, refusal.New(nil, ReasonMalformed, "there is no certificate")
	}
	v.Expect(cert)
	v.Expect(intermediates...)
	now := v.options.Now()
	result := &Result{Expires: cert.NotAfter}
	if err := v.check(ctx, cert, intermediates, now, result); err != nil {
		result.add(err.Cert, err.Reason, false, err.Detail)
		return result, err
	}
	warnFrom := cert.NotAfter.AddDate(0, 0, -v.options.ExpiryWarningDays)
	result.ExpiresSoon = v.options.ExpiryWarningDays > 0 && !now.Before(warnFrom)
	return result, nil
}

// check makes the decisions in the order in which they are most telling: what is wrong with the certificate itself is
// said before what is wrong with its chain.
func (v *Verifier) check(ctx context.Context, cert *certinfo.Certificate, intermediates []*certinfo.Certificate, now time.Time, result *Result) *Error {
	if err := v.checkAvailable(cert); err != nil {
		return err
	}
	if err := v.checkAlone(cert, now); err != nil {
		return err
	}
	result.add(cert, ReasonUsable, true, "is valid now and may be used for a login")
	result.tolerated(cert)
	if !v.options.Policy.CA {
		result.Chain = []*certinfo.Certificate{cert}
		result.add(cert, ReasonNoChain, true, "no chain is asked for (cert_policy without ca)")
		return nil
	}
	s := newSearch(ctx, v, now, intermediates)
	path, err := s.find(cert)
	result.Decisions = append(result.Decisions, s.decisions...)
	if err != nil {
		return err
	}
	result.Chain, result.Anchored, result.Policies = path.chain(), true, path.policies
	for _, c := range result.Chain[1:] {
		result.tolerated(c)
	}
	return nil
}

// checkAvailable refuses what the policy asks for and this build cannot do: silence would be a promise broken.
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

// tolerated takes down what is odd about a certificate that is used.
func (r *Result) tolerated(cert *certinfo.Certificate) {
	for _, what := range cert.Oddities() {
		r.add(cert, ReasonTolerated, true, what)
	}
}

func (r *Result) add(cert *certinfo.Certificate, reason Reason, ok bool, detail string) {
	r.Decisions = append(r.Decisions, Decision{Cert: cert, Reason: reason, OK: ok, Detail: detail})
}
