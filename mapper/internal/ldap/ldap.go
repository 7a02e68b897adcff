// Package ldap is the mapper that searches a directory for the certificate, or for what it says.
package ldap

import (
	"context"
	"log/slog"
	"slices"

	"pam_pkcs11/config/mappers"
	"pam_pkcs11/internal/certinfo"
	"pam_pkcs11/mapper/internal/directory"
	"pam_pkcs11/mapper/internal/mapping"
)

// ldapMapper looks for the user's entry in a directory, by what the certificate says or by the
// certificate itself. One login is one connection, one bind, and one round of searches.
type ldapMapper struct {
	directory *directory.Directory
	logins    *directory.LoginReader
	elements  []Element
	attribute string // that holds the certificate
	how       string // certificate_match
	windows   bool   // active_directory
	weak      bool   // allow_weak_mapping
	cache     *directory.Cache
	log       *slog.Logger
}

// The chain finds these interfaces by type assertions.
var (
	_ mapping.Prefetcher   = (*ldapMapper)(nil)
	_ mapping.IssuerReader = (*ldapMapper)(nil)
)

// New sets up the mapper of the block with this name.
func New(name string, s mappers.LDAP, o mapping.Options) (mapping.Mapper, error) {
	d, err := directory.New(name, s.Directory, o)
	if err != nil {
		return nil, err
	}

	m := &ldapMapper{
		directory: d,
		attribute: s.Attribute,
		how:       s.CertificateMatch,
		windows:   s.Windows,
		weak:      s.AllowWeak,
		log:       o.Logger,
	}

	var list []string
	for _, e := range s.AttributeMap {
		m.elements = append(m.elements, Element{text: e.Text, Clauses: e.Conditions})
		list = append(list, e.Text)
	}

	if m.logins, err = directory.NewLoginReader(s.Directory, o); err != nil {
		return nil, err
	}

	// The name of a record is made of all that decides an answer: another configuration finds none.
	m.cache = directory.NewCache(name, s.CacheHours, o,
		d.URIs, d.SRVDomain, d.Bases, d.Scope, s.Filter,
		list, m.attribute, m.how, m.weak, m.logins.UIDAttribute)
	return m, nil
}

// Binds implements mapping.Mapper.
func (m *ldapMapper) Binds() bool { return false }

// Find implements mapping.Mapper.
func (m *ldapMapper) Find(ctx context.Context, cert *certinfo.Certificate) ([]mapping.Answer, error) {
	a, err := m.decide(ctx, cert, nil)
	if err != nil || a == nil {
		return nil, err
	}
	return []mapping.Answer{*a}, nil
}

// Match implements mapping.Mapper.
func (m *ldapMapper) Match(ctx context.Context, cert *certinfo.Certificate, user *mapping.Person) (mapping.Answer, bool, error) {
	a, err := m.decide(ctx, cert, user)
	if err != nil || a == nil {
		return mapping.Answer{}, false, err
	}
	return *a, true, nil
}

// Connect implements mapping.Prefetcher.
func (m *ldapMapper) Connect(ctx context.Context) { m.directory.Connect(ctx) }

// Ahead reports whether a connection was begun that no question has taken yet.
func (m *ldapMapper) Ahead() bool { return m.directory.Pending() }

// Expects implements mapping.Prefetcher.
func (m *ldapMapper) Expects(cert *certinfo.Certificate, user string) bool {
	if m.how != "off" {
		return true // there is always the question for the certificate
	}
	if cert == nil {
		return false
	}
	questions, err := m.questions(cert, user != "")
	return err == nil && len(questions) > 0
}

// decide asks for the entry of a person, or of anybody where user is nil, and keeps the answer.
func (m *ldapMapper) decide(ctx context.Context, cert *certinfo.Certificate, user *mapping.Person) (*mapping.Answer, error) {
	questions, err := m.questions(cert, user != nil)
	if err != nil {
		return nil, err
	}
	if len(questions) == 0 {
		return nil, mapping.ErrNothing
	}

	ctx, cancel := m.cache.Shorten(ctx)
	defer cancel()
	a, err := m.hits().First(ctx, m.directory, questions, cert, user)

	// OpenLDAP cannot look for some certificates. Without a person there is no entry to compare
	// with: all of them are fetched, and only after the cheaper search found nobody.
	foundNobody := err == nil && a == nil
	mayFetchAll := user == nil && m.how == "auto"
	if foundNobody && mayFetchAll && !directory.ExactWorks(cert) {
		a, err = m.hits().First(ctx, m.directory, []directory.Inquiry{m.compareEverybody()}, cert, user)
	}
	return m.cache.Settle(cert, user, a, err, m.log)
}

