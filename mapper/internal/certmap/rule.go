// Package certmap is the mapper that goes by rules in the language of sss-certmap(5).
package certmap

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"math"
	"slices"
	"strings"

	"pam_pkcs11/config/mappers"
	"pam_pkcs11/internal/certinfo"
	"pam_pkcs11/internal/ldapconn"
	"pam_pkcs11/mapper/internal/directory"
	"pam_pkcs11/mapper/internal/mapping"
)

// certmapMapper goes by rules in the language of sss-certmap(5). Each has a matching rule, which
// selects certificates, and a mapping rule, which finds whose they are. The rules that decide are
// those that match, of the lowest number among them. Where a user is given, those of higher numbers
// are asked too.
type certmapMapper struct {
	rules     []certmapRule // by priority
	directory *directory.Directory
	logins    *directory.LoginReader
	cache     *directory.Cache
	log       *slog.Logger
}

type certmapRule struct {
	name     string
	priority int64
	match    *matchRule
	mapping  *mapRule
	issuer   bool // the rule goes by the issuer's name
}

// The chain finds these interfaces by type assertions.
var (
	_ mapping.Prefetcher     = (*certmapMapper)(nil)
	_ mapping.EverybodyNamer = (*certmapMapper)(nil)
	_ mapping.IssuerReader   = (*certmapMapper)(nil)
)

// lowestPriority is that of rules without a number.
const lowestPriority = math.MaxInt64

// New sets up the mapper of the block with this name.
func New(name string, s mappers.Certmap, o mapping.Options) (mapping.Mapper, error) {
	d, err := directory.New(name, s.Directory, o)
	if err != nil {
		return nil, err
	}

	m := &certmapMapper{directory: d, log: o.Logger}
	if m.logins, err = directory.NewLoginReader(s.Directory, o); err != nil {
		return nil, err
	}

	var settings []any
	for i := range s.Rules {
		r := &s.Rules[i]
		rule, err := m.newRule(r)
		if err != nil {
			return nil, &mappers.Fault{Rule: r, Err: err}
		}

		settings = append(settings, rule.name, rule.priority, r.Match, r.Map)

		// The domain of a rule is that of a directory; a machine's own users have none.
		if !d.Configured() || r.CountsFor(s.Domain) {
			m.rules = append(m.rules, rule)
		}
	}

	// Rules of one number stay in the order of the configuration.
	slices.SortStableFunc(m.rules, func(x, y certmapRule) int { return cmp.Compare(x.priority, y.priority) })

	// The name of a record is made of all that decides an answer: another configuration finds none.
	settings = append(settings, d.URIs, d.SRVDomain, d.Bases, d.Scope, s.Filter, m.logins.UIDAttribute)
	m.cache = directory.NewCache(name, s.CacheHours, o, settings...)
	return m, nil
}

// newRule reads one rule. Without a mapping rule the certificate itself is looked for, or, where
// there is no directory, the rule's name is the user.
func (m *certmapMapper) newRule(r *mappers.Rule) (certmapRule, error) {
	rule := certmapRule{name: r.Name, priority: int64(r.Priority)}
	if rule.priority < 0 {
		rule.priority = lowestPriority
	}

	var err error
	if rule.match, err = parseMatch(cmp.Or(r.Match, defaultMatch)); err != nil {
		return rule, fmt.Errorf("match: %w", err)
	}

	mapping := r.Map
	if mapping == "" {
		mapping = "(userCertificate;binary={cert!bin})"
		if !m.directory.Configured() {
			mapping = "(" + r.Name + ")"
		}
	}

	if rule.mapping, err = parseMap(mapping); err != nil {
		return rule, fmt.Errorf("map: %w", err)
	}

	rule.issuer = goesByIssuer(r.Match, mapping)
	// A filter without a server to ask could never name anybody.
	if !rule.mapping.local && !m.directory.Configured() {
		return rule, fmt.Errorf("map: %w", directory.ErrNoDirectory)
	}
	return rule, nil
}

