package mapper

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
)

// certmapMapper goes by rules in the language of sss-certmap(5): each has a matching rule, which tells
// what certificates it is about, and a mapping rule, which tells whose they are. Rules of the lowest
// number of which one matches decide. Where a user is given, those of higher numbers are asked too.
type certmapMapper struct {
	rules     []certmapRule // by priority
	directory *directory
	logins    *loginReader
	cache     *answerCache
	log       *slog.Logger
}

type certmapRule struct {
	name     string
	priority int64
	match    *matchRule
	mapping  *mapRule
	issuer   bool // the rule goes by the issuer's name
}

// lowestPriority is that of rules without a number.
const lowestPriority = math.MaxInt64

func newCertmap(name string, s mappers.Certmap, o Options) (mapper, error) {
	d, err := newDirectory(name, s.Directory, o)
	if err != nil {
		return nil, err
	}
	m := &certmapMapper{directory: d, log: o.Logger}
	if m.logins, err = newLoginReader(s.Directory, o); err != nil {
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
		if !d.configured() || r.CountsFor(s.Domain) {
			m.rules = append(m.rules, rule)
		}
	}
	slices.SortStableFunc(m.rules, func(x, y certmapRule) int { return cmp.Compare(x.priority, y.priority) })
	m.cache = newAnswerCache(name, s.CacheHours, o, append(settings, d.uris, d.srvDomain, d.bases, d.scope, s.Filter, m.logins.uidAttribute)...)
	return m, nil
}

// newRule reads one rule. Without a mapping rule the certificate itself is looked for or, where there is
// no directory, the rule's name is the user.
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
		if !m.directory.configured() {
			mapping = "(" + r.Name + ")"
		}
	}
	if rule.mapping, err = parseMap(mapping); err != nil {
		return rule, fmt.Errorf("map: %w", err)
	}
	rule.issuer = namesIssuer(r.Match, mapping)
	if !rule.mapping.local && !m.directory.configured() {
		return rule, fmt.Errorf("map: %w", errNoDirectory)
	}
	return rule, nil
}

// namesIssuer tells whether a rule looks at the issuer's name, by its words alone.
func namesIssuer(match, mapping string) bool {
	return strings.Contains(strings.ToUpper(match), "<ISSUER>") || strings.Contains(strings.ToLower(mapping), "{issuer_")
}

// issuerUse: rules may go by the name, and so does the search for a certificate on OpenLDAP. Without a certificate it is
// that of all rules.
func (m *certmapMapper) issuerUse(cert *certinfo.Certificate) issuerUse {
	rules := m.rules
	if cert != nil {
		rules = m.deciding(cert)
	}
	use := usesNoIssuer
	for _, r := range rules {
		switch {
		case r.issuer:
			return restsOnIssuer
		case !r.mapping.local:
			use = comparesIssuer
		}
	}
	if cert != nil && slices.ContainsFunc(m.rules, func(r certmapRule) bool { return (r.issuer || !r.mapping.local) && r.match.matches(cert) }) {
		use = comparesIssuer // a later rule does
	}
	return use
}

func (m *certmapMapper) binds() bool { return false }

// deciding returns the rules that decide about a certificate.
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

func (m *certmapMapper) find(ctx context.Context, cert *certinfo.Certificate) ([]answer, error) {
	rules := m.deciding(cert)
	if len(rules) == 0 {
		return nil, errNothing
	}
	return m.users(ctx, cert, nil, rules)
}

func (m *certmapMapper) match(ctx context.Context, cert *certinfo.Certificate, user *person) (answer, bool, error) {
	first := m.deciding(cert)
	if len(first) == 0 {
		return answer{}, false, errNothing
	}
	found, err := m.users(ctx, cert, user, first)
	if a := pick(found, user, m.logins.filter.ignoreCase); a.user != "" && err == nil {
		return a, true, nil
	}
	later := m.later(ctx, cert, first[0].priority)
	if len(later) == 0 {
		return answer{}, false, err
	}
	found, laterErr := m.users(ctx, cert, user, later)
	a := pick(found, user, m.logins.filter.ignoreCase)
	if laterErr != nil || a.user == "" {
		return answer{}, false, firstError(err, laterErr)
	}
	return a, true, nil
}