// hits returns what is the same for all questions.
func (m *ldapMapper) hits() *directory.Hits {
	return &directory.Hits{
		Logins:        m.logins,
		Weak:          m.weak,
		Log:           m.log,
		WeakInquiries: m.weakQuestions,
		Uses:          m.uses,
	}
}

// IssuerUse implements mapping.IssuerReader. Values of attribute_map may hold the issuer's name; a
// search for the certificate goes by it on OpenLDAP.
func (m *ldapMapper) IssuerUse(*certinfo.Certificate) mapping.IssuerUse {
	hasIssuer := func(e Element) bool { return e.uses("issuer") || e.uses("altsecid") }
	if slices.ContainsFunc(m.elements, hasIssuer) {
		return mapping.RestsOnIssuer
	}
	return mapping.ComparesIssuer
}

// uses returns the attributes that the block's own keys name.
func (m *ldapMapper) uses() []string {
	var names []string
	for _, e := range m.elements {
		for _, c := range e.Clauses {
			names = append(names, c.Attribute)
		}
	}
	if m.how != "off" {
		names = append(names, m.attribute)
	}
	return names
}

// weakQuestions returns the questions by which the certificate would be found with
// allow_weak_mapping alone.
func (m *ldapMapper) weakQuestions(cert *certinfo.Certificate) []directory.Inquiry {
	var list []directory.Inquiry
	for _, e := range m.elements {
		// Other items do not depend on allow_weak_mapping.
		canBeWeak := e.uses("altsecid") || m.windows && e.uses("upn")
		if m.weak || !canBeWeak {
			continue
		}
		if filter, err := e.Filter(cert, true); err == nil && filter != "" {
			list = append(list, directory.Inquiry{Name: e.text, Filter: filter})
		}
	}
	return list
}

// questions returns those of attribute_map in its order, then that for the certificate. named is
// true where they are about one person.
func (m *ldapMapper) questions(cert *certinfo.Certificate, named bool) ([]directory.Inquiry, error) {
	var list []directory.Inquiry
	for _, e := range m.elements {
		weak := m.windows && e.uses("upn")
		if weak && !m.weak && len(cert.SIDs()) == 0 {
			continue // without a security identifier nothing could confirm it
		}

		filter, err := e.Filter(cert, m.weak)
		if err != nil {
			return nil, err
		}
		if filter == "" {
			continue
		}

		q := directory.Inquiry{Name: e.text, Filter: filter, Weak: weak}
		// What was found by the certificate is compared with it once more.
		for _, c := range e.Clauses {
			if c.Item == "cert" {
				q.Fetch = c.Attribute
			}
		}
		list = append(list, q)
	}

	name := "certificate in " + m.attribute
	switch m.how {
	case "off":
		return list, nil
	case "compare":
	default:
		list = append(list, directory.Inquiry{
			Name:   name,
			Filter: directory.CertificateFilter(m.attribute, cert, m.how),
			Fetch:  m.attribute,
			Octets: m.how == "filter",
		})
	}

	// For one person his entry is fetched, and the certificates in it are compared here: that works
	// whatever the server can compare.
	switch {
	case m.how == "compare" && (!named || m.logins.Filter.Constant):
		list = append(list, m.compareEverybody())
	case (m.how == "compare" || m.how == "auto") && named && !m.logins.Filter.Constant:
		list = append(list, directory.Inquiry{Name: name, Fetch: m.attribute, Must: true})
	}
	return list, nil
}

// compareEverybody fetches every certificate there is, where the server cannot look for one.
func (m *ldapMapper) compareEverybody() directory.Inquiry {
	return directory.Inquiry{
		Name:    "certificate in " + m.attribute,
		Filter:  "(" + m.attribute + "=*)",
		Fetch:   m.attribute,
		Must:    true,
		Entries: directory.CompareAll,
	}
}
