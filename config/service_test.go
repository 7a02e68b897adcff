package config_test

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"pam_pkcs11/config"
	"pam_pkcs11/config/internal/schema"
)

// serviceFile is a file with settings, a block of cards and the block of the service sudo.
func serviceFile(global, module, service string) string {
	return "pam_pkcs11 {\n" + global + "\nuse_mappers = cn;\npkcs11_module default { module = /x.so; " + module + " }\nservice sudo, su {\n" + service + "\n}\n}\n"
}

// forService reads a file with arguments, as it is for a service.
func forService(text, name string, arguments ...string) (*config.Config, error) {
	args, _, err := config.ParseArguments(arguments)
	if err != nil {
		return nil, err
	}
	c, err := config.Parse("f.conf", []byte(text), args)
	if err != nil {
		return nil, err
	}
	return c.ForService(name)
}

// TestServiceKeys: each key of the schema's table is obeyed, and there are no others.
func TestServiceKeys(t *testing.T) {
	var known []string
	for _, rule := range config.ServiceRules() {
		known = append(known, rule.Key)
	}
	known = append(known, config.ServiceModuleKeys()...)
	if got := strings.Join(schema.Service.Names(), " "); got != strings.Join(known, " ") {
		t.Errorf("the table of the schema has\n%s\nand the rules\n%s", got, strings.Join(known, " "))
	}
	for _, rule := range config.ServiceRules() {
		if rule.Looser != nil && rule.Expect == "" {
			t.Errorf("%s: nothing says what is expected", rule.Key)
		}
	}
}

