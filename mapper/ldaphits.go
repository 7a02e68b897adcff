package mapper

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
)

// hits judges what searches found.
type hits struct {
	logins *loginReader
	weak   bool
	log    *slog.Logger
	weakly func(*certinfo.Certificate) []inquiry // questions whose hits only explain a no; nil: there are none
	uses   func() []string                       // attributes of the block's questions
}

// hunt is one use of hits: the questions about a certificate, and what has come of them.
type hunt struct {
	*hits
	ctx       context.Context // for what is told
	directory *directory
	questions []inquiry
	cert      *certinfo.Certificate
	user      *person // nil is anybody
	bound     bool    // the issuer's name stands for its key

	found   *answer
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

// first returns the answer of the first question that has one. More than one entry is nobody's proof.
func (h *hits) first(ctx context.Context, d *directory, questions []inquiry, cert *certinfo.Certificate, user *person) (*answer, error) {
	t := &hunt{hits: h, ctx: ctx, directory: d, questions: questions, cert: cert, user: user, bound: issuerIsBound(ctx)}
	octets := int64(maxAnswerOctets)
	var queries []ldapconn.Query
	for _, q := range questions {
		query := t.query(q)
		if q.entries > 0 {
			octets = compareAllOctets
			query.Keep = func(e ldapconn.Entry) bool { return t.holds(q, e) }
		}
		tellRead(ctx, q.name)
		t.tellQuery(q.name, query)
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
	t.log.Debug("directory is asked", "for", what, "base", t.directory.where(), "filter", fmt.Sprintf("%.300s", q.Filter))
	tellAsked(t.ctx, fmt.Sprintf("%s below %s: %.300s", t.directory, t.directory.where(), q.Filter))
}

// hear takes the answer to a question. While an entry is to be confirmed, the answers to later questions are let go.
func (t *hunt) hear(i int, a ldapconn.Answer) bool {
	if i == 0 {
		t.found, t.refused, t.pending, t.unread = nil, nil, nil, nil // another server may have been heard before
	}
	if t.pending != nil {
		return true
	}
	for _, e := range a.Entries[:min(len(a.Entries), 4)] {
		tellHeard(t.ctx, "entry "+e.DN)
	}
	if a.Err != nil {
		t.refused = fmt.Errorf("%w: %s: %w", errAmbiguous, t.questions[i].name, a.Err)
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

// next is the round after the questions: one that confirms what they found, or one that tells why they found nothing.
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

func (t *hunt) answer(c *candidate) *answer {
	login := c.login
	if t.user != nil {
		login = t.user.typed
	}
	return &answer{user: login, value: c.by + " of " + c.entry.DN, origin: OriginDirectory}
}

func (t *hunt) query(q inquiry) ldapconn.Query {
	filter := t.logins.filter.ofAll()
	if t.user != nil {
		filter = t.logins.filter.ofAny(t.user.names())
	}
	if q.filter != "" {
		filter = "(&" + filter + q.filter + ")"
	}
	attributes := append(t.logins.attributes(), "objectSid")
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
	return ldapconn.Query{Scope: t.directory.scope, Filter: filter, Attributes: attributes, MaxEntries: limit}
}

// judge returns the entry that answers a question, nil for none.
func (t *hunt) judge(q inquiry, entries []ldapconn.Entry) (*candidate, error) {
	var good []candidate
	for _, e := range entries {
		c := candidate{entry: e, by: q.name}
		c.login, c.inName, c.err = t.logins.of(e)
		contradiction := t.contradicts(e)
		switch {
		case c.err == nil && t.isOther(c.login):
			t.log.Warn("the directory's entry is of another login", "dn", e.DN, "login", c.login, "user", t.user.typed)
		case !t.holds(q, e):
		case contradiction != nil:
			return nil, fmt.Errorf("%s: %w", e.DN, contradiction)
		case q.weak && !t.weak && !confirms(e, t.cert):
			t.log.Info("found by a name alone, which is weak (allow_weak_mapping = true)", "dn", e.DN, "by", q.name)
		default:
			good = append(good, c)
		}
	}
	switch {
	case len(good) == 0:
		return nil, nil
	case len(good) > 1:
		return nil, fmt.Errorf("%w: %s and %s (%s)", errAmbiguous, good[0].entry.DN, good[1].entry.DN, q.name)
	case good[0].err != nil:
		return nil, good[0].err
	}
	return &good[0], nil
}

// isOther tells that a login is not that of the person who is asked about.
func (t *hunt) isOther(login string) bool {
	return t.user != nil && !t.logins.filter.same(login, t.user.typed) && !t.user.is(login)
}

// holds compares the certificates of an entry that was found by one. Where they cannot be read, the server's word that it
// found this one has to do: if it compared all octets, or if the issuer and serial number that it compared are one
// certificate's, since the issuer's name stands for its key.
func (t *hunt) holds(q inquiry, e ldapconn.Entry) bool {
	if q.fetch == "" {
		return true
	}
	values := e.Get(plainAttribute(q.fetch))
	if len(values) == 0 {
		values = e.Get(q.fetch)
	}
	switch {
	case slices.ContainsFunc(values, func(v []byte) bool { return bytes.Equal(v, t.cert.Raw) }):
		return true
	case q.must:
	case len(values) > 0:
		t.log.Warn("the directory found an entry that holds another certificate", "dn", e.DN)
	case t.bound || q.octets:
		return true
	default:
		t.unread = cure(
			fmt.Errorf("%s was found by issuer and serial number; its %s cannot be read, and the issuer is known by its name alone", e.DN, q.fetch),
			"let the bind read the attribute, or "+nameTheKey,
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
	holder, err := certificateSID(t.cert)
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

// confirm asks whether any other entry has the login of the one that was found.
func (t *hunt) confirm() *round {
	c := t.pending
	tellHeard(t.ctx, anybodyWarning(t.logins.attribute()))
	t.log.Info("the login is not part of the entry's name: "+anybodyWarning(t.logins.attribute()), "dn", c.entry.DN, "login", c.login)
	var queries []ldapconn.Query
	for _, filter := range t.logins.confirmation(c.login) {
		q := ldapconn.Query{Scope: t.directory.scope, Filter: filter, Attributes: []string{noAttributes}, MaxEntries: 2}
		t.tellQuery("login "+c.login, q)
		queries = append(queries, q)
	}
	r := &round{hear: func(i int, a ldapconn.Answer) bool {
		if t.refused = t.unconfirmed(c, a); t.refused != nil || i < len(queries)-1 {
			return t.refused == nil
		}
		found := t.answer(c)
		if t.refused = t.logins.checkNumber(c.entry, found.user); t.refused == nil {
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
		return fmt.Errorf("%w: the login %q of %s is also that of %s", errAmbiguous, c.login, c.entry.DN, a.Entries[other].DN)
	case a.Err != nil:
		return fmt.Errorf("%w: login %q: %w", errAmbiguous, c.login, a.Err)
	case len(a.Entries) != 1:
		return fmt.Errorf("%w: the search for %q does not find %s", errNoLogin, c.login, c.entry.DN)
	}
	return nil
}

// errWeakMapping is returned when names alone lead to an entry.
var errWeakMapping = errors.New("only a weak mapping exists")

// explain asks why nothing was found: it looks for weak mappings, and where the server describes its attributes.
func (t *hunt) explain() *round {
	var weak []inquiry
	if t.weakly != nil {
		weak = t.weakly(t.cert)
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

// weakMapping returns the refusal of a certificate that names alone would map, with the value that does it strongly.
func (t *hunt) weakMapping(q inquiry, entries []ldapconn.Entry) error {
	for _, e := range entries {
		login, _, err := t.logins.of(e)
		if err != nil || t.isOther(login) || t.contradicts(e) != nil {
			continue
		}
		write := ""
		if values, err := altSecurityIdentities(t.cert, false); err == nil && len(values) > 0 {
			write = fmt.Sprintf("write altSecurityIdentities = %q into the entry; ", values[0])
		}
		return fmt.Errorf("%w, by %s to %s: %sallow_weak_mapping = true accepts it as it is", errWeakMapping, q.name, e.DN, write)
	}
	return nil
}

// subschema names the entry that describes the attributes a server knows (RFC 4512, 4.2 and 5.1).
const subschema = "subschemaSubentry"

// errNotInSchema is returned when the configuration names attributes that the server does not know, so that searches by
// them find nobody, whoever it is.
var errNotInSchema = errors.New("not in the server's schema")

// askSchema asks whether the server knows the attributes of the configuration. Some servers cannot be asked so; they do
// not find objectClass either.
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
			t.refused = fmt.Errorf("%w: attribute %s is %w", ErrUnavailable, strings.Join(t.unknown, ", "), errNotInSchema)
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
	names := t.logins.filter.attributes()
	if t.logins.uidAttribute != "" {
		names = append(names, t.logins.uidAttribute)
	}
	if t.uses != nil {
		names = append(names, t.uses()...)
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
