package config

import (
	"reflect"
	"slices"
	"strings"
	"testing"

	"pam_pkcs11/config/internal/schema"
)

const inForceFile = `pam_pkcs11 {
  use_mappers = digest, dir, certmap;
  use_pkcs11_module = builtin, lib;
  card_others = optional;
  pin_pattern = "[0-9]{6}|a";
  pkcs11_module builtin { cert_policy = ca, crl_auto; eku = smartcardLogon; }
  pkcs11_module lib {
    module = /usr/lib/lib.so;
    slot_num = 0x2;
    cert_policy = ca, crl_auto, signature;
    eku = smartcardLogon;
  }
  mapper digest { mapfile = /etc/map; algorithm = "SHA-256"; }
  mapper dir { type = ldap; uri = "ldap://a ldap://b"; active_directory = yes; base = "DC=a,DC=b"; scope = sub; }
  mapper certmap { rule alice { match = "<SUBJECT>CN=a"; } rule { priority = 5; match = "<SUBJECT>b"; } }
  service sudo su {
    card_only = true;
    foreign_card = refuse;
    cert_policy = crl_online;
    card_required_groups = wheel;
    err_display_time = 3;
  }
}
`

// asFile writes blocks as a configuration file.
func asFile(blocks []Settings, indent string) string {
	var b strings.Builder
	for _, block := range blocks {
		b.WriteString(indent + strings.TrimSpace(block.Kind+" "+strings.Join(block.Names, " ")) + " {\n")
		for _, s := range block.Settings {
			b.WriteString(indent + "  " + s.String() + "\n")
		}
		b.WriteString(asFile(block.Blocks, indent+"  ") + indent + "}\n")
	}
	return b.String()
}

func find(t *testing.T, blocks []Settings, kind, name, key string) Setting {
	t.Helper()
	for _, b := range append(slices.Clone(blocks), blocks[0].Blocks...) {
		if b.Kind != kind || strings.Join(b.Names, " ") != name {
			continue
		}
		for _, s := range b.Settings {
			if s.Key == key {
				return s
			}
		}
	}
	t.Fatalf("no key %s in %s %s", key, kind, name)
	return Setting{}
}

func parsedWith(t *testing.T, text string, words ...string) *Config {
	t.Helper()
	args, _, err := ParseArguments(words)
	if err != nil {
		t.Fatal(err)
	}
	c, err := Parse("f.conf", []byte(text), args)
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	return c
}

// TestInForceIsWhatIsRead: all that is shown, written into a file, is the same configuration again.
func TestInForceIsWhatIsRead(t *testing.T) {
	files := map[string]string{"all kinds": inForceFile, "Debian": string(readDebianExample(t))}
	for _, name := range []string{"old-example-0.6.9.conf", "ubuntu-guide.conf", "stig-offline.conf", "redhat-guide.conf"} {
		files[name] = string(testdata(t, name))
	}
	for name, file := range files {
		for _, words := range [][]string{nil, {"skip_foreign", "cert_policy=ocsp_on", "ca_dir=/x", "debug", "token_type=Card of mine"}} {
			c := parsedWith(t, file, words...)
			shown := asFile(c.InForce("", c), "")
			again := parsedWith(t, shown)

			if !reflect.DeepEqual(c.Global, again.Global) {
				t.Errorf("%s %v:\n%+v\n%+v", name, words, c.Global, again.Global)
			}
			for i, m := range c.Modules {
				m.Description = ""
				if !reflect.DeepEqual(m, again.Modules[i]) {
					t.Errorf("%s %v:\n%+v\n%+v", name, words, m, again.Modules[i])
				}
			}
			for i, m := range c.Mappers {
				if o := again.Mappers[i]; m.Type != "certmap" && !reflect.DeepEqual(m.Settings, o.Settings) && !sameLDAP(m, o) {
					t.Errorf("%s %v: mapper %s:\n%+v\n%+v", name, words, m.Name, m.Settings, o.Settings)
				}
			}
			if len(c.Services()) != len(again.Services()) {
				t.Errorf("%s: services %v", name, again.Services())
			}
		}
	}
}

// sameLDAP: that uid_attribute was not written is the only thing that is shown otherwise.
func sameLDAP(a, b Mapper) bool {
	return a.Type == "ldap" && strings.Contains(asFile([]Settings{a.inForce()}, ""), strings.TrimSpace(asFile([]Settings{b.inForce()}, "")))
}

