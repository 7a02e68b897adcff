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

// Inquiry is one search and what its hits are worth.
type Inquiry struct {
	Name    string // for the log and the result
	Filter  string // beside the user's; "" fetches all users
	Fetch   string // attribute to compare with the certificate
	Octets  bool   // the server compares the whole certificate, or nothing
	Must    bool   // the comparison decides; else it only refuses
	Weak    bool   // a hit needs the SID's word
	Entries int    // most entries that are taken; 0 is 2
}

// CompareAll is how many entries with certificates are fetched and compared, and their octets.
const (
	CompareAll       = 20000
	compareAllOctets = 64 << 20
)

// Hits judges what searches found.
type Hits struct {
	Logins *LoginReader
	Weak   bool
	Log    *slog.Logger
	Weakly func(*certinfo.Certificate) []Inquiry // questions whose hits only explain a no; nil: there are none
	Uses   func() []string                       // attributes of the block's questions
}

// hunt is one use of hits: the questions about a certificate, and what has come of them.
type hunt struct {
	*Hits
	ctx       context.Context // for what is told
	directory *Directory
	questions []Inquiry
	cert      *certinfo.Certificate
	user      *mapping.Person // nil is anybody
	bound     bool            // the issuer's name stands for its key

	found   *mapping.Answer
	refused error
	pending *candidate // found, and to be confirmed
	unread  error      // why an entry that was found does not count; it is told where nothing else was found
	schema  string     // name of the entry with the server's schema
	unknown []string   // attributes that are not in it
}

// candidate is an entry whose login the certificate may have.
type candidate struct {
	entry  ldapconn.Entry
	login  string
	inName bool
	by     string // question
	err    error  // why it has no login
}

// First returns the answer of the first question that has one. More than one entry is nobody's
// proof.
func (h *Hits) First(
	ctx context.Context, d *Directory, questions []Inquiry, cert *certinfo.Certificate, user *mapping.Person,
) (*mapping.Answer, error) {
	t := &hunt{Hits: h, ctx: ctx, directory: d, questions: questions, cert: cert, user: user, bound: mapping.IssuerIsBound(ctx)}
	octets := int64(maxAnswerOctets)
	var queries []ldapconn.Query
	for _, q := range questions {
		query := t.query(q)
		if q.Entries > 0 {
			octets = compareAllOctets
			query.Keep = func(e ldapconn.Entry) bool { return t.holds(q, e) }
		}
		mapping.TellRead(ctx, q.Name)
		t.tellQuery(q.Name, query)
		queries = append(queries, query)
	}

	r := &round{hear: t.hear, then: t.next}
	d.belowBases(r, queries)
	if err := d.ask(ctx, r, octets); err != nil {
		return nil, err
	}
	return t.found, t.refused
}

// tellQuery writes a query to the log and to explanations.
func (t *hunt) tellQuery(what string, q ldapconn.Query) {
	t.Log.Debug("directory is asked", "for", what, "base", t.directory.where(), "filter", fmt.Sprintf("%.300s", q.Filter))
	mapping.TellAsked(t.ctx, fmt.Sprintf("%s below %s: %.300s", t.directory, t.directory.where(), q.Filter))
}

