package certmap

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"sync"

	"pam_pkcs11/internal/certinfo"
	"pam_pkcs11/internal/ldapconn"
	"pam_pkcs11/mapper/internal/directory"
)

// mapRule finds whose a certificate is: an LDAP filter with templates, or, as SSSD has it for users
// of the machine itself, a login or templates that make one, in parentheses.
type mapRule struct {
	pieces []piece
	local  bool
	fixed  bool   // local, and without templates
	fetch  string // attribute in which the certificate itself must have been found; "" is none
}

// maxMapRule bounds a rule, in octets.
const maxMapRule = 16 << 10

// octetClause is the beginning of a clause whose value follows.
var octetClause = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`\(([A-Za-z0-9][A-Za-z0-9.;-]*)=$`) })

// parseMap reads a mapping rule.
func parseMap(text string) (*mapRule, error) {
	if len(text) > maxMapRule {
		return nil, fmt.Errorf("longer than %d octets", maxMapRule)
	}
	typ, rest := ruleType(text)
	if typ != "" && typ != "LDAP" && typ != "LDAPU1" {
		return nil, fmt.Errorf("type %s is not known, expected LDAP or LDAPU1", typ)
	}

	rest = strings.TrimSpace(rest)
	if !strings.HasPrefix(rest, "(") || !strings.HasSuffix(rest, ")") {
		return nil, errors.New("the rule stands in parentheses, as (uid={subject_rfc822_name.short_name}) or (alice)")
	}

	pieces, err := parsePieces(rest, typ == "LDAPU1")
	if err != nil {
		return nil, err
	}

	r := &mapRule{pieces: pieces}
	if isLocal(pieces) {
		return r, r.trimLocal()
	}
	return r, r.checkFilter()
}

// isLocal reports whether a rule is a login and no filter: there is no comparison in it.
func isLocal(pieces []piece) bool {
	for _, p := range pieces {
		if strings.Contains(p.text, "=") {
			return false
		}
	}
	return true
}

// trimLocal takes the parentheses off a local rule, and refuses one that is no login.
func (r *mapRule) trimLocal() error {
	r.local = true
	r.fixed = len(r.pieces) == 1

	first := &r.pieces[0]
	last := &r.pieces[len(r.pieces)-1]
	first.text = strings.TrimPrefix(first.text, "(")
	last.text = strings.TrimSuffix(last.text, ")")

	for _, p := range r.pieces {
		// Such characters are those of a filter whose comparison is missing.
		if strings.ContainsAny(p.text, "()*\\") {
			return errors.New("is neither a filter nor a login in parentheses")
		}
		if p.template != nil && p.template.isCert {
			return errors.New("a certificate is no login")
		}
	}

	// With templates the login is known only with a certificate: it is checked then.
	if r.fixed && !directory.IsLogin(first.text) {
		return fmt.Errorf("%q is no login", first.text)
	}
	return nil
}

// checkFilter checks that the rule is a filter whatever the templates give, and that they stand for
// values.
func (r *mapRule) checkFilter() error {
	var b strings.Builder
	for i, p := range r.pieces {
		b.WriteString(p.text)
		if p.template == nil {
			continue
		}

		// A template stands between two pieces of text: parsePieces puts them there.
		b.WriteString(directory.Placeholder)
		m := octetClause().FindStringSubmatch(r.pieces[i-1].text)
		if p.template.isCert && m != nil && strings.HasPrefix(r.pieces[i+1].text, ")") {
			r.fetch = m[1]
		}
	}

	parsed, err := ldapconn.ParseFilter(b.String())
	if err != nil {
		return err
	}

	// With alternatives the entry may have been found by another clause than that for the
	// certificate: comparing what it holds would refuse it.
	if strings.ContainsAny(parsed.Shape(), "|!") {
		r.fetch = ""
	}
	return placeholdersAreValues(parsed)
}

// placeholdersAreValues returns an error where a template stands for the name of an attribute.
func placeholdersAreValues(f *ldapconn.Filter) error {
	if strings.Contains(f.Attribute, directory.Placeholder) {
		return errors.New("a template stands for a value, not for an attribute")
	}
	for _, c := range f.Children {
		if err := placeholdersAreValues(c); err != nil {
			return err
		}
	}
	return nil
}

// filter fills the templates in, each escaped; ok is false where the certificate lacks one. A
// clause that compares with the whole certificate becomes one that OpenLDAP understands too.
func (r *mapRule) filter(cert *certinfo.Certificate) (string, bool) { return r.filterBy(cert, "auto") }

// filterBy is filter with the way to look for a whole certificate, as for
// directory.CertificateFilter.
func (r *mapRule) filterBy(cert *certinfo.Certificate, how string) (string, bool) {
	var b strings.Builder
	cut := false // the ")" after a clause that was written whole
	for i, p := range r.pieces {
		if p.template == nil {
			text := p.text
			if cut {
				text = strings.TrimPrefix(text, ")")
			}
			cut = false

			// The clause is written whole with its template: its beginning goes, as does its end.
			if i+1 < len(r.pieces) && r.wholeClause(i+1) {
				text = text[:strings.LastIndexByte(text, '(')]
			}
			b.WriteString(text)
			continue
		}

		// How servers find a whole certificate differs: CertificateFilter knows it.
		if r.wholeClause(i) {
			attribute := octetClause().FindStringSubmatch(r.pieces[i-1].text)[1]
			b.WriteString(directory.CertificateFilter(attribute, cert, how))
			cut = true
			continue
		}

		value, ok := p.template.values(cert)
		if !ok {
			return "", false
		}
		b.WriteString(ldapconn.EscapeFilter(value))
	}
	return b.String(), true
}

// wholeClause reports whether the i-th piece is a certificate and all of a clause's value.
func (r *mapRule) wholeClause(i int) bool {
	p := r.pieces[i]
	if p.template == nil || !p.template.isCert {
		return false
	}
	return octetClause().MatchString(r.pieces[i-1].text) && strings.HasPrefix(r.pieces[i+1].text, ")")
}

// login fills the templates of a local rule in; ok is false where the certificate lacks one, or the
// result is no login.
func (r *mapRule) login(cert *certinfo.Certificate) (string, bool) {
	var b strings.Builder
	for _, p := range r.pieces {
		if p.template == nil {
			b.WriteString(p.text)
			continue
		}

		value, ok := p.template.values(cert)
		if !ok {
			return "", false
		}
		// Not escaped: the value is part of a login and of no filter.
		b.Write(value)
	}
	return b.String(), directory.IsLogin(b.String())
}