// TestServiceIsStricter: what a block says counts for its services, and for no other.
func TestServiceIsStricter(t *testing.T) {
	const crl = "cert_policy = ca, signature, crl_auto;"
	for _, row := range []struct {
		global, module, service string
		of                      func(*config.Config) any
		want                    any
	}{
		{service: "card_only = true;", of: func(c *config.Config) any { return c.Global.CardOnly }, want: true},
		{
			global: "foreign_card = skip;", service: "foreign_card = refuse;",
			of: func(c *config.Config) any { return c.Global.ForeignCard }, want: "refuse",
		},
		{
			global: "empty_pin = fallback;", service: "empty_pin = error;",
			of: func(c *config.Config) any { return c.Global.EmptyPIN }, want: "error",
		},
		{
			global: "require_pin = false;", service: "require_pin = true;",
			of: func(c *config.Config) any { return c.Global.RequirePIN }, want: true,
		},
		{service: `pin_pattern = "[0-9]+";`, of: func(c *config.Config) any { return c.Global.PINPattern.String() }, want: `\A(?:[0-9]+)\z`},
		{
			global: "forward_pin = success;", service: "forward_pin = off;",
			of: func(c *config.Config) any { return c.Global.ForwardPIN }, want: "off",
		},
		{
			global: "remote_login = allow;", service: "remote_login = refuse;",
			of: func(c *config.Config) any { return c.Global.RemoteLogin }, want: "refuse",
		},
		{
			global: "remote_login = allow;", service: "remote_login_hides = true;",
			of: func(c *config.Config) any { return c.Global.RemoteLoginHides }, want: true,
		},
		{
			global: "loopback_is_local = true;", service: "loopback_is_local = no;",
			of: func(c *config.Config) any { return c.Global.LoopbackIsLocal }, want: false,
		},
		{service: "wait_for_card = true;", of: func(c *config.Config) any { return c.Global.WaitForCard }, want: true},
		{
			global: "wait_for_card = true;", service: "wait_for_card = false;",
			of: func(c *config.Config) any { return c.Global.WaitForCard }, want: false,
		},
		{service: "wait_for_card_timeout = 20;", of: func(c *config.Config) any { return c.Global.WaitForCardTimeout }, want: 20 * time.Second},
		{service: "verify_timeout = 3;", of: func(c *config.Config) any { return c.Global.VerifyTimeout }, want: 3 * time.Second},
		{service: "err_display_time = 5;", of: func(c *config.Config) any { return c.Global.ErrDisplayTime }, want: 5 * time.Second},
		{
			global: "quiet = true;", service: "quiet = false;",
			of: func(c *config.Config) any { return c.Global.Quiet }, want: false,
		},
		{service: "debug = true;", of: func(c *config.Config) any { return c.Global.Debug }, want: true},
		{
			global: "card_required_users = a;", service: "card_required_users = b;",
			of:   func(c *config.Config) any { return c.Global.Persons.Required.Users },
			want: "[a b]",
		},
		{service: `card_required_groups = "domain users", b;`, of: func(c *config.Config) any { return c.Global.Persons.Required.Groups }, want: "[domain users b]"},
		{
			global: "card_others = optional;", service: "card_others = required;",
			of: func(c *config.Config) any { return c.Global.Persons.Others }, want: "required",
		},
		{
			module: crl, service: "cert_policy = crl_online;",
			of: func(c *config.Config) any { return c.Module.Policy.CRL }, want: "online",
		},
		{service: "cert_policy = ocsp_on, crl_auto;", of: func(c *config.Config) any { return c.Modules[0].Policy }, want: "{true true auto true}"},
		{service: "eku = clientAuth;", of: func(c *config.Config) any { return c.Module.EKU.Required }, want: "[1.3.6.1.5.5.7.3.2]"},
		{
			module: "eku = ignore;", service: "eku = emailProtection;",
			of: func(c *config.Config) any { return c.Module.EKU.Ignore }, want: false,
		},
		{service: "required_policies = 1.2.3;", of: func(c *config.Config) any { return c.Module.Chain.RequiredPolicies }, want: "[1.2.3]"},
		{
			module:  "required_policies = 1.2, 1.3;",
			service: "required_policies = 1.2, 1.3; required_policies_match = all;",
			of:      func(c *config.Config) any { return c.Module.Chain.RequireAllPolicies }, want: true,
		},
		{
			module: crl + "revocation = soft;", service: "revocation = hard;",
			of: func(c *config.Config) any { return c.Module.SoftRevocation }, want: false,
		},
	} {
		text := serviceFile(row.global, row.module, row.service)
		without := parsed(t, serviceFile(row.global, row.module, ""))
		for name, own := range map[string]bool{"sudo": true, "SU": true, "login": false, "": false} {
			c, err := forService(text, name)
			if err != nil {
				t.Errorf("%s, %s: %v", row.service, name, err)
				continue
			}
			got, want := c, without
			if own {
				if value := fmt.Sprint(row.of(got)); value != fmt.Sprint(row.want) {
					t.Errorf("%s, %s: %s, want %v", row.service, name, value, row.want)
				}
				continue
			}
			if !reflect.DeepEqual(got.Global, want.Global) || !reflect.DeepEqual(got.Modules, want.Modules) {
				t.Errorf("%s counts for %q too", row.service, name)
			}
		}
	}
}

