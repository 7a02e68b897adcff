package config

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"pam_pkcs11/config/internal/finding"
	"pam_pkcs11/config/internal/scconf"
	"pam_pkcs11/config/internal/schema"
)

// A block service says what is stricter for some PAM services than in the rest of the file. Three
// things decide what holds for a login, in this order: the file, the arguments of the module's
// line, which override it, and the block of the service, which can only make stricter what then
// holds. A block that is less strict than the file is an error of the file; where it is less strict
// than an argument, the argument stays.

// Limits of service blocks.
const (
	maxServices    = 100 // names, in all blocks
	maxServiceName = 64
)

// Service is a PAM service that has a block.
type Service struct {
	Name      string
	Line, Col int // of the name
}

// has reports whether the block is that of a service; libpam knows services without regard to case.
func (s *service) has(name string) bool {
	return slices.ContainsFunc(s.names,
		func(w scconf.Word) bool { return scconf.SameKey(w.Text, name) })
}

// serviceRule is a key of the block pam_pkcs11 that a service block may hold.
type serviceRule struct {
	key string
	set func(g *Global, v schema.Values)
	// looser reports whether l, which has the block applied, lets in what e keeps out; nil: never.
	looser func(l, e *Global) bool
	// given reports whether an argument says the same: it counts before the block; nil: none does.
	given  func(a *Arguments) bool
	expect string // what the block may say
}

// strictFlag is the rule of a key of which one value is the stricter.
func strictFlag(key string, strict bool, of func(*Global) *bool) serviceRule {
	return serviceRule{
		key:    key,
		set:    func(g *Global, v schema.Values) { *of(g) = v.Bool(key) },
		looser: func(l, e *Global) bool { return *of(e) == strict && *of(l) != strict },
		expect: strconv.FormatBool(strict),
	}
}

// strictWord is the rule of a key of which one word is the strictest.
func strictWord(key, strict string, of func(*Global) *string) serviceRule {
	return serviceRule{
		key:    key,
		set:    func(g *Global, v schema.Values) { *of(g) = v.String(key) },
		looser: func(l, e *Global) bool { return *of(e) == strict && *of(l) != strict },
		expect: strict,
	}
}

// noLonger is the rule of a time.
func noLonger(key string, of func(*Global) *time.Duration) serviceRule {
	return serviceRule{
		key:    key,
		set:    func(g *Global, v schema.Values) { *of(g) = v.Duration(key) },
		looser: func(l, e *Global) bool { return *of(l) > *of(e) },
		expect: "no more than that",
	}
}

// eitherFlag is the rule of a key that makes nothing stricter: an argument counts before it.
func eitherFlag(key string, of func(*Global) *bool, argument func(*Arguments) *bool) serviceRule {
	return serviceRule{
		key:   key,
		set:   func(g *Global, v schema.Values) { *of(g) = v.Bool(key) },
		given: func(a *Arguments) bool { return argument(a) != nil },
	}
}

// more is the rule of a list to which a block adds.
func more(key string, of func(*Global) *[]string) serviceRule {
	return serviceRule{
		key: key,
		set: func(g *Global, v schema.Values) { *of(g) = slices.Concat(*of(g), v.List(key)) },
	}
}

var serviceRules = []serviceRule{
	strictFlag("card_only", true, func(g *Global) *bool { return &g.CardOnly }),
	strictWord("foreign_card", "refuse", func(g *Global) *string { return &g.ForeignCard }),
	strictWord("empty_pin", "error", func(g *Global) *string { return &g.EmptyPIN }),
	strictFlag("require_pin", true, func(g *Global) *bool { return &g.RequirePIN }),
	{
		key:    "pin_pattern",
		set:    func(g *Global, v schema.Values) { g.PINPattern = v.Pattern("pin_pattern") },
		looser: otherPattern,
		expect: "that of the file: which of two patterns allows more cannot be told",
	},
	strictWord("forward_pin", "off", func(g *Global) *string { return &g.ForwardPIN }),
	strictWord("remote_login", "refuse", func(g *Global) *string { return &g.RemoteLogin }),
	strictFlag("remote_login_hides", true, func(g *Global) *bool { return &g.RemoteLoginHides }),
	strictFlag("loopback_is_local", false, func(g *Global) *bool { return &g.LoopbackIsLocal }),
	eitherFlag("wait_for_card", func(g *Global) *bool { return &g.WaitForCard },
		func(a *Arguments) *bool { return a.WaitForCard }),
	noLonger("wait_for_card_timeout",
		func(g *Global) *time.Duration { return &g.WaitForCardTimeout }),
	noLonger("verify_timeout", func(g *Global) *time.Duration { return &g.VerifyTimeout }),
	{
		key: "err_display_time",
		set: func(g *Global, v schema.Values) { g.ErrDisplayTime = v.Duration("err_display_time") },
	},
	eitherFlag("quiet", func(g *Global) *bool { return &g.Quiet },
		func(a *Arguments) *bool { return a.Quiet }),
	eitherFlag("debug", func(g *Global) *bool { return &g.Debug },
		func(a *Arguments) *bool { return a.Debug }),
	more("card_required_users", func(g *Global) *[]string { return &g.Persons.Required.Users }),
	more("card_required_groups", func(g *Global) *[]string { return &g.Persons.Required.Groups }),
	{
		key: "card_others",
		set: func(g *Global, v schema.Values) { g.Persons.Others = v.String("card_others") },
		looser: func(l, e *Global) bool {
			return l.Persons.Others != "required" && l.Persons.Others != e.Persons.Others
		},
		expect: "required",
	},
}

