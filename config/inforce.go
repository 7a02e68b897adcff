package config

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"pam_pkcs11/config/internal/scconf"
	"pam_pkcs11/config/internal/schema"
	"pam_pkcs11/config/mappers"
)

// Origin is where a value in force comes from.
type Origin string

// The origins.
const (
	FromDefault  Origin = "default"  // nothing is written
	FromFile     Origin = "file"     // the file, at Line
	FromArgument Origin = "argument" // an argument of the module's line
	FromService  Origin = "service"  // the block of the PAM service, at Line
	FromUser     Origin = "user"     // what the lists of the file say of the user
	Derived      Origin = "derived"  // nothing is written, and it follows from other keys
)

// Setting is a key with the value that is in force.
type Setting struct {
	Key    string
	Values []string // as one would write them; none where the key is empty
	Origin Origin
	Line   int // of the file, 1-based; 0 where it is not written there
}

// String is the setting as a line of a configuration file.
func (s Setting) String() string {
	if len(s.Values) == 0 {
		return s.Key + " = ;"
	}
	return s.Key + " = " + scconf.QuoteValues(s.Values) + ";"
}

// Head is how the block begins in a configuration file, without the brace.
func (s Settings) Head() string {
	head := s.Kind
	for _, name := range s.Names {
		head += " " + scconf.QuoteValues([]string{name})
	}
	return head
}

// Settings are those of a block that is in use, in the order of the manual page.
type Settings struct {
	Kind     string   // of the block: pam_pkcs11, pkcs11_module, mapper, rule, service
	Names    []string // several only of a service
	Settings []Setting
	Blocks   []Settings // in it
}

// changeable is a key of which the value in force may be another than the file's: an argument, the
// block of the service or the user may change it.
type changeable struct {
	key      string
	value    func(*Config) []string // of a key of pkcs11_module: that of the block Module
	argument func(*Arguments) bool  // whether an argument says it; nil: none can
}

func flagInForce(key string, of func(*Config) bool, argument func(*Arguments) *bool) changeable {
	c := changeable{key: key,
		value: func(c *Config) []string { return []string{strconv.FormatBool(of(c))} }}
	if argument != nil {
		c.argument = func(a *Arguments) bool { return argument(a) != nil }
	}
	return c
}

func wordInForce(
	key string, of func(*Config) string, argument func(*Arguments) *string,
) changeable {
	c := changeable{key: key, value: func(c *Config) []string { return notEmpty(of(c)) }}
	if argument != nil {
		c.argument = func(a *Arguments) bool { return argument(a) != nil }
	}
	return c
}

func timeInForce(key string, of func(*Config) time.Duration) changeable {
	return changeable{key: key,
		value: func(c *Config) []string { return []string{strconv.Itoa(int(of(c) / time.Second))} }}
}

func listInForce(key string, of func(*Config) []string) changeable {
	return changeable{key: key, value: of}
}

func notEmpty(text string) []string {
	if text == "" {
		return nil
	}
	return []string{text}
}

var changeableGlobals = []changeable{
	{
		key: "use_pkcs11_module",
		value: func(c *Config) []string {
			var names []string
			for _, m := range c.Modules {
				names = append(names, m.Name)
			}
			return names
		},
		argument: func(a *Arguments) bool { return a.PKCS11Module != "" && !a.namesLibrary() },
	},
	flagInForce("nullok", func(c *Config) bool { return c.Global.NullOK },
		func(a *Arguments) *bool { return a.NullOK }),
	flagInForce("debug", func(c *Config) bool { return c.Global.Debug },
		func(a *Arguments) *bool { return a.Debug }),
	flagInForce("quiet", func(c *Config) bool { return c.Global.Quiet },
		func(a *Arguments) *bool { return a.Quiet }),
	timeInForce("err_display_time",
		func(c *Config) time.Duration { return c.Global.ErrDisplayTime }),
	flagInForce("use_first_pass", func(c *Config) bool { return c.Global.UseFirstPass },
		func(a *Arguments) *bool { return a.UseFirstPass }),
	flagInForce("try_first_pass", func(c *Config) bool { return c.Global.TryFirstPass },
		func(a *Arguments) *bool { return a.TryFirstPass }),
	flagInForce("card_only", func(c *Config) bool { return c.Global.CardOnly },
		func(a *Arguments) *bool { return a.CardOnly }),
	flagInForce("wait_for_card", func(c *Config) bool { return c.Global.WaitForCard },
		func(a *Arguments) *bool { return a.WaitForCard }),
	timeInForce("wait_for_card_timeout",
		func(c *Config) time.Duration { return c.Global.WaitForCardTimeout }),
	listInForce("screen_savers", func(c *Config) []string { return c.Global.ScreenSavers }),
	{key: "pin_pattern", value: func(c *Config) []string { return patternInForce(&c.Global) }},
	wordInForce("empty_pin", func(c *Config) string { return c.Global.EmptyPIN },
		func(a *Arguments) *string { return a.EmptyPIN }),
	flagInForce("require_pin", func(c *Config) bool { return c.Global.RequirePIN }, nil),
	wordInForce("forward_pin", func(c *Config) string { return c.Global.ForwardPIN }, nil),
	wordInForce("remote_login", func(c *Config) string { return c.Global.RemoteLogin }, nil),
	flagInForce("remote_login_hides", func(c *Config) bool { return c.Global.RemoteLoginHides },
		nil),
	flagInForce("loopback_is_local", func(c *Config) bool { return c.Global.LoopbackIsLocal }, nil),
	{
		key:      "foreign_card",
		value:    func(c *Config) []string { return []string{c.Global.ForeignCard} },
		argument: func(a *Arguments) bool { return a.SkipForeign != nil },
	},
	timeInForce("verify_timeout", func(c *Config) time.Duration { return c.Global.VerifyTimeout }),
	listInForce("card_required_users",
		func(c *Config) []string { return c.Global.Persons.Required.Users }),
	listInForce("card_required_groups",
		func(c *Config) []string { return c.Global.Persons.Required.Groups }),
	wordInForce("card_others", func(c *Config) string { return c.Global.Persons.Others }, nil),
}