// TestLooserServices: a block that is less strict than the file is an error, with its place, the value and what is
// expected.
func TestLooserServices(t *testing.T) {
	const status = "cert_policy = ca, signature, crl_auto, ocsp_on;"
	for _, row := range []struct{ global, module, service, want string }{
		{"card_only = true;", "", "card_only = false;", "f.conf:6:13: service sudo: card_only = false is less strict than the file, which says true (expected true, or nothing)"},
		{"", "", "foreign_card = skip;", "f.conf:6:16: service sudo: foreign_card = skip is less strict than the file, which says refuse (expected refuse, or nothing)"},
		{"", "", "empty_pin = fallback;", "which says error"},
		{"", "", "require_pin = false;", "which says true"},
		{`pin_pattern = "[0-9]+";`, "", `pin_pattern = ".+";`, "of two patterns"},
		{"try_first_pass = true;", "", `pin_pattern = ".+";`, "which says nothing"},
		{"", "", "forward_pin = success;", "which says off"},
		{"", "", "remote_login = allow;", "which says refuse"},
		{"remote_login = allow; remote_login_hides = true;", "", "remote_login_hides = false;", "which says true"},
		{"remote_login = allow; foreign_card = skip;", "", "remote_login_hides = true;", "remote_login_hides = true contradicts foreign_card = skip"},
		{"remote_login = allow; card_optional_users = a;", "", "remote_login_hides = true;", "contradicts card_optional_users"},
		{"", "", "loopback_is_local = true;", "which says false"},
		{"", "", "wait_for_card_timeout = 61;", "which says 60 (expected no more than that, or nothing)"},
		{"verify_timeout = 5;", "", "verify_timeout = 6;", "which says 5"},
		{"", "", "card_others = forbidden;", "which says configured (expected required"},
		{"", "", "card_others = optional;", "which says configured"},
		{"card_others = required;", "", "card_others = configured;", "which says required"},
		{"screen_savers = su;", "", "card_only = true;", "makes screen_savers count, by which su may pass"},
		{"", "", "cert_policy = none;", "f.conf:6:15: service sudo: cert_policy is less strict than for the cards of the block default"},
		{"", "", "cert_policy = no_signature;", "cert_policy is less strict"},
		{"", "cert_policy = ca, ocsp_on;", "cert_policy = crl_auto;", "cert_policy is less strict"},
		{"", "cert_policy = ca, crl_online;", "cert_policy = crl_offline;", "cert_policy is less strict"},
		{"", "cert_policy = signature;", "cert_policy = ocsp_on;", "ocsp_on needs ca"},
		{"", "", "eku = ignore;", "eku is less strict"},
		{"", "eku = clientAuth;", "eku = smartcardLogon;", "eku is less strict"},
		{"", "required_policies = 1.2;", "required_policies = 1.3;", "required_policies is less strict"},
		{"", "required_policies = 1.2, 1.3; required_policies_match = all;", "required_policies_match = any;", "required_policies is less strict"},
		{"", "required_policies = 1.2, 1.3; required_policies_match = all;", "required_policies = 1.2, 1.3, 1.4; required_policies_match = any;", "required_policies is less strict"},
		{"", status, "revocation = soft;", "revocation is less strict"},

		{"", "", "ca_dir = /tmp;", `f.conf:6:1: unknown key "ca_dir" in service (it belongs in a block pkcs11_module)`},
		{"", "", "allow_unknown_user = true;", `unknown key "allow_unknown_user" in service (it belongs in a block pam_pkcs11)`},
		{"", "", "card_forbidden_users = a;", `unknown key "card_forbidden_users" in service`},
		{"", "", "pkcs11_module x { }", `unknown block "pkcs11_module"`},
		{"service su { }", "", "", "a second block for the service su"},
		{"service { }", "", "", "the block service has no name"},
		{`service "../x" { }`, "", "", `"../x" is no name of a PAM service`},
		{"service a, a { }", "", "", "a second block for the service a"},
	} {
		// The error does not depend on the arguments, which config check does not know.
		for _, arguments := range [][]string{nil, {"card_only", "quiet", "skip_foreign", "empty_pin=fallback"}} {
			if strings.Contains(row.global, "hides") && arguments != nil || strings.Contains(row.service, "hides") && arguments != nil {
				continue
			}
			_, err := forService(serviceFile(row.global, row.module, row.service), "login", arguments...)
			if err == nil || !strings.Contains(err.Error(), row.want) {
				t.Errorf("%s %s %s: error %v, want %s", row.global, row.module, row.service, err, row.want)
			}
		}
	}
}

