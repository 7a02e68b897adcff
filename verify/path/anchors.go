package path

import (
	"time"

	"pam_pkcs11/internal/certinfo"
	"pam_pkcs11/verify/internal/refusal"
	"pam_pkcs11/verify/internal/rules"
)

// Anchor is a certificate of ca_dir at which chains end.
type Anchor struct {
	Cert      *certinfo.Certificate
	Path      string // file
	Authority bool   // it may issue others; else it is trusted as itself only
	Problem   error  // why no chain that ends there is good now: dates, key, an extension; nil for none
}

// Anchors lists the certificates of ca_dir at which chains end, in the order of reading.
func (f *Finder) Anchors(now time.Time) []Anchor {
	var all []Anchor
	for _, c := range f.Store.All {
		if !f.EndsChains(c) {
			continue
		}

		a := Anchor{
			Cert:      c,
			Path:      f.Store.origin[c],
			Authority: f.isAuthority(c),
		}
		// No path is walked: issues is false, so that only what holds for the anchor by itself
		// counts.
		path := &validation{s: &Search{f: f, Now: now}}
		if err := path.start(c, false); err != nil {
			a.Problem = err
		}

		all = append(all, a)
	}
	return all
}

// DateFindings names the certificates of ca_dir that are not valid now, and those that will not be
// after the given time.
func (f *Finder) DateFindings(now time.Time, within time.Duration) []Finding {
	var all []Finding
	for _, c := range f.Store.All {
		text := ""
		if err := f.Rules.CheckDates(c, now); err != nil {
			text = " is " + err.Detail
		} else if f.Rules.CheckDates(c, now.Add(within)) != nil {
			text = " is soon over: it is not valid after " + refusal.Stamp(c.NotAfter)
		}

		if text != "" {
			all = append(all, Finding{Path: f.Store.origin[c], Text: refusal.Describe(c) + text})
		}
	}
	return all
}

// EndsChains reports whether a certificate of ca_dir ends chains, so that its own status is not
// asked for.
func (f *Finder) EndsChains(c *certinfo.Certificate) bool {
	return selfSigned(c) || f.PartialChain && rules.IsCA(c)
}
