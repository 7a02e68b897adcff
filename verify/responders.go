package verify

import (
	"context"
	"fmt"

	"pam_pkcs11/internal/certinfo"
	"pam_pkcs11/verify/ocsp"
	"pam_pkcs11/verify/path"
)

// What OCSP is told of the configuration, and what `pam-pkcs11 config check` can tell about it
// before anybody logs in.

// OCSPOptions say how responders are asked.
type OCSPOptions = ocsp.Options

// NonceMode says what is done about a nonce, by which an answer is known to be fresh (RFC 8954).
type NonceMode = ocsp.NonceMode

// The values of ocsp_nonce.
const (
	NonceOptional = ocsp.NonceOptional // sent; an answer without is accepted, one with another is not. The default
	NonceRequired = ocsp.NonceRequired // sent; only an answer with it is accepted, and none of the store says "good"
	NonceOff      = ocsp.NonceOff      // not sent: answers that were made ahead will do, and caches on the way
)

// Responder is what became of one question to an OCSP responder.
type Responder = ocsp.Responder

const responderKey = "ocsp_responder_cert"

// newOCSP makes a checker that keeps answers in a directory, "" for none.
func (v *Verifier) newOCSP(dir string) *ocsp.Checker {
	return &ocsp.Checker{
		Options: v.options.OCSP,
		Rules:   v.rules,
		Trusted: v.responders,
		Now:     v.options.Now,
		Logger:  v.options.Logger,
		Store:   ocsp.NewStore(dir),
		Client:  v.client,
	}
}

// readResponderCerts reads the certificates of ocsp_responder_cert. A file or directory without one
// is an error; what else is wrong with a file is one of Problems.
func (v *Verifier) readResponderCerts() error {
	all := path.NewStore()
	all.Key = responderKey
	for _, path := range v.options.OCSP.ResponderCerts {
		certs, problems := len(all.All), len(all.Problems)
		if err := all.Load(path, v.options.StrictPermissions); err != nil {
			return err
		}
		// A file with nothing but certificates that an earlier file had is no fault.
		nothingNew := len(all.All) == certs
		if nothingNew && (certs == 0 || len(all.Problems) > problems) {
			return fmt.Errorf("%s: %s: no certificate in it that can be used%s", responderKey, path, lastProblem(all))
		}
	}

	for _, p := range all.Problems {
		v.options.Logger.Warn(responderKey+": file not used, or only in part", "file", p.Path, "problem", p.Text)
	}
	// The caller sees these problems beside those of ca_dir.
	v.store.Problems = append(v.store.Problems, all.Problems...)
	v.responders = all.All
	return nil
}

func lastProblem(s *path.Store) string {
	if len(s.Problems) == 0 {
		return ""
	}
	return ": " + s.Problems[len(s.Problems)-1].Text
}

// WithoutResponder lists the CA certificates of ca_dir that ocsp_on will ask about and that name no
// responder. It is empty when ocsp_url names one, and leaves out users' certificates, which are not
// known here.
func (v *Verifier) WithoutResponder() []*certinfo.Certificate {
	// A configured responder is asked about every certificate; with crl_scope = leaf no CA is asked
	// about.
	if len(v.options.OCSP.URLs) > 0 || v.options.CRLLeafOnly {
		return nil
	}

	f := v.finder()
	var all []*certinfo.Certificate
	for _, c := range v.store.All {
		if len(c.OCSPServers) == 0 && !f.EndsChains(c) {
			all = append(all, c)
		}
	}

	return all
}

// AskResponders asks each responder that is configured or named by a CA certificate of ca_dir about
// that certificate, all at once. Certificates whose issuer is not in ca_dir are left out; a
// configured responder is then asked about the anchors, of which it need not know anything.
func (v *Verifier) AskResponders(ctx context.Context) []*Responder {
	ctx, cancel := networkContext(ctx)
	defer cancel()
	return v.newOCSP("").Probe(ctx, v.probes(ctx))
}

// probes pairs the certificates of ca_dir with their issuers there.
func (v *Verifier) probes(ctx context.Context) []ocsp.Target {
	below, anchors := v.finder().Issuances(ctx, v.options.Now())
	// No CA below an anchor is there to ask about; the anchors show at least that the responder
	// answers.
	if len(below) == 0 && len(v.options.OCSP.URLs) > 0 {
		below = anchors
	}

	var all []ocsp.Target
	for _, i := range below {
		all = append(all, ocsp.Target{Cert: i.Cert, Issuer: i.Issuer, Key: i.Issuer.PublicKey})
	}
	return all
}