// hear takes the answer to a question. While an entry is to be confirmed, the answers to later
// questions are let go.
func (t *hunt) hear(i int, a ldapconn.Answer) bool {
	if i == 0 {
		t.found, t.refused, t.pending, t.unread = nil, nil, nil, nil // another server may have been heard before
	}
	if t.pending != nil {
		return true
	}
	for _, e := range a.Entries[:min(len(a.Entries), 4)] {
		mapping.TellHeard(t.ctx, "entry "+e.DN)
	}
	if a.Err != nil {
		t.refused = fmt.Errorf("%w: %s: %w", mapping.ErrAmbiguous, t.questions[i].Name, a.Err)
		return false
	}
	c, err := t.judge(t.questions[i], a.Entries)
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

// next is the round after the questions: one that confirms what they found, or one that tells why
// they found nothing.
func (t *hunt) next() *round {
	switch {
	case t.pending != nil:
		return t.confirm()
	case t.unread != nil:
		t.refused = t.unread
		return nil
	}
	return t.explain()
}

func (t *hunt) answer(c *candidate) *mapping.Answer {
	login := c.login
	if t.user != nil {
		login = t.user.Typed
	}
	return &mapping.Answer{User: login, Value: c.by + " of " + c.entry.DN, Origin: mapping.OriginDirectory}
}

func (t *hunt) query(q Inquiry) ldapconn.Query {
	filter := t.Logins.Filter.ofAll()
	if t.user != nil {
		filter = t.Logins.Filter.ofAny(t.user.Names())
	}
	if q.Filter != "" {
		filter = "(&" + filter + q.Filter + ")"
	}
	attributes := append(t.Logins.attributes(), "objectSid")
	if q.Fetch != "" {
		attributes = append(attributes, plainAttribute(q.Fetch))
		if strings.Contains(q.Fetch, ";") {
			attributes = append(attributes, q.Fetch)
		}
	}
	limit := q.Entries
	if limit == 0 {
		limit = 2
	}
	return ldapconn.Query{Scope: t.directory.Scope, Filter: filter, Attributes: attributes, MaxEntries: limit}
}

// judge returns the entry that answers a question, nil for none.
func (t *hunt) judge(q Inquiry, entries []ldapconn.Entry) (*candidate, error) {
	var good []candidate
	for _, e := range entries {
		c := candidate{entry: e, by: q.Name}
		c.login, c.inName, c.err = t.Logins.of(e)
		contradiction := t.contradicts(e)
		switch {
		case c.err == nil && t.isOther(c.login):
			t.Log.Warn("the directory's entry is of another login", "dn", e.DN, "login", c.login, "user", t.user.Typed)
		case !t.holds(q, e):
		case contradiction != nil:
			return nil, fmt.Errorf("%s: %w", e.DN, contradiction)
		case q.Weak && !t.Weak && !confirms(e, t.cert):
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

// isOther tells that a login is not that of the person who is asked about.
func (t *hunt) isOther(login string) bool {
	return t.user != nil && !t.Logins.Filter.same(login, t.user.Typed) && !t.user.Is(login)
}

// holds compares the certificates of an entry that was found by one. Where they cannot be read, the
// server's word that it found this one has to do: if it compared all octets, or if the issuer and
// serial number that it compared are one certificate's, since the issuer's name stands for its key.
func (t *hunt) holds(q Inquiry, e ldapconn.Entry) bool {
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
	case len(values) > 0:
		t.Log.Warn("the directory found an entry that holds another certificate", "dn", e.DN)
	case t.bound || q.Octets:
		return true
	default:
		t.unread = mapping.Cure(
			fmt.Errorf("%s was found by issuer and serial number; its %s cannot be read, and the issuer is known by its name alone", e.DN, q.Fetch),
			"let the bind read the attribute, or "+mapping.NameTheKey,
		)
	}
	return false
}

// contradicts tells why an entry with a security identifier cannot be the holder's.
func (t *hunt) contradicts(e ldapconn.Entry) error {
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

// confirms tells that the certificate names the very account by its security identifier.
func confirms(e ldapconn.Entry, cert *certinfo.Certificate) bool {
	holder, err := activedirectory.SIDOf(cert)
	return err == nil && holder != nil && slices.ContainsFunc(e.Get("objectSid"), holder.Is)
}

// confirm asks whether any other entry has the login of the one that was found.
func (t *hunt) confirm() *round {
	c := t.pending
	mapping.TellHeard(t.ctx, anybodyWarning(t.Logins.attribute()))
	t.Log.Info("the login is not part of the entry's name: "+anybodyWarning(t.Logins.attribute()), "dn", c.entry.DN, "login", c.login)
	var queries []ldapconn.Query
	for _, filter := range t.Logins.confirmation(c.login) {
		q := ldapconn.Query{Scope: t.directory.Scope, Filter: filter, Attributes: []string{noAttributes}, MaxEntries: 2}
		t.tellQuery("login "+c.login, q)
		queries = append(queries, q)
	}
	r := &round{hear: func(i int, a ldapconn.Answer) bool {
		if t.refused = t.unconfirmed(c, a); t.refused != nil || i < len(queries)-1 {
			return t.refused == nil
		}
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

// unconfirmed tells why an answer does not confirm that only this entry has its login.
func (t *hunt) unconfirmed(c *candidate, a ldapconn.Answer) error {
	other := slices.IndexFunc(a.Entries, func(e ldapconn.Entry) bool { return e.DN != c.entry.DN })
	switch {
	case other >= 0:
		return fmt.Errorf("%w: the login %q of %s is also that of %s", mapping.ErrAmbiguous, c.login, c.entry.DN, a.Entries[other].DN)
	case a.Err != nil:
		return fmt.Errorf("%w: login %q: %w", mapping.ErrAmbiguous, c.login, a.Err)
	case len(a.Entries) != 1:
		return fmt.Errorf("%w: the search for %q does not find %s", errNoLogin, c.login, c.entry.DN)
	}
	return nil
}

// ErrWeakMapping is returned when names alone lead to an entry.
var ErrWeakMapping = errors.New("only a weak mapping exists")

// explain asks why nothing was found: it looks for weak mappings, and where the server describes
// its attributes.
func (t *hunt) explain() *round {
	var weak []Inquiry
	if t.Weakly != nil {
		weak = t.Weakly(t.cert)
	}
	r := &round{aside: true, then: t.askSchema, hear: func(i int, a ldapconn.Answer) bool {
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
	r.queries = append(r.queries, ldapconn.Query{Filter: "(objectClass=*)", Attributes: []string{subschema}, MaxEntries: 1})
	return r
}

// weakMapping returns the refusal of a certificate that names alone would map, with the value that
// does it strongly.
func (t *hunt) weakMapping(q Inquiry, entries []ldapconn.Entry) error {
	for _, e := range entries {
		login, _, err := t.Logins.of(e)
		if err != nil || t.isOther(login) || t.contradicts(e) != nil {
			continue
		}
		write := ""
		if values, err := activedirectory.Identities(t.cert, false); err == nil && len(values) > 0 {
			write = fmt.Sprintf("write altSecurityIdentities = %q into the entry; ", values[0])
		}
		return fmt.Errorf("%w, by %s to %s: %sallow_weak_mapping = true accepts it as it is", ErrWeakMapping, q.Name, e.DN, write)
	}
	return nil
}

// subschema names the entry that describes the attributes a server knows (RFC 4512, 4.2 and 5.1).
const subschema = "subschemaSubentry"

// errNotInSchema is returned when the configuration names attributes that the server does not know,
// so that searches by them find nobody, whoever it is.
var errNotInSchema = errors.New("not in the server's schema")

// askSchema asks whether the server knows the attributes of the configuration. Some servers cannot
// be asked so; they do not find objectClass either.
func (t *hunt) askSchema() *round {
	if t.schema == "" {
		return nil
	}
	names := slices.Concat([]string{"objectClass"}, t.configured())
	r := &round{aside: true, hear: func(i int, a ldapconn.Answer) bool {
		switch known := len(a.Entries) > 0; {
		case i == 0:
			return known
		case !known:
			t.unknown = append(t.unknown, names[i])
			t.refused = fmt.Errorf("%w: attribute %s is %w", mapping.ErrUnavailable, strings.Join(t.unknown, ", "), errNotInSchema)
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

// configured are the attributes that the block names, each once and without options.
func (t *hunt) configured() []string {
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