// goesByIssuer reports whether a rule looks at the issuer's name, by its words alone.
func goesByIssuer(match, mapping string) bool {
	return strings.Contains(strings.ToUpper(match), "<ISSUER>") ||
		strings.Contains(strings.ToLower(mapping), "{issuer_")
}

// IssuerUse implements mapping.IssuerReader. Rules may go by the issuer's name, and so does the
// search for a certificate on OpenLDAP. Without a certificate it is the use of all rules.
func (m *certmapMapper) IssuerUse(cert *certinfo.Certificate) mapping.IssuerUse {
	rules := m.rules
	if cert != nil {
		rules = m.deciding(cert)
	}

	use := mapping.UsesNoIssuer
	for _, r := range rules {
		switch {
		case r.issuer:
			return mapping.RestsOnIssuer
		case !r.mapping.local:
			use = mapping.ComparesIssuer
		}
	}

	// A later rule may be asked for a user by name, and go by the issuer.
	mayCompare := func(r certmapRule) bool {
		return (r.issuer || !r.mapping.local) && r.match.matches(cert)
	}
	if cert != nil && slices.ContainsFunc(m.rules, mayCompare) {
		use = mapping.ComparesIssuer
	}
	return use
}

// Binds implements mapping.Mapper.
func (m *certmapMapper) Binds() bool { return false }

// deciding returns the rules that decide about a certificate: those that match, of the lowest
// number.
func (m *certmapMapper) deciding(cert *certinfo.Certificate) []certmapRule {
	var list []certmapRule
	for _, r := range m.rules {
		if len(list) > 0 && r.priority != list[0].priority {
			break
		}
		if r.match.matches(cert) {
			list = append(list, r)
		}
	}
	return list
}

// Find implements mapping.Mapper.
func (m *certmapMapper) Find(ctx context.Context, cert *certinfo.Certificate) ([]mapping.Answer, error) {
	rules := m.deciding(cert)
	if len(rules) == 0 {
		return nil, mapping.ErrNothing
	}
	return m.users(ctx, cert, nil, rules)
}

// Match implements mapping.Mapper.
func (m *certmapMapper) Match(ctx context.Context, cert *certinfo.Certificate, user *mapping.Person) (mapping.Answer, bool, error) {
	first := m.deciding(cert)
	if len(first) == 0 {
		return mapping.Answer{}, false, mapping.ErrNothing
	}

	// The rules of the lowest number come first: with a yes, the others are not asked.
	found, err := m.users(ctx, cert, user, first)
	if a := mapping.Pick(found, user, m.logins.Filter.IgnoreCase); a.User != "" && err == nil {
		return a, true, nil
	}

	// The user may be one whom a later rule names.
	later := m.later(ctx, cert, first[0].priority)
	if len(later) == 0 {
		return mapping.Answer{}, false, err
	}

	found, laterErr := m.users(ctx, cert, user, later)
	a := mapping.Pick(found, user, m.logins.Filter.IgnoreCase)
	if laterErr != nil || a.User == "" {
		return mapping.Answer{}, false, mapping.FirstError(err, laterErr)
	}
	return a, true, nil
}

// Everybody implements mapping.EverybodyNamer: it returns whom all rules that match name. Each of
// them may log in when asked for by name.
func (m *certmapMapper) Everybody(ctx context.Context, cert *certinfo.Certificate) ([]mapping.Answer, error) {
	first := m.deciding(cert)
	if len(first) == 0 {
		return nil, mapping.ErrNothing
	}

	found, err := m.users(ctx, cert, nil, first)
	later := m.later(ctx, cert, first[0].priority)
	if len(later) == 0 {
		return found, err
	}

	// What the first rules found stands, also where the later ones fail.
	more, laterErr := m.users(ctx, cert, nil, later)
	return append(found, more...), mapping.FirstError(err, laterErr)
}

