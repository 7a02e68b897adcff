package mapper

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"

	"pam_pkcs11/config"
	"pam_pkcs11/internal/certinfo"
	"pam_pkcs11/internal/ldapconn"
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

func newLDAP(b config.Mapper, o Options) (mapper, error) {
	d, err := newDirectory(b, o)
	if err != nil {
		return nil, err
	}
	v := b.Values
	m := &ldapMapper{
		directory: d, attribute: v.String("attribute"), how: v.String("certificate_match"), windows: v.Bool("active_directory"),
		weak: v.Bool("allow_weak_mapping"), log: o.Logger,
	}
	if !config.IsAttribute(m.attribute) {
		return nil, b.Fault("attribute", fmt.Errorf("attribute = %q is no attribute", m.attribute))
	}
	filter, list := v.String("filter"), v.List("attribute_map")
	if m.windows {
		if !v.Set("filter") {
			filter = "(&(objectCategory=person)(objectClass=user)(sAMAccountName=%s))"
		}
		if !v.Set("scope") {
			d.scope = ldapconn.ScopeSub
		}
		if len(list) == 0 {
			list = []string{"altSecurityIdentities=altsecid", "objectSid=sid", "userPrincipalName=upn"}
		}
	}
	for _, text := range list {
		e, err := parseElement(text)
		if err != nil {
			return nil, b.Fault("attribute_map", err)
		}
		m.elements = append(m.elements, e)
	}
	if len(m.elements) == 0 && m.how == "off" {
		return nil, b.Fault("certificate_match", errors.New("certificate_match = off without attribute_map leaves nothing to search for"))
	}
	if m.logins, err = newLoginReader(filter, b, o); err != nil {
		return nil, err
	}
	m.cache = newAnswerCache(b, o, d.uris, d.srvDomain, d.bases, d.scope, filter, list, m.attribute, m.how, m.weak, m.logins.uidAttribute)
	return m, nil
}

// newLoginReader sets up how entries and logins belong together.
func newLoginReader(filter string, b config.Mapper, o Options) (*loginReader, error) {
	f, err := newUserFilter(filter, b.Values.Bool("ignorecase"))
	if err != nil {
		return nil, b.Fault("filter", err)
	}
	r := &loginReader{filter: f, uidAttribute: b.Values.String("uid_attribute"), accounts: o.Accounts}
	switch {
	case r.uidAttribute != "" && !config.IsAttribute(r.uidAttribute):
		return nil, b.Fault("uid_attribute", fmt.Errorf("uid_attribute = %q is no attribute", r.uidAttribute))
	case r.uidAttribute == "" && f.constant:
		return nil, b.Fault("filter", errors.New("filter has no %s for the login, and uid_attribute does not say where the login stands"))
	case r.uidAttribute == "" && f.several:
		return nil, b.Fault("filter", errors.New("filter compares %s in more than one way, and uid_attribute does not say where the login stands"))
	case r.uidAttribute == "" && f.attribute == "":
		return nil, b.Fault("filter", errors.New("filter does not plainly compare an attribute with %s, and uid_attribute does not say where the login stands"))
	}
	return r, nil
}

func (m *ldapMapper) binds() bool { return false }

// inquiry is one search and what its hits are worth.
type inquiry struct {
	name    string // for the log and the result
	filter  string // beside the user's; "" fetches all users
	fetch   string // attribute to compare with the certificate
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
	a, err := m.decide(ctx, cert, "")
	if err != nil || a == nil {
		return nil, err
	}
	return []answer{*a}, nil
}

func (m *ldapMapper) match(ctx context.Context, cert *certinfo.Certificate, user string) (answer, bool, error) {
	a, err := m.decide(ctx, cert, user)
	if err != nil || a == nil {
		return answer{}, false, err
	}
	return *a, true, nil
}

func (m *ldapMapper) connect(ctx context.Context) { m.directory.connect(ctx) }

func (m *ldapMapper) expects(cert *certinfo.Certificate, user string) bool {
	if m.how != "off" {
		return true // there is always the question for the certificate
	}
	if cert == nil {
		return false
	}
	questions, err := m.questions(cert, user)
	return err == nil && len(questions) > 0
}

// decide asks for the entry of a user, or with user "" for that of anybody, and remembers the answer.
func (m *ldapMapper) decide(ctx context.Context, cert *certinfo.Certificate, user string) (*answer, error) {
	questions, err := m.questions(cert, user)
	if err != nil {
		return nil, err
	}
	if len(questions) == 0 {
		return nil, errNothing
	}
	ctx, cancel := m.cache.shorten(ctx)
	defer cancel()
	a, err := m.hits().first(ctx, m.directory, questions, cert, user)
	if err == nil && a == nil && user == "" && m.how == "auto" && !exactWorks(cert) {
		a, err = m.hits().first(ctx, m.directory, []inquiry{m.compareEverybody()}, cert, user)
	}
	return m.cache.settle(cert, user, a, err, m.log)
}

func (m *ldapMapper) hits() *hits { return &hits{logins: m.logins, weak: m.weak, log: m.log} }

// questions are those of attribute_map in its order, then that for the certificate.
func (m *ldapMapper) questions(cert *certinfo.Certificate, user string) ([]inquiry, error) {
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
		list = append(list, inquiry{name: name, filter: certificateFilter(m.attribute, cert, m.how), fetch: m.attribute})
	}
	switch {
	case m.how == "compare" && (user == "" || m.logins.filter.constant):
		list = append(list, m.compareEverybody())
	case (m.how == "compare" || m.how == "auto") && user != "" && !m.logins.filter.constant:
		list = append(list, inquiry{name: name, fetch: m.attribute, must: true})
	}
	return list, nil
}

