package directory

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"

	"pam_pkcs11/config/mappers"
	"pam_pkcs11/internal/certinfo"
	"pam_pkcs11/internal/ldapconn"
	"pam_pkcs11/mapper/internal/activedirectory"
	"pam_pkcs11/mapper/internal/mapping"
)

// Inquiry is one search and how much its hits prove.
type Inquiry struct {
	Name    string // for the log and the result
	Filter  string // beside the user's; "" fetches all users
	Fetch   string // attribute to compare with the certificate
	Octets  bool   // the server compares the whole certificate, or nothing
	Must    bool   // the fetched certificate decides; else it only refuses
	Weak    bool   // a hit counts only where the security identifier is the certificate's
	Entries int    // the most entries that are read; 0 means 2
}

// Limits of fetching all entries with certificates, to compare them here: entries, and octets.
const (
	CompareAll       = 20000
	compareAllOctets = 64 << 20
)

// Hits decides what the entries that searches found prove.
type Hits struct {
	Logins *LoginReader
	Weak   bool
	Log    *slog.Logger

	// WeakInquiries returns questions whose hits only explain a no. It may be nil.
	WeakInquiries func(*certinfo.Certificate) []Inquiry

	// Uses returns the attributes of the block's questions. It may be nil.
	Uses func() []string
}

// search is one use of Hits: the questions about a certificate, and what has come of them.
type search struct {
	*Hits
	ctx       context.Context // carries the record (mapping.Record)
	directory *Directory
	questions []Inquiry
	cert      *certinfo.Certificate
	user      *mapping.Person // nil is anybody
	bound     bool            // the issuer's name stands for its key

	found      *mapping.Answer
	refused    error
	pending    *candidate // found, and to be confirmed
	unreadable error      // why an entry does not count; the error where nothing else is found
	schema     string     // name of the entry with the server's schema
	unknown    []string   // attributes that are not in it
}

// candidate is an entry whose login the certificate may have.
type candidate struct {
	entry  ldapconn.Entry
	login  string
	inName bool
	by     string // question
	err    error  // why the entry has no login
}

// First returns the answer of the first question that has one. More than one entry is no proof: the
// error is ErrAmbiguous.
func (h *Hits) First(
	ctx context.Context, d *Directory, questions []Inquiry, cert *certinfo.Certificate, user *mapping.Person,
) (*mapping.Answer, error) {
	t := &search{
		Hits:      h,
		ctx:       ctx,
		directory: d,
		questions: questions,
		cert:      cert,
		user:      user,
		bound:     mapping.IssuerIsBound(ctx),
	}

	octets := int64(maxAnswerOctets)
	var queries []ldapconn.Query
	for _, q := range questions {
		query := t.query(q)

		// Thousands of entries are compared as they arrive: only those that fit stay in memory.
		if q.Entries > 0 {
			octets = compareAllOctets
			query.Keep = func(e ldapconn.Entry) bool { return t.holdsCertificate(q, e) }
		}

		mapping.TellRead(ctx, q.Name)
		t.tellQuery(q.Name, query)
		queries = append(queries, query)
	}

	r := &round{receive: t.receive, then: t.next}
	d.belowBases(r, queries)
	if err := d.ask(ctx, r, octets); err != nil {
		return nil, err
	}
	return t.found, t.refused
}

// tellQuery writes a query to the log and to explanations.
func (t *search) tellQuery(what string, q ldapconn.Query) {
	t.Log.Debug("directory is asked",
		"for", what,
		"base", t.directory.where(),
		"filter", fmt.Sprintf("%.300s", q.Filter))
	mapping.TellAsked(t.ctx, fmt.Sprintf("%s below %s: %.300s", t.directory, t.directory.where(), q.Filter))
}