// later returns the rules of numbers above priority that match. Whether the block is asked was
// decided by the rules of the lowest number; where the issuer is not the CA of its name in ca_dir,
// those that go by the name do not count.
func (m *certmapMapper) later(ctx context.Context, cert *certinfo.Certificate, priority int64) []certmapRule {
	var list []certmapRule
	for _, r := range m.rules {
		switch {
		case r.priority <= priority || !r.match.matches(cert):
		case r.issuer && mapping.IssuerIsForeign(ctx):
			mapping.TellRead(ctx, "rule "+r.name+" matches, but the issuer has another key than the CA of its name in ca_dir")
		default:
			list = append(list, r)
		}
	}
	return list
}

// Connect implements mapping.Prefetcher.
func (m *certmapMapper) Connect(ctx context.Context) { m.directory.Connect(ctx) }

// Expects implements mapping.Prefetcher.
func (m *certmapMapper) Expects(cert *certinfo.Certificate, _ string) bool {
	return cert != nil && slices.ContainsFunc(m.deciding(cert), func(r certmapRule) bool {
		if r.mapping.local {
			return false
		}
		_, ok := r.mapping.filter(cert)
		return ok
	})
}

// users returns whom these rules name; user is nil for anybody. One search is for all rules with a
// filter.
func (m *certmapMapper) users(
	ctx context.Context, cert *certinfo.Certificate, user *mapping.Person, rules []certmapRule,
) ([]mapping.Answer, error) {
	var found []mapping.Answer
	q := directory.Inquiry{}
	var filters, names []string

	how := m.wayToSearch(ctx, rules)
	for _, r := range rules {
		mapping.TellRead(ctx, "rule "+r.name+" matches")
		if r.mapping.local {
			if login, ok := r.mapping.login(cert); ok {
				origin := mapping.OriginText
				if r.mapping.fixed {
					origin = mapping.OriginFixed
				}
				found = append(found, mapping.Answer{User: login, Value: "rule " + r.name, Origin: origin})
			}
			continue
		}
		if filter, ok := r.mapping.filterBy(cert, how); ok {
			filters = append(filters, filter)
			names = append(names, r.name)
			q.Fetch = r.mapping.fetch
		}
	}
	if len(filters) == 0 {
		return found, nil
	}

	// With several filters an entry may be found by any of them, so that none of its attributes
	// must have the certificate.
	q.Filter = filters[0]
	if len(filters) > 1 {
		q.Filter = "(|" + strings.Join(filters, "") + ")"
		q.Fetch = ""
	}
	q.Name = "rule " + strings.Join(names, ", ")

	a, err := m.ask(ctx, cert, q, user)
	if a != nil {
		found = append(found, *a)
	}
	return found, err
}

// wayToSearch returns how a directory looks for the whole certificate. By issuer and serial number
// it may where the issuer's name stands for its key, or where the certificate that is found can be
// compared afterwards: with one rule that asks for nothing else.
func (m *certmapMapper) wayToSearch(ctx context.Context, rules []certmapRule) string {
	isLocal := func(r certmapRule) bool { return r.mapping.local }
	searching := slices.DeleteFunc(slices.Clone(rules), isLocal)
	if mapping.IssuerIsBound(ctx) || len(searching) == 1 && searching[0].mapping.fetch != "" {
		return "auto"
	}
	return "filter"
}

// ask searches the directory, with the answers of the cache where no server can be reached.
func (m *certmapMapper) ask(
	ctx context.Context, cert *certinfo.Certificate, q directory.Inquiry, user *mapping.Person,
) (*mapping.Answer, error) {
	ctx, cancel := m.cache.Shorten(ctx)
	defer cancel()

	// Where nothing is found, the server is asked whether it knows the attributes of the rules.
	h := &directory.Hits{Logins: m.logins, Log: m.log, Uses: func() []string {
		parsed, err := ldapconn.ParseFilter(q.Filter)
		if err != nil {
			return nil
		}
		return parsed.Attributes()
	}}

	a, err := h.First(ctx, m.directory, []directory.Inquiry{q}, cert, user)
	return m.cache.Settle(cert, user, a, err, m.log)
}