// everybody returns whom all rules that match mean: each of them may log in when asked for by name.
func (m *certmapMapper) everybody(ctx context.Context, cert *certinfo.Certificate) ([]answer, error) {
	first := m.deciding(cert)
	if len(first) == 0 {
		return nil, errNothing
	}
	found, err := m.users(ctx, cert, nil, first)
	later := m.later(ctx, cert, first[0].priority)
	if len(later) == 0 {
		return found, err
	}
	more, laterErr := m.users(ctx, cert, nil, later)
	return append(found, more...), firstError(err, laterErr)
}

// later returns the rules of numbers above priority that match. Whether the block is asked was decided by the rules of the
// lowest number; where the issuer is another than the one of its name, those that go by the name do not count.
func (m *certmapMapper) later(ctx context.Context, cert *certinfo.Certificate, priority int64) []certmapRule {
	var list []certmapRule
	for _, r := range m.rules {
		switch {
		case r.priority <= priority || !r.match.matches(cert):
		case r.issuer && issuerIsForeign(ctx):
			tellRead(ctx, "rule "+r.name+" matches, but the issuer has another key than the CA of its name in ca_dir")
		default:
			list = append(list, r)
		}
	}
	return list
}

func (m *certmapMapper) connect(ctx context.Context) { m.directory.connect(ctx) }

func (m *certmapMapper) expects(cert *certinfo.Certificate, _ string) bool {
	return cert != nil && slices.ContainsFunc(m.deciding(cert), func(r certmapRule) bool {
		if r.mapping.local {
			return false
		}
		_, ok := r.mapping.filter(cert)
		return ok
	})
}

// users returns whom these rules mean. user is nil or the one that is asked about.
func (m *certmapMapper) users(ctx context.Context, cert *certinfo.Certificate, user *person, rules []certmapRule) ([]answer, error) {
	var found []answer
	q := inquiry{}
	var filters, names []string
	how := m.wayToSearch(ctx, rules)
	for _, r := range rules {
		tellRead(ctx, "rule "+r.name+" matches")
		switch {
		case r.mapping.local:
			if login, ok := r.mapping.login(cert); ok {
				origin := OriginText
				if r.mapping.fixed {
					origin = OriginFixed
				}
				found = append(found, answer{user: login, value: "rule " + r.name, origin: origin})
			}
		default:
			if filter, ok := r.mapping.filterBy(cert, how); ok {
				filters, names = append(filters, filter), append(names, r.name)
				q.fetch = r.mapping.fetch
			}
		}
	}
	if len(filters) == 0 {
		return found, nil
	}
	q.filter = filters[0]
	if len(filters) > 1 {
		q.filter, q.fetch = "(|"+strings.Join(filters, "")+")", ""
	}
	q.name = "rule " + strings.Join(names, ", ")
	a, err := m.ask(ctx, cert, q, user)
	if a != nil {
		found = append(found, *a)
	}
	return found, err
}

// wayToSearch is how a directory looks for the whole certificate. By issuer and serial number it may where the issuer's
// name stands for its key, and where what is found can be compared afterwards: with one rule that asks for nothing else.
func (m *certmapMapper) wayToSearch(ctx context.Context, rules []certmapRule) string {
	searching := slices.DeleteFunc(slices.Clone(rules), func(r certmapRule) bool { return r.mapping.local })
	if issuerIsBound(ctx) || len(searching) == 1 && searching[0].mapping.fetch != "" {
		return "auto"
	}
	return "filter"
}

func (m *certmapMapper) ask(ctx context.Context, cert *certinfo.Certificate, q inquiry, user *person) (*answer, error) {
	ctx, cancel := m.cache.shorten(ctx)
	defer cancel()
	h := &hits{logins: m.logins, log: m.log, uses: func() []string {
		parsed, err := ldapconn.ParseFilter(q.filter)
		if err != nil {
			return nil
		}
		return parsed.Attributes()
	}}
	a, err := h.first(ctx, m.directory, []inquiry{q}, cert, user)
	return m.cache.settle(cert, user, a, err, m.log)
}