// TestOrigins: where each kind of value comes from.
func TestOrigins(t *testing.T) {
	c := parsedWith(t, inForceFile, "skip_foreign", "token_type=Card", "quiet", "ca_dir=/etc/pam_pkcs11/cacerts")
	sudo, err := c.ForService("SUDO")
	if err != nil {
		t.Fatal(err)
	}

	all := c.InForce("", c)
	service := c.InForce("SUDO", sudo)
	user := c.InForce("sudo", sudo.WithOrWithoutCard())
	for _, row := range []struct {
		blocks          []Settings
		kind, name, key string
		want            Setting
	}{
		{all, "pam_pkcs11", "", "use_mappers", Setting{Values: []string{"digest", "dir", "certmap"}, Origin: FromFile, Line: 2}},
		{all, "pam_pkcs11", "", "nullok", Setting{Values: []string{"false"}, Origin: FromDefault}},
		{all, "pam_pkcs11", "", "pin_pattern", Setting{Values: []string{"[0-9]{6}|a"}, Origin: FromFile, Line: 5}},
		{all, "pam_pkcs11", "", "foreign_card", Setting{Values: []string{"skip"}, Origin: FromArgument}},
		{all, "pam_pkcs11", "", "quiet", Setting{Values: []string{"true"}, Origin: FromArgument}},
		{all, "pkcs11_module", "builtin", "module", Setting{Values: []string{"builtin"}, Origin: Derived}},
		{all, "pkcs11_module", "builtin", "piv_keys", Setting{Values: []string{"9A", "9C", "9D"}, Origin: FromDefault}},
		{all, "pkcs11_module", "lib", "slot_num", Setting{Values: []string{"2"}, Origin: FromFile, Line: 9}},
		{all, "pkcs11_module", "lib", "ca_dir", Setting{Values: []string{"/etc/pam_pkcs11/cacerts"}, Origin: FromArgument}},
		{all, "pkcs11_module", "lib", "card_access", Setting{Origin: FromDefault}},
		{all, "pkcs11_module", "lib", "eku", Setting{Values: []string{"smartcardLogon"}, Origin: FromFile, Line: 11}},
		{all, "pkcs11_module", "lib", "crl_ldap_server", Setting{Values: []string{"ldap://a", "ldap://b"}, Origin: Derived}},
		{all, "mapper", "digest", "algorithm", Setting{Values: []string{"sha256"}, Origin: FromFile, Line: 13}},
		{all, "mapper", "dir", "uid_attribute", Setting{Values: []string{"sAMAccountName"}, Origin: Derived}},
		{all, "mapper", "dir", "scope", Setting{Values: []string{"sub"}, Origin: FromFile, Line: 14}},
		{all, "service", "sudo su", "err_display_time", Setting{Values: []string{"3"}, Origin: FromFile, Line: 21}},
		{service, "pam_pkcs11", "", "card_only", Setting{Values: []string{"true"}, Origin: FromService, Line: 17}},
		{service, "pam_pkcs11", "", "foreign_card", Setting{Values: []string{"refuse"}, Origin: FromService, Line: 18}},
		{service, "pam_pkcs11", "", "card_required_groups", Setting{Values: []string{"wheel"}, Origin: FromService, Line: 20}},
		{service, "pam_pkcs11", "", "quiet", Setting{Values: []string{"true"}, Origin: FromArgument}},
		{service, "pkcs11_module", "lib", "cert_policy", Setting{Values: []string{"ca", "crl_online", "signature"}, Origin: FromService, Line: 19}},
		{user, "pam_pkcs11", "", "card_only", Setting{Values: []string{"false"}, Origin: FromUser}},
		{user, "pam_pkcs11", "", "foreign_card", Setting{Values: []string{"skip"}, Origin: FromUser}},
		{user, "pam_pkcs11", "", "err_display_time", Setting{Values: []string{"3"}, Origin: FromService, Line: 21}},
	} {
		row.want.Key = row.key
		if got := find(t, row.blocks, row.kind, row.name, row.key); !reflect.DeepEqual(got, row.want) {
			t.Errorf("%s %s: %+v, want %+v", row.kind, row.name, got, row.want)
		}
	}
	if slices.ContainsFunc(service[0].Blocks, func(b Settings) bool { return b.Kind == "service" }) {
		t.Error("the block of the service stands beside what it says")
	}
}

// TestWhatMayChangeIsShown: each key that a service or an argument may change has its row.
func TestWhatMayChangeIsShown(t *testing.T) {
	has := func(rows []changeable, key string) bool {
		return slices.ContainsFunc(rows, func(c changeable) bool { return c.key == key })
	}
	for _, rule := range serviceRules {
		if !has(changeableGlobals, rule.key) {
			t.Errorf("%s of a service is not shown", rule.key)
		}
	}
	for _, rule := range serviceModuleRules {
		if !has(changeableModules, rule.key) {
			t.Errorf("%s of a service is not shown", rule.key)
		}
	}

	for word, key := range map[string]string{
		"debug": "debug", "nodebug": "debug", "quiet": "quiet", "nullok": "nullok", "try_first_pass": "try_first_pass",
		"use_first_pass": "use_first_pass", "card_only": "card_only", "wait_for_card": "wait_for_card",
		"dont_wait_for_card": "wait_for_card", "skip_foreign": "foreign_card", "empty_pin=fallback": "empty_pin",
		"slot_num=1": "slot_num", "slot_description=a": "slot_description", "ca_dir=/a": "ca_dir", "crl_dir=/a": "crl_dir",
		"token_type=a": "token_type", "cert_policy=ca": "cert_policy", "pkcs11_module=/a.so": "module", "pkcs11_module=b": "use_pkcs11_module",
	} {
		c := parsedWith(t, "pam_pkcs11 { use_mappers = cn; pkcs11_module default { } pkcs11_module b { } }", word)
		shown := c.InForce("", c)
		found := slices.ContainsFunc(append(shown, shown[0].Blocks...), func(b Settings) bool {
			return slices.ContainsFunc(b.Settings, func(s Setting) bool { return s.Key == key && s.Origin == FromArgument })
		})
		if !found {
			t.Errorf("%s is not shown as an argument", word)
		}
	}

	for _, rows := range [][]changeable{changeableGlobals, changeableModules} {
		for _, c := range rows {
			if schema.Global.Find(c.key) == nil && schema.Module.Find(c.key) == nil {
				t.Errorf("there is no key %s", c.key)
			}
		}
	}
}