// otherPattern reports whether a block has another pin_pattern: of two patterns nobody knows which
// is the narrower. One where there was none narrows what may be typed, and would let the secrets of
// earlier modules go to the card where the file asks for them.
func otherPattern(l, e *Global) bool {
	if e.PINPattern == nil {
		return l.PINPattern != nil && (e.UseFirstPass || e.TryFirstPass)
	}
	return l.PINPattern == nil || l.PINPattern.String() != e.PINPattern.String()
}

// serviceModuleRules are the keys of the blocks pkcs11_module that a service block may hold: it
// says them for all blocks.
var serviceModuleRules = []struct {
	key string
	set func(m *Module, v schema.Values) (problem string)
}{
	{"cert_policy", func(m *Module, v schema.Values) (problem string) {
		m.Policy, problem = m.Policy.withArgument(v.List("cert_policy"))
		if problem == "" {
			problem = m.Policy.problem()
		}
		return problem
	}},
	{"eku", func(m *Module, v schema.Values) string { m.EKU = ekuOf(v); return "" }},
	{"required_policies", func(m *Module, v schema.Values) string {
		m.Chain.RequiredPolicies = v.List("required_policies")
		return ""
	}},
	{"required_policies_match", func(m *Module, v schema.Values) string {
		m.Chain.RequireAllPolicies = v.String("required_policies_match") == "all"
		return ""
	}},
	{"revocation", func(m *Module, v schema.Values) string {
		m.SoftRevocation = v.String("revocation") == "soft"
		return ""
	}},
}

// Services are the PAM services that have a block, in the order of the file.
func (c *Config) Services() []Service {
	var all []Service
	for _, s := range c.services {
		for _, w := range s.names {
			all = append(all, Service{Name: w.Text, Line: w.Line, Col: w.Col})
		}
	}
	return all
}

// ForService is the configuration as it is for a PAM service. The error is an Errors: what a block
// asks for beside the module's arguments cannot be had.
func (c *Config) ForService(name string) (*Config, error) {
	for _, s := range c.services {
		if name != "" && s.has(name) {
			return c.with(s)
		}
	}
	return c, nil
}

// with is the configuration with a block applied, where no argument is stricter.
func (c *Config) with(s *service) (*Config, error) {
	conf := *c
	for _, rule := range serviceRules {
		if !s.values.Set(rule.key) || rule.given != nil && rule.given(c.arguments) {
			continue
		}

		// Tried on a copy: what an argument made stricter stays.
		stricter := conf.Global
		rule.set(&stricter, s.values)
		if rule.looser == nil || !rule.looser(&stricter, &conf.Global) {
			conf.Global = stricter
		}
	}

	// The file alone passed this check; together with the arguments it may not.
	at := s.values.Get("remote_login_hides").At
	if problem := conf.hidingProblem(); conf.Global.RemoteLoginHides && problem != "" {
		return nil, finding.Errors{s.fault(c.File, at, problem, "")}
	}

	conf.Modules = nil
	for _, m := range c.Modules {
		with, at, problem := s.onModule(m)

		if problem != "" {
			return nil, finding.Errors{s.fault(c.File, at, problem,
				"the arguments of the module's line count here too")}
		}
		conf.Modules = append(conf.Modules, with)
	}
	if c.block < len(conf.Modules) {
		conf.Module = *conf.Modules[c.block]
	}
	return &conf, nil
}

func (s *service) fault(file string, at scconf.Word, text, hint string) *finding.Error {
	return &finding.Error{
		File: file,
		Line: at.Line,
		Col:  at.Col,
		Text: s.title() + ": " + text,
		Hint: hint,
	}
}

// title is how messages name the block.
func (s *service) title() string { return "service " + finding.Clip(s.names[0].Text) }

// onModule is a block of cards with what the service says of certificates applied. problem says why
// that cannot be, and at is its place.
func (s *service) onModule(m *Module) (with *Module, at scconf.Word, problem string) {
	changed := *m
	for _, rule := range serviceModuleRules {
		if !s.values.Set(rule.key) {
			continue
		}
		at = s.values.Get(rule.key).At
		if problem := rule.set(&changed, s.values); problem != "" {
			return nil, at, problem
		}
	}

	// The same rules as between two blocks: m is what the file and the arguments make of it.
	for _, rule := range looserRules {
		if rule.looser(&changed, m) {
			// Otherwise another key made it less strict: the place stays that of the last key of
			// the block.
			if s.values.Has(rule.key) && s.values.Set(rule.key) {
				at = s.values.Get(rule.key).At
			}
			return nil, at, rule.key + " is less strict than for the cards of the block " +
				blockName(m)
		}
	}
	return &changed, at, ""
}