// compareEverybody fetches every certificate there is, where the server cannot look for one.
func (m *ldapMapper) compareEverybody() inquiry {
	return inquiry{name: "certificate in " + m.attribute, filter: "(" + m.attribute + "=*)", fetch: m.attribute, must: true, entries: compareAll}
}

// hits judges what searches found.
type hits struct {
	logins *loginReader
	weak   bool
	log    *slog.Logger
}

// first returns the answer of the first question that has one. More than one entry is nobody's proof.
func (h *hits) first(ctx context.Context, d *directory, questions []inquiry, cert *certinfo.Certificate, user string) (*answer, error) {
	queries, octets := make([]ldapconn.Query, len(questions)), int64(maxAnswerOctets)
	for i, q := range questions {
		queries[i] = h.query(d, q, user)
		if q.entries > 0 {
			octets = compareAllOctets
			queries[i].Keep = func(e ldapconn.Entry) bool { return h.holds(q, e, cert) }
		}
		h.log.Debug("directory is asked", "for", q.name, "base", d.where(), "filter", fmt.Sprintf("%.300s", queries[i].Filter))
		tellRead(ctx, q.name)
		tellAsked(ctx, fmt.Sprintf("%s below %s: %.300s", d, d.where(), queries[i].Filter))
	}
	var found *answer
	var refused error
	err := d.search(ctx, queries, octets, func(i int, a ldapconn.Answer) bool {
		for _, e := range a.Entries[:min(len(a.Entries), 4)] {
			tellHeard(ctx, "entry "+e.DN)
		}
		if a.Err != nil {
			refused = fmt.Errorf("%w: %s: %w", errAmbiguous, questions[i].name, a.Err)
		} else {
			found, refused = h.judge(questions[i], a.Entries, cert, user)
		}
		return found == nil && refused == nil
	})
	if err != nil {
		return nil, err
	}
	return found, refused
}

func (h *hits) query(d *directory, q inquiry, user string) ldapconn.Query {
	filter := h.logins.filter.of(user)
	if user == "" {
		filter = h.logins.filter.ofAll()
	}
	if q.filter != "" {
		filter = "(&" + filter + q.filter + ")"
	}
	attributes := append(h.logins.attributes(), "objectSid")
	if q.fetch != "" {
		attributes = append(attributes, plainAttribute(q.fetch))
		if strings.Contains(q.fetch, ";") {
			attributes = append(attributes, q.fetch)
		}
	}
	limit := q.entries
	if limit == 0 {
		limit = 2
	}
	return ldapconn.Query{Scope: d.scope, Filter: filter, Attributes: attributes, MaxEntries: limit}
}

// judge returns the answer that entries give to a question, nil for none.
func (h *hits) judge(q inquiry, entries []ldapconn.Entry, cert *certinfo.Certificate, user string) (*answer, error) {
	var good []ldapconn.Entry
	for _, e := range entries {
		err := h.contradicts(e, cert)
		switch {
		case user != "" && !h.logins.fits(e, user):
			h.log.Warn("the directory's entry is of another login", "dn", e.DN, "user", user)
		case !h.holds(q, e, cert):
		case err != nil:
			return nil, fmt.Errorf("%s: %w", e.DN, err)
		case q.weak && !h.weak && !confirms(e, cert):
			h.log.Info("found by a name alone, which is weak (allow_weak_mapping = true)", "dn", e.DN, "by", q.name)
		default:
			good = append(good, e)
		}
	}
	if len(good) == 0 {
		return nil, nil
	}
	if len(good) > 1 {
		return nil, fmt.Errorf("%w: %s and %s (%s)", errAmbiguous, good[0].DN, good[1].DN, q.name)
	}
	login := user
	if user == "" {
		var err error
		if login, err = h.logins.of(good[0]); err != nil {
			return nil, err
		}
	}
	return &answer{login, q.name + " of " + good[0].DN, OriginDirectory}, nil
}

// holds compares the certificates of an entry that was found by one. Where they cannot be read, the
// server's word that it found this one has to do, unless the comparison is all there is.
func (h *hits) holds(q inquiry, e ldapconn.Entry, cert *certinfo.Certificate) bool {
	if q.fetch == "" {
		return true
	}
	values := e.Get(plainAttribute(q.fetch))
	if len(values) == 0 {
		values = e.Get(q.fetch)
	}
	if slices.ContainsFunc(values, func(v []byte) bool { return bytes.Equal(v, cert.Raw) }) {
		return true
	}
	if !q.must && len(values) > 0 {
		h.log.Warn("the directory found an entry that holds another certificate", "dn", e.DN)
	}
	return !q.must && len(values) == 0
}

// contradicts tells why an entry with a security identifier cannot be the holder's.
func (h *hits) contradicts(e ldapconn.Entry, cert *certinfo.Certificate) error {
	values := e.Get("objectSid")
	if len(values) == 0 {
		return nil
	}
	holder, err := certificateSID(cert)
	if err != nil || holder == nil {
		return err
	}
	for _, v := range values {
		if holder.is(v) {
			return nil
		}
	}
	return fmt.Errorf("the certificate is of %s, which is another account", holder.text)
}

// confirms tells that the certificate names the very account by its security identifier.
func confirms(e ldapconn.Entry, cert *certinfo.Certificate) bool {
	holder, err := certificateSID(cert)
	return err == nil && holder != nil && slices.ContainsFunc(e.Get("objectSid"), holder.is)
}
