package verify

import (
	"time"

	"pam_pkcs11/internal/certinfo"
	"pam_pkcs11/verify/internal/refusal"
)

// Anchor is a certificate of ca_dir at which chains end.
type Anchor struct {
	Cert      *certinfo.Certificate
	Path      string // file
	Authority bool   // it may issue others; else it is trusted as itself only
	Problem   error  // why no chain that ends there is good now: dates, key, an extension; nil for none
}

// Anchors lists the certificates of ca_dir at which chains end, in the order of reading.
func (v *Verifier) Anchors() []Anchor {
	now := v.options.Now()
	var all []Anchor
	for _, c := range v.store.all {
		if !v.anchors(c) {
			continue
		}
		a := Anchor{
			Cert:      c,
			Path:      v.store.origin[c],
			Authority: v.isAuthority(c),
		}
		path := &validation{s: &search{v: v, now: now}}
		if err := path.start(c, false); err != nil {
			a.Problem = err
		}
		all = append(all, a)
	}
	return all
}

// DateFindings names the certificates of ca_dir that are not valid now, and those that will not be after the given
// time.
func (v *Verifier) DateFindings(within time.Duration) []Finding {
	now := v.options.Now()
	var all []Finding
	for _, c := range v.store.all {
		text := ""
		if err := v.rules.CheckDates(c, now); err != nil {
			text = " is " + err.Detail
		} else if v.rules.CheckDates(c, now.Add(within)) != nil {
			text = " is soon over: it is not valid after " + refusal.Stamp(c.NotAfter)
		}
		if text != "" {
			all = append(all, Finding{Path: v.store.origin[c], Text: refusal.Describe(c) + text})
		}
	}
	return all
}