// receive takes the answer to a question. While an entry is to be confirmed, the answers to later
// questions are ignored.
func (t *search) receive(i int, a ldapconn.Answer) bool {
	// Another server may have answered, and failed, before: what it found does not count.
	if i == 0 {
		t.found = nil
		t.refused = nil
		t.pending = nil
		t.unreadable = nil
	}
	if t.pending != nil {
		return true
	}

	// A few are enough for the record.
	for _, e := range a.Entries[:min(len(a.Entries), 4)] {
		mapping.TellHeard(t.ctx, "entry "+e.DN)
	}

	// There are more entries than were asked for: none of them is known to be the one.
	if a.Err != nil {
		t.refused = fmt.Errorf("%w: %s: %w", mapping.ErrAmbiguous, t.questions[i].Name, a.Err)
		return false
	}

	c, err := t.assess(t.questions[i], a.Entries)
	switch {
	case err != nil:
		t.refused = err
	case c != nil && c.inName:
		t.found = t.answer(c)
	case c != nil:
		t.pending = c
	}
	return t.found == nil && t.refused == nil
}

// next returns the round after the questions: one that confirms what they found, or one that
// explains why they found nothing.
func (t *search) next() *round {
	switch {
	case t.pending != nil:
		return t.confirm()
	case t.unreadable != nil:
		t.refused = t.unreadable
		return nil
	}
	return t.explain()
}

// answer names the login of an entry, as the person typed it where one is asked about.
func (t *search) answer(c *candidate) *mapping.Answer {
	login := c.login
	if t.user != nil {
		login = t.user.Typed
	}
	return &mapping.Answer{User: login, Value: c.by + " of " + c.entry.DN, Origin: mapping.OriginDirectory}
}

// query makes a search of a question: the user's filter and the question's, both.
func (t *search) query(q Inquiry) ldapconn.Query {
	filter := t.Logins.Filter.ofAll()
	if t.user != nil {
		filter = t.Logins.Filter.ofAny(t.user.Names())
	}

	if q.Filter != "" {
		filter = "(&" + filter + q.Filter + ")"
	}

	attributes := append(t.Logins.attributes(), "objectSid")
	// The attribute is asked for with and without its option: holdsCertificate takes the values of
	// either.
	if q.Fetch != "" {
		attributes = append(attributes, plainAttribute(q.Fetch))
		if strings.Contains(q.Fetch, ";") {
			attributes = append(attributes, q.Fetch)
		}
	}

	// Two are enough to see that an entry is not the only one.
	limit := q.Entries
	if limit == 0 {
		limit = 2
	}
	return ldapconn.Query{
		Scope:      t.directory.Scope,
		Filter:     filter,
		Attributes: attributes,
		MaxEntries: limit,
	}
}

// assess returns the entry that answers a question; nil for none.
func (t *search) assess(q Inquiry, entries []ldapconn.Entry) (*candidate, error) {
	var good []candidate
	for _, e := range entries {
		c := candidate{entry: e, by: q.Name}
		c.login, c.inName, c.err = t.Logins.of(e)
		contradiction := t.contradicts(e)

		// The order matters: an entry of another login or certificate is passed over, and one of
		// this certificate with another security identifier ends the search.
		switch {
		case c.err == nil && t.isOther(c.login):
			t.Log.Warn("the directory's entry is of another login", "dn", e.DN, "login", c.login, "user", t.user.Typed)
		case !t.holdsCertificate(q, e):
		case contradiction != nil:
			return nil, fmt.Errorf("%s: %w", e.DN, contradiction)
		case q.Weak && !t.Weak && !namesSameSID(e, t.cert):
			t.Log.Info("found by a name alone, which is weak (allow_weak_mapping = true)", "dn", e.DN, "by", q.Name)
		default:
			good = append(good, c)
		}
	}

	switch {
	case len(good) == 0:
		return nil, nil
	case len(good) > 1:
		return nil, fmt.Errorf("%w: %s and %s (%s)", mapping.ErrAmbiguous, good[0].entry.DN, good[1].entry.DN, q.Name)
	case good[0].err != nil:
		return nil, good[0].err
	}
	return &good[0], nil
}

// isOther reports whether a login is not that of the person who is asked about.
func (t *search) isOther(login string) bool {
	return t.user != nil && !t.Logins.Filter.same(login, t.user.Typed) && !t.user.Is(login)
}