// TestServicesAndArguments: of a block and an argument the stricter counts, and the argument where neither is.
func TestServicesAndArguments(t *testing.T) {
	for _, row := range []struct {
		service  string
		argument string
		of       func(*config.Config) any
		want     any
	}{
		{"card_only = false;", "card_only", func(c *config.Config) any { return c.Global.CardOnly }, true},
		{"foreign_card = refuse;", "skip_foreign", func(c *config.Config) any { return c.Global.ForeignCard }, "refuse"},
		{"", "skip_foreign", func(c *config.Config) any { return c.Global.ForeignCard }, "skip"},
		{"empty_pin = error;", "empty_pin=fallback", func(c *config.Config) any { return c.Global.EmptyPIN }, "error"},
		{"", "empty_pin=fallback", func(c *config.Config) any { return c.Global.EmptyPIN }, "fallback"},
		{"quiet = false;", "quiet", func(c *config.Config) any { return c.Global.Quiet }, true},
		{"debug = true;", "nodebug", func(c *config.Config) any { return c.Global.Debug }, false},
		{"wait_for_card = true;", "dont_wait_for_card", func(c *config.Config) any { return c.Global.WaitForCard }, false},
		{"cert_policy = crl_auto;", "cert_policy=crl_online", func(c *config.Config) any { return c.Module.Policy.CRL }, "error"},
		{"cert_policy = crl_auto;", "cert_policy=none", func(c *config.Config) any { return c.Module.Policy }, "error"},
		{"cert_policy = ca;", "cert_policy=none", func(c *config.Config) any { return c.Module.Policy.CA }, true},
	} {
		got := "error"
		if c, err := forService(serviceFile("", "", row.service), "sudo", row.argument); err == nil {
			got = fmt.Sprint(row.of(c))
		} else {
			t.Log(err)
		}
		if got != fmt.Sprint(row.want) {
			t.Errorf("%s with %s: %s, want %v", row.service, row.argument, got, row.want)
		}
	}
}

// TestServicesOfSeveralBlocks: a service block is about all blocks of cards.
func TestServicesOfSeveralBlocks(t *testing.T) {
	c, err := forService(blocks("a, b", "pkcs11_module a { module = /a.so; }\npkcs11_module b { module = /b.so; cert_policy = ca, crl_auto; }\nservice sudo { cert_policy = crl_online; }"), "sudo")
	if err != nil {
		t.Fatal(err)
	}
	for i := range c.Modules {
		if got := c.Block(i).Module.Policy.CRL; got != "online" {
			t.Errorf("block %d: %q", i, got)
		}
	}
	want := []config.Service{{"sudo", 6, 9}}
	if got := c.Services(); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("services %v, want %v", got, want)
	}
}

func TestPersons(t *testing.T) {
	p := parsed(t, minimal(`card_required_users = alice, "EXAMPLE\bob"; card_required_groups = "domain users"; card_forbidden_groups = breakglass; card_others = optional;`, "", "")).Global.Persons
	if got := fmt.Sprint(p); got != `{{[alice EXAMPLE\bob] [domain users]} {[] []} {[] [breakglass]} optional}` {
		t.Error(got)
	}
	if p.Empty() || !p.Requires() || !p.Forbids() || !p.Allows() {
		t.Errorf("%+v", p)
	}
	if p := parsed(t, minimal("", "", "")).Global.Persons; !p.Empty() || p.Requires() || p.Forbids() || p.Allows() {
		t.Errorf("nothing is said: %+v", p)
	}
	for words, want := range map[string]string{
		"card_required_users = *;":      "card_others says what holds for those in no list",
		"card_required_users = ALL;":    "card_others says",
		"card_required_users = @staff;": "the keys that end with _groups",
		"card_required_users = %staff;": "the keys that end with _groups",
		`card_required_users = "a:b";`:  "cannot be the name",
		`card_required_users = "";`:     "is no name",
		`card_required_users = " a";`:   "is no name",
		"card_others = must;":           "one of configured, required, optional, forbidden",
		"remote_login = allow; remote_login_hides = true; card_others = optional;": "contradicts card_optional_users",
	} {
		if _, err := config.Parse("f.conf", []byte(minimal(words, "", "")), nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want %s", words, err, want)
		}
	}
}