var changeableModules = []changeable{
	{
		key:      "module",
		value:    func(c *Config) []string { return []string{c.Module.written()} },
		argument: (*Arguments).namesLibrary,
	},
	{
		key:      "slot_num",
		value:    func(c *Config) []string { return []string{strconv.Itoa(c.Module.SlotNum)} },
		argument: func(a *Arguments) bool { return a.SlotNum != nil },
	},
	wordInForce("slot_description", func(c *Config) string { return c.Module.SlotDescription },
		func(a *Arguments) *string { return a.SlotDescription }),
	wordInForce("token_type", func(c *Config) string { return c.Module.TokenType },
		func(a *Arguments) *string { return a.TokenType }),
	wordInForce("ca_dir", func(c *Config) string { return c.Module.CADir },
		func(a *Arguments) *string { return a.CADir }),
	wordInForce("crl_dir", func(c *Config) string { return c.Module.CRLDir },
		func(a *Arguments) *string { return a.CRLDir }),
	wordInForce("card_access", func(c *Config) string { return c.Module.CardAccess }, nil),
	{
		key:      "cert_policy",
		value:    func(c *Config) []string { return c.Module.Policy.words() },
		argument: func(a *Arguments) bool { return len(a.CertPolicy) > 0 },
	},
	listInForce("eku", func(c *Config) []string { return c.Module.EKU.words() }),
	listInForce("required_policies",
		func(c *Config) []string { return c.Module.Chain.RequiredPolicies }),
	wordInForce("required_policies_match", func(c *Config) string {
		if c.Module.Chain.RequireAllPolicies {
			return "all"
		}
		return "any"
	}, nil),
	wordInForce("revocation", func(c *Config) string {
		if c.Module.SoftRevocation {
			return "soft"
		}
		return "hard"
	}, nil),
	listInForce("crl_ldap_server", func(c *Config) []string { return c.Module.CRL.LDAPServers }),
}

// namesLibrary reports whether an argument names a PKCS#11 library by its path.
func (a *Arguments) namesLibrary() bool { return strings.Contains(a.PKCS11Module, "/") }

// written is the source of the cards as the key module has it.
func (m *Module) written() string {
	if m.Builtin {
		return builtin
	}
	return m.Path
}

// words are those of cert_policy that say the same.
func (p Policy) words() []string {
	var words []string
	if p.CA {
		words = append(words, "ca")
	}
	if p.OCSP {
		words = append(words, "ocsp_on")
	}
	if p.CRL != "" {
		words = append(words, "crl_"+p.CRL)
	}

	switch {
	case !p.Signature:
		return append(words, "no_signature")
	case len(words) == 0:
		return []string{"none"} // but for the signature, which is always asked for
	}
	return append(words, "signature")
}

// words are those of eku that say the same, by their object identifiers.
func (e EKU) words() []string {
	if e.Ignore {
		return []string{"ignore"}
	}
	return e.Required
}

// patternInForce is pin_pattern as it is written.
func patternInForce(g *Global) []string {
	if g.PINPattern == nil {
		return nil
	}
	return []string{schema.PatternText(g.PINPattern)}
}

