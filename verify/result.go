package verify

import (
	"encoding/asn1"
	"time"

	"pam_pkcs11/internal/certinfo"
	"pam_pkcs11/verify/path"
)

// Decision is one step of a check, for explain and the log.
type Decision = path.Decision

// Problem is something wrong with one file of ca_dir that did not stop the rest.
type Problem = path.Problem

// Finding is something to know about a file of ca_dir that is used.
type Finding = path.Finding

// Anchor is a certificate of ca_dir at which chains end.
type Anchor = path.Anchor

// Result says why a certificate is good.
type Result struct {
	Chain       []*certinfo.Certificate // the certificate first, its anchor last; only the certificate when not Anchored
	Anchored    bool                    // the chain ends at a CA of ca_dir
	Alone       bool                    // no authority vouches for it: the result of CheckAlone
	Expired     bool                    // with Alone: it has run out, and that is let pass
	Policies    []asn1.ObjectIdentifier // valid certificate policies of the chain; anyPolicy stands for all
	Decisions   []Decision
	Expires     time.Time // notAfter of the certificate
	ExpiresSoon bool      // within ExpiryWarningDays
}

// tolerated notes what is odd about a certificate that is used.
func (r *Result) tolerated(cert *certinfo.Certificate) {
	// An oddity is reported, never refused: what must be refused has been by now.
	for _, what := range cert.Oddities() {
		r.add(cert, ReasonTolerated, true, what)
	}
}

func (r *Result) add(cert *certinfo.Certificate, reason Reason, ok bool, detail string) {
	r.Decisions = append(r.Decisions, Decision{
		Cert:   cert,
		Reason: reason,
		OK:     ok,
		Detail: detail,
	})
}