// holdsCertificate reports whether an entry that was found by a certificate has it. Where its
// certificates cannot be read, the server's word counts in two cases: it compared all octets, or it
// compared issuer and serial number and the issuer's name stands for its key.
func (t *search) holdsCertificate(q Inquiry, e ldapconn.Entry) bool {
	if q.Fetch == "" {
		return true
	}
	values := e.Get(plainAttribute(q.Fetch))
	if len(values) == 0 {
		values = e.Get(q.Fetch)
	}

	switch {
	case slices.ContainsFunc(values, func(v []byte) bool { return bytes.Equal(v, t.cert.Raw) }):
		return true
	case q.Must:
		// Nothing but the certificate itself counts.
	case len(values) > 0:
		t.Log.Warn("the directory found an entry that holds another certificate", "dn", e.DN)
	case t.bound || q.Octets:
		return true
	default:
		t.unreadable = mapping.Cure(
			fmt.Errorf("%s was found by issuer and serial number; its %s cannot be read, and the issuer is known by its name alone", e.DN, q.Fetch),
			"let the bind read the attribute, or "+mapping.NameTheKey,
		)
	}
	return false
}

// contradicts returns why an entry with a security identifier cannot be the holder's; nil where it
// can.
func (t *search) contradicts(e ldapconn.Entry) error {
	values := e.Get("objectSid")
	if len(values) == 0 {
		return nil
	}

	holder, err := activedirectory.SIDOf(t.cert)
	if err != nil || holder == nil {
		return err
	}

	for _, v := range values {
		if holder.Is(v) {
			return nil
		}
	}
	return fmt.Errorf("the certificate is of %s, which is another account", holder.Text)
}

// namesSameSID reports whether the certificate names this very account by its security identifier.
func namesSameSID(e ldapconn.Entry, cert *certinfo.Certificate) bool {
	holder, err := activedirectory.SIDOf(cert)
	return err == nil && holder != nil && slices.ContainsFunc(e.Get("objectSid"), holder.Is)
}

// confirm asks whether any other entry has the login of the one that was found.
func (t *search) confirm() *round {
	c := t.pending
	mapping.TellHeard(t.ctx, anybodyWarning(t.Logins.attribute()))
	t.Log.Info("the login is not part of the entry's name: "+anybodyWarning(t.Logins.attribute()),
		"dn", c.entry.DN,
		"login", c.login)

	var queries []ldapconn.Query
	for _, filter := range t.Logins.confirmation(c.login) {
		q := ldapconn.Query{
			Scope:      t.directory.Scope,
			Filter:     filter,
			Attributes: []string{noAttributes},
			MaxEntries: 2,
		}
		t.tellQuery("login "+c.login, q)
		queries = append(queries, q)
	}

	r := &round{receive: func(i int, a ldapconn.Answer) bool {
		t.refused = t.unconfirmed(c, a)
		if t.refused != nil || i < len(queries)-1 {
			return t.refused == nil
		}

		// All searches found this entry alone. Its uidNumber is the last proof.
		found := t.answer(c)
		if t.refused = t.Logins.checkNumber(c.entry, found.User); t.refused == nil {
			t.found = found
		}
		return t.refused == nil
	}}

	t.directory.belowBases(r, queries)
	return r
}

// noAttributes asks for entries without attributes (RFC 4511, 4.5.1.8).
const noAttributes = "1.1"

// unconfirmed returns why an answer does not confirm that only this entry has its login; nil where
// it does.
func (t *search) unconfirmed(c *candidate, a ldapconn.Answer) error {
	other := slices.IndexFunc(a.Entries, func(e ldapconn.Entry) bool { return e.DN != c.entry.DN })
	switch {
	case other >= 0:
		return fmt.Errorf("%w: the login %q of %s is also that of %s",
			mapping.ErrAmbiguous, c.login, c.entry.DN, a.Entries[other].DN)
	case a.Err != nil:
		return fmt.Errorf("%w: login %q: %w", mapping.ErrAmbiguous, c.login, a.Err)
	case len(a.Entries) != 1:
		return fmt.Errorf("%w: the search for %q does not find %s", errNoLogin, c.login, c.entry.DN)
	}
	return nil
}