// InForce gives every key of the blocks in use with the value that a login goes by, and where it
// comes from: c is what was loaded, service the PAM service ("" for none), and final what
// ForService made of c and then, where a user is known, WithCard or WithOrWithoutCard. Without a
// service the blocks of all services stand behind the others.
func (c *Config) InForce(service string, final *Config) []Settings {
	f := inForce{loaded: c, ofService: c, final: final}
	for _, s := range c.services {
		if service != "" && s.has(service) {
			f.service = s
			if with, err := c.with(s); err == nil {
				f.ofService = with
			}
		}
	}

	main := Settings{Kind: schema.Global.Block,
		Settings: f.block(c.global, &schema.Global, changeableGlobals)}
	for i, m := range c.Modules {
		of := inForce{
			loaded:    c.Block(i),
			ofService: f.ofService.Block(i),
			final:     final.Block(i),
			service:   f.service,
		}
		settings := of.block(c.blocks[i], &schema.Module, changeableModules)
		if !m.Builtin {
			settings = slices.DeleteFunc(settings,
				func(s Setting) bool { return strings.HasPrefix(s.Key, "piv_") })
		}
		main.Blocks = append(main.Blocks,
			Settings{Kind: schema.Module.Block, Names: notEmpty(m.Name), Settings: settings})
	}
	for _, m := range c.Mappers {
		main.Blocks = append(main.Blocks, m.inForce())
	}

	if service == "" {
		for _, s := range c.services {
			main.Blocks = append(main.Blocks, s.asWritten())
		}
	}
	return []Settings{main}
}

// inForce is one configuration at three stages: with the arguments, with the block of the service
// too, and with what the user is.
type inForce struct {
	loaded, ofService, final *Config
	service                  *service // nil: none
}

// block gives the settings of a block.
func (f *inForce) block(written schema.Values, t *schema.Table, others []changeable) []Setting {
	var all []Setting
	for _, k := range t.Keys {
		if k.Status == schema.NoEffect {
			continue
		}

		s := settingOf(written, &k)
		i := slices.IndexFunc(others, func(o changeable) bool { return o.key == k.Name })
		if i >= 0 {
			f.change(&s, others[i])
		}
		all = append(all, s)
	}
	return all
}

// change finds out whether a value is another than the file's, and why.
func (f *inForce) change(s *Setting, o changeable) {
	before := o.value(f.loaded)
	with := o.value(f.ofService)
	end := o.value(f.final)

	// The last stage that changed the value is its origin.
	switch {
	case !slices.Equal(end, with):
		s.Values = end
		s.Origin = FromUser
		s.Line = 0
	case !slices.Equal(with, before):
		s.Values = with
		s.Origin = FromService
		s.Line = f.service.values.Get(o.key).At.Line
	case o.argument != nil && o.argument(f.loaded.arguments):
		s.Values = before
		s.Origin = FromArgument
		s.Line = 0
	case s.Origin == FromDefault && !slices.Equal(before, s.Values):
		s.Values = before
		if len(before) > 0 {
			s.Origin = Derived
		}
	}
}

// settingOf is a key as the file has it, or its default.
func settingOf(written schema.Values, k *schema.Key) Setting {
	v := written.Get(k.Name)
	s := Setting{Key: k.Name, Values: k.Written(v), Origin: FromDefault}
	if v.Set {
		s.Origin, s.Line = FromFile, v.At.Line
	}
	return s
}

// inForce is the block of a mapper. Nothing but the file and its defaults says what is in it.
func (m Mapper) inForce() Settings {
	block := Settings{Kind: "mapper", Names: []string{m.Name}}
	t := schema.Mapper(m.Type)
	for _, k := range t.Keys {
		if k.Status == schema.NoEffect {
			continue
		}
		s := settingOf(m.Values, &k)
		if value, derived := m.derived(k.Name); derived && s.Origin == FromDefault &&
			!slices.Equal(value, s.Values) {
			s.Values, s.Origin = value, Derived
		}
		block.Settings = append(block.Settings, s)
	}

	for _, r := range m.Rules {
		rule := Settings{Kind: "rule", Names: notEmpty(r.Name)}
		for _, k := range schema.Rule.Keys {
			rule.Settings = append(rule.Settings, settingOf(r.Values, &k))
		}
		block.Blocks = append(block.Blocks, rule)
	}
	return block
}

// derived is the value of a key of a mapper that may follow from others.
func (m Mapper) derived(key string) (values []string, derived bool) {
	if key == "type" && !scconf.SameKey(m.Name, m.Type) {
		return []string{m.Type}, true
	}
	s, isLDAP := m.Settings.(mappers.LDAP)
	if !isLDAP || !s.Windows {
		return nil, false
	}

	switch key {
	case "filter":
		return notEmpty(s.Filter), true
	case "scope":
		return []string{strconv.Itoa(s.Scope)}, true
	case "uid_attribute":
		return notEmpty(s.UIDAttribute), true
	case "attribute_map":
		for _, e := range s.AttributeMap {
			values = append(values, e.Text)
		}
		return values, true
	}
	return nil, false
}

// asWritten is the block of a service with what it says.
func (s *service) asWritten() Settings {
	block := Settings{Kind: schema.Service.Block}
	for _, w := range s.names {
		block.Names = append(block.Names, w.Text)
	}
	for _, k := range schema.Service.Keys {
		if s.values.Set(k.Name) {
			block.Settings = append(block.Settings, settingOf(s.values, &k))
		}
	}
	return block
}
