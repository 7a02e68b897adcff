package mapper

import (
	"context"
	"errors"
	"log/slog"
	"slices"

	"pam_pkcs11/config/mappers"
	"pam_pkcs11/internal/certinfo"
)

// ldapMapper looks for the user's entry in a directory, by what the certificate says or by the
// certificate itself. One login is one connection, one bind, and one flight of searches.
type ldapMapper struct {
	directory *directory
	logins    *loginReader
	elements  []element
	attribute string // that holds the certificate
	how       string // certificate_match
	windows   bool   // active_directory
	weak      bool   // allow_weak_mapping
	cache     *answerCache
	log       *slog.Logger
}

func newLDAP(name string, s mappers.LDAP, o Options) (mapper, error) {
	d, err := newDirectory(name, s.Directory, o)
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
		m.elements = append(m.elements, element{text: e.Text, clauses: e.Conditions})
		list = append(list, e.Text)
	}
	if m.logins, err = newLoginReader(s.Directory, o); err != nil {
		return nil, err
	}
	m.cache = newAnswerCache(name, s.CacheHours, o, d.uris, d.srvDomain, d.bases, d.scope, s.Filter, list, m.attribute, m.how, m.weak, m.logins.uidAttribute)
	return m, nil
}

// newLoginReader sets up how entries and logins belong together.
func newLoginReader(s mappers.Directory, o Options) (*loginReader, error) {
	f, err := newUserFilter(s.Filter, s.IgnoreCase)
	if err != nil {
		return nil, &mappers.Fault{Key: "filter", Err: err}
	}
	r := &loginReader{filter: f, uidAttribute: s.UIDAttribute, accounts: o.Accounts}
	switch {
	case r.uidAttribute != "":
		return r, nil
	case f.constant:
		err = errors.New("filter has no %s for the login, and uid_attribute does not say where the login stands")
	case f.several:
		err = errors.New("filter compares %s in more than one way, and uid_attribute does not say where the login stands")
	case f.attribute == "":
		err = errors.New("filter does not plainly compare an attribute with %s, and uid_attribute does not say where the login stands")
	}
	if err != nil {
		return nil, &mappers.Fault{Key: "filter", Err: err}
	}
	return r, nil
}

func (m *ldapMapper) binds() bool { return false }

// inquiry is one search and what its hits are worth.
type inquiry struct {
	name    string // for the log and the result
	filter  string // beside the user's; "" fetches all users
	fetch   string // attribute to compare with the certificate
	octets  bool   // the server compares the whole certificate, or nothing
	must    bool   // the comparison decides; else it only refuses
	weak    bool   // a hit needs the SID's word
	entries int    // most entries that are taken; 0 is 2
}

// compareAll is how many entries with certificates are fetched and compared, and their octets.
const (
	compareAll       = 20000
	compareAllOctets = 64 << 20
)

func (m *ldapMapper) find(ctx context.Context, cert *certinfo.Certificate) ([]answer, error) {
	a, err := m.decide(ctx, cert, nil)
	if err != nil || a == nil {
		return nil, err
	}
	return []answer{*a}, nil
}

func (m *ldapMapper) match(ctx context.Context, cert *certinfo.Certificate, user *person) (answer, bool, error) {
	a, err := m.decide(ctx, cert, user)
	if err != nil || a == nil {
		return answer{}, false, err
	}
	return *a, true, nil
}

func (m *ldapMapper) connect(ctx context.Context) { m.directory.connect(ctx) }

// Ahead reports whether a connection was begun that no question has taken yet.
func (m *ldapMapper) Ahead() bool { return m.directory.ahead.Load() != nil }

func (m *ldapMapper) expects(cert *certinfo.Certificate, user string) bool {
	if m.how != "off" {
		return true // there is always the question for the certificate
	}
	if cert == nil {
		return false
	}
	questions, err := m.questions(cert, user != "")
	return err == nil && len(questions) > 0
}

// decide asks for the entry of a person, or with nil for that of anybody, and remembers the answer.
func (m *ldapMapper) decide(ctx context.Context, cert *certinfo.Certificate, user *person) (*answer, error) {
	questions, err := m.questions(cert, user != nil)
	if err != nil {
		return nil, err
	}
	if len(questions) == 0 {
		return nil, errNothing
	}
	ctx, cancel := m.cache.shorten(ctx)
	defer cancel()
	a, err := m.hits().first(ctx, m.directory, questions, cert, user)
	if err == nil && a == nil && user == nil && m.how == "auto" && !exactWorks(cert) {
		a, err = m.hits().first(ctx, m.directory, []inquiry{m.compareEverybody()}, cert, user)
	}
	return m.cache.settle(cert, user, a, err, m.log)
}

func (m *ldapMapper) hits() *hits {
	return &hits{logins: m.logins, weak: m.weak, log: m.log, weakly: m.weakQuestions, uses: m.uses}
}

// issuerUse: values of attribute_map may hold the issuer's name; a search for the certificate goes by it on OpenLDAP.
func (m *ldapMapper) issuerUse(*certinfo.Certificate) issuerUse {
	if slices.ContainsFunc(m.elements, func(e element) bool { return e.uses("issuer") || e.uses("altsecid") }) {
		return restsOnIssuer
	}
	return comparesIssuer
}

// uses are the attributes that the block's own keys name.
func (m *ldapMapper) uses() []string {
	var names []string
	for _, e := range m.elements {
		for _, c := range e.clauses {
			names = append(names, c.Attribute)
		}
	}
	if m.how != "off" {
		names = append(names, m.attribute)
	}
	return names
}

// weakQuestions are those by which the certificate would be known with allow_weak_mapping alone.
func (m *ldapMapper) weakQuestions(cert *certinfo.Certificate) []inquiry {
	var list []inquiry
	for _, e := range m.elements {
		if m.weak || !e.uses("altsecid") && !(m.windows && e.uses("upn")) {
			continue
		}
		if filter, err := e.filter(cert, true); err == nil && filter != "" {
			list = append(list, inquiry{name: e.text, filter: filter})
		}
	}
	return list
}

// questions are those of attribute_map in its order, then that for the certificate. named tells that they are about one
// person.
func (m *ldapMapper) questions(cert *certinfo.Certificate, named bool) ([]inquiry, error) {
	var list []inquiry
	for _, e := range m.elements {
		weak := m.windows && e.uses("upn")
		if weak && !m.weak && len(cert.SIDs()) == 0 {
			continue // nothing could confirm it
		}
		filter, err := e.filter(cert, m.weak)
		if err != nil {
			return nil, err
		}
		if filter == "" {
			continue
		}
		q := inquiry{name: e.text, filter: filter, weak: weak}
		for _, c := range e.clauses {
			if c.Item == "cert" {
				q.fetch = c.Attribute
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
		list = append(list, inquiry{name: name, filter: certificateFilter(m.attribute, cert, m.how), fetch: m.attribute, octets: m.how == "filter"})
	}
	switch {
	case m.how == "compare" && (!named || m.logins.filter.constant):
		list = append(list, m.compareEverybody())
	case (m.how == "compare" || m.how == "auto") && named && !m.logins.filter.constant:
		list = append(list, inquiry{name: name, fetch: m.attribute, must: true})
	}
	return list, nil
}

// compareEverybody fetches every certificate there is, where the server cannot look for one.
func (m *ldapMapper) compareEverybody() inquiry {
	return inquiry{name: "certificate in " + m.attribute, filter: "(" + m.attribute + "=*)", fetch: m.attribute, must: true, entries: compareAll}
}