// ErrWeakMapping is returned when names alone lead to an entry.
var ErrWeakMapping = errors.New("only a weak mapping exists")

// explain asks why nothing was found: it looks for weak mappings, and for the entry in which the
// server describes its attributes.
func (t *search) explain() *round {
	var weak []Inquiry
	if t.WeakInquiries != nil {
		weak = t.WeakInquiries(t.cert)
	}

	r := &round{optional: true, then: t.askSchema, receive: func(i int, a ldapconn.Answer) bool {
		switch {
		case i < len(weak):
			t.refused = t.weakMapping(weak[i], a.Entries)
		case len(a.Entries) == 1:
			if values := a.Entries[0].Get(subschema); len(values) == 1 {
				t.schema = string(values[0])
			}
		}
		return t.refused == nil
	}}

	queries := make([]ldapconn.Query, len(weak))
	for i, q := range weak {
		queries[i] = t.query(q)
	}
	t.directory.belowBases(r, queries)

	// The root DSE, with the empty name, is below no base (RFC 4512, 5.1).
	r.queries = append(r.queries, ldapconn.Query{
		Filter:     "(objectClass=*)",
		Attributes: []string{subschema},
		MaxEntries: 1,
	})
	return r
}

// weakMapping returns the refusal of a certificate that names alone would map, with the value that
// maps it strongly; nil where there is none.
func (t *search) weakMapping(q Inquiry, entries []ldapconn.Entry) error {
	for _, e := range entries {
		login, _, err := t.Logins.of(e)
		if err != nil || t.isOther(login) || t.contradicts(e) != nil {
			continue
		}

		write := ""
		if values, err := activedirectory.Identities(t.cert, false); err == nil && len(values) > 0 {
			write = fmt.Sprintf("write altSecurityIdentities = %q into the entry; ", values[0])
		}

		return fmt.Errorf("%w, by %s to %s: %sallow_weak_mapping = true accepts it as it is",
			ErrWeakMapping, q.Name, e.DN, write)
	}
	return nil
}

// subschema names the entry that describes the attributes a server knows (RFC 4512, 4.2 and 5.1).
const subschema = "subschemaSubentry"

// errNotInSchema is returned when the configuration names attributes that the server does not know,
// so that searches by them find nobody, whoever it is.
var errNotInSchema = errors.New("not in the server's schema")

// askSchema asks whether the server knows the attributes of the configuration. Some servers do not
// answer such a search; they do not find objectClass either, which is asked first.
func (t *search) askSchema() *round {
	if t.schema == "" {
		return nil
	}

	// Every entry has objectClass (RFC 4512, 3.3): a server that answers such searches finds it.
	names := slices.Concat([]string{"objectClass"}, t.configured())
	r := &round{optional: true, receive: func(i int, a ldapconn.Answer) bool {
		switch known := len(a.Entries) > 0; {
		case i == 0:
			return known
		case !known:
			t.unknown = append(t.unknown, names[i])
			t.refused = fmt.Errorf("%w: attribute %s is %w",
				mapping.ErrUnavailable, strings.Join(t.unknown, ", "), errNotInSchema)
		}
		return true
	}}

	for _, n := range names {
		r.queries = append(r.queries, ldapconn.Query{
			Base:       t.schema,
			Filter:     "(attributeTypes=" + ldapconn.EscapeFilter([]byte(n)) + ")",
			Attributes: []string{noAttributes},
			MaxEntries: 1,
		})
	}
	return r
}

// maxConfigured bounds the attributes that are looked up in a schema.
const maxConfigured = 32

// configured returns the attributes that the block names, each once and without options.
func (t *search) configured() []string {
	names := t.Logins.Filter.attributes()
	if t.Logins.UIDAttribute != "" {
		names = append(names, t.Logins.UIDAttribute)
	}
	if t.Uses != nil {
		names = append(names, t.Uses()...)
	}

	var list []string
	for _, n := range names {
		n = plainAttribute(n)
		same := func(m string) bool { return strings.EqualFold(m, n) }
		if len(list) < maxConfigured && mappers.IsAttribute(n) && !slices.ContainsFunc(list, same) {
			list = append(list, n)
		}
	}
	return list
}