func blockName(m *Module) string {
	if m.Name == "" {
		return m.Path
	}
	return m.Name
}

// buildServices reads the service blocks, after everything else.
func (b *builder) buildServices(main *scconf.Block) {
	names := 0
	for _, it := range main.Items {
		if it.Block == nil || !scconf.SameKey(it.Key.Text, "service") {
			continue
		}

		s := &service{names: it.Names, values: b.Read(it.Block, &schema.Service)}
		names += len(it.Names)
		if names > maxServices {
			b.refuse(it.Key, fmt.Sprintf("more than %d services have blocks", maxServices), "")
			return
		}

		if b.serviceNames(it) {
			b.refuseLooserService(s)
			b.conf.services = append(b.conf.services, s)
		}
	}
}

// serviceNames looks at the names of a block, and reports whether it has any.
func (b *builder) serviceNames(it *scconf.Item) bool {
	if len(it.Names) == 0 {
		b.refuse(it.Key, "the block service has no name",
			"write service NAME { }, with the name of a file in /etc/pam.d")
		return false
	}

	for i, w := range it.Names {
		isFile := w.Text != "" && len(w.Text) <= maxServiceName && path.Base(w.Text) == w.Text &&
			w.Text[0] != '.'
		taken := func(s *service) bool { return s.has(w.Text) }
		before := func(o scconf.Word) bool { return scconf.SameKey(o.Text, w.Text) }

		switch {
		case !isFile:
			b.refuse(w, finding.Quote(w.Text)+" is no name of a PAM service",
				"it is that of a file in /etc/pam.d, such as sudo")
		case slices.ContainsFunc(b.conf.services, taken), slices.ContainsFunc(it.Names[:i], before):
			b.refuse(w, "a second block for the service "+w.Text, "put the settings together")
		}
	}
	return true
}

// refuseLooserService refuses what is less strict in a service block than in the file, whatever the
// arguments say.
func (b *builder) refuseLooserService(s *service) {
	file, err := b.written()
	if err != nil {
		return // an error of the file already
	}

	// Each key is compared alone; g collects all, for the checks of several keys together.
	g := file.Global
	for _, rule := range serviceRules {
		if !s.values.Set(rule.key) {
			continue
		}

		with := file.Global
		rule.set(&with, s.values)
		rule.set(&g, s.values)
		if rule.looser != nil && rule.looser(&with, &file.Global) {
			b.refuse(s.values.Get(rule.key).At,
				s.title()+": "+rule.key+" = "+show(s.values, rule.key)+
					" is less strict than the file, which says "+show(b.global, rule.key),
				"expected "+rule.expect+", or nothing")
		}
	}

	if text := b.screenSaverProblem(s, &g, &file.Global); text != "" {
		b.refuse(s.values.Get("card_only").At, text, "take the service out of screen_savers")
	}

	file.Global = g
	written := s.values.Set("remote_login_hides")
	if text := file.hidingProblem(); g.RemoteLoginHides && written && text != "" {
		b.refuse(s.values.Get("remote_login_hides").At, s.title()+": "+text, "")
	}

	for _, m := range file.Modules {
		if _, at, problem := s.onModule(m); problem != "" {
			b.refuse(at, s.title()+": "+problem, "expected what is as strict as there, or nothing")
			return
		}
	}
}

// screenSaverProblem is the reason for which card_only cannot be set for a service: it lets the
// services of screen_savers pass without an answer. It is "" where there is none.
func (b *builder) screenSaverProblem(s *service, with, file *Global) string {
	if !with.CardOnly || file.CardOnly {
		return ""
	}

	for _, name := range file.ScreenSavers {
		if s.has(name) {
			return s.title() + ": card_only = true makes screen_savers count, by which " + name +
				" may pass without a card"
		}
	}
	return ""
}

// show is a value as it is written, or its default.
func show(v schema.Values, key string) string {
	value := v.Get(key)
	if len(value.Texts) > 0 {
		return strings.Join(value.Texts, ", ")
	}
	return "nothing"
}

// errUnread is the error of a file of which a block in use could not be read.
var errUnread = errors.New("a block cannot be read")

// written is the configuration without the arguments, as far as service blocks are compared with
// it.
func (b *builder) written() (*Config, error) {
	if b.conf == nil || len(b.conf.Modules) == 0 {
		return nil, errUnread
	}

	// buildGlobal applies the arguments: none are given to a copy of the builder.
	plain := *b
	plain.args = &Arguments{}

	file := *b.conf
	file.Global = plain.buildGlobal()
	file.Modules = nil
	for i, m := range b.conf.Modules {
		module := *m
		policy, problem := newPolicy(b.conf.blocks[i].Get("cert_policy").Texts)
		if problem != "" {
			return nil, errUnread
		}
		module.Policy = policy
		file.Modules = append(file.Modules, &module)
	}

	return &file, nil
}
