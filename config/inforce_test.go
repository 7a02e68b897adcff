package config_test

import (
	"reflect"
	"slices"
	"strings"
	"testing"

	"pam_pkcs11/config"
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
func asFile(blocks []config.Settings, indent string) string {
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

func find(t *testing.T, blocks []config.Settings, kind, name, key string) config.Setting {
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
	return config.Setting{}
}

func parsedWith(t *testing.T, text string, words ...string) *config.Config {
	t.Helper()
	args, _, err := config.ParseArguments(words)
	if err != nil {
		t.Fatal(err)
	}
	c, err := config.Parse("f.conf", []byte(text), args)
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
func sameLDAP(a, b config.Mapper) bool {
	return a.Type == "ldap" && strings.Contains(asFile([]config.Settings{a.InForce()}, ""), strings.TrimSpace(asFile([]config.Settings{b.InForce()}, "")))
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
		blocks          []config.Settings
		kind, name, key string
		want            config.Setting
	}{
		{all, "pam_pkcs11", "", "use_mappers", config.Setting{Values: []string{"digest", "dir", "certmap"}, Origin: config.FromFile, Line: 2}},
		{all, "pam_pkcs11", "", "nullok", config.Setting{Values: []string{"false"}, Origin: config.FromDefault}},
		{all, "pam_pkcs11", "", "pin_pattern", config.Setting{Values: []string{"[0-9]{6}|a"}, Origin: config.FromFile, Line: 5}},
		{all, "pam_pkcs11", "", "foreign_card", config.Setting{Values: []string{"skip"}, Origin: config.FromArgument}},
		{all, "pam_pkcs11", "", "quiet", config.Setting{Values: []string{"true"}, Origin: config.FromArgument}},
		{all, "pkcs11_module", "builtin", "module", config.Setting{Values: []string{"builtin"}, Origin: config.Derived}},
		{all, "pkcs11_module", "builtin", "piv_keys", config.Setting{Values: []string{"9A", "9C", "9D"}, Origin: config.FromDefault}},
		{all, "pkcs11_module", "lib", "slot_num", config.Setting{Values: []string{"2"}, Origin: config.FromFile, Line: 9}},
		{all, "pkcs11_module", "lib", "ca_dir", config.Setting{Values: []string{"/etc/pam_pkcs11/cacerts"}, Origin: config.FromArgument}},
		{all, "pkcs11_module", "lib", "card_access", config.Setting{Origin: config.FromDefault}},
		{all, "pkcs11_module", "lib", "eku", config.Setting{Values: []string{"smartcardLogon"}, Origin: config.FromFile, Line: 11}},
		{all, "pkcs11_module", "lib", "crl_ldap_server", config.Setting{Values: []string{"ldap://a", "ldap://b"}, Origin: config.Derived}},
		{all, "mapper", "digest", "algorithm", config.Setting{Values: []string{"sha256"}, Origin: config.FromFile, Line: 13}},
		{all, "mapper", "dir", "uid_attribute", config.Setting{Values: []string{"sAMAccountName"}, Origin: config.Derived}},
		{all, "mapper", "dir", "scope", config.Setting{Values: []string{"sub"}, Origin: config.FromFile, Line: 14}},
		{all, "service", "sudo su", "err_display_time", config.Setting{Values: []string{"3"}, Origin: config.FromFile, Line: 21}},
		{service, "pam_pkcs11", "", "card_only", config.Setting{Values: []string{"true"}, Origin: config.FromService, Line: 17}},
		{service, "pam_pkcs11", "", "foreign_card", config.Setting{Values: []string{"refuse"}, Origin: config.FromService, Line: 18}},
		{service, "pam_pkcs11", "", "card_required_groups", config.Setting{Values: []string{"wheel"}, Origin: config.FromService, Line: 20}},
		{service, "pam_pkcs11", "", "quiet", config.Setting{Values: []string{"true"}, Origin: config.FromArgument}},
		{service, "pkcs11_module", "lib", "cert_policy", config.Setting{Values: []string{"ca", "crl_online", "signature"}, Origin: config.FromService, Line: 19}},
		{user, "pam_pkcs11", "", "card_only", config.Setting{Values: []string{"false"}, Origin: config.FromUser}},
		{user, "pam_pkcs11", "", "foreign_card", config.Setting{Values: []string{"skip"}, Origin: config.FromUser}},
		{user, "pam_pkcs11", "", "err_display_time", config.Setting{Values: []string{"3"}, Origin: config.FromService, Line: 21}},
	} {
		row.want.Key = row.key
		if got := find(t, row.blocks, row.kind, row.name, row.key); !reflect.DeepEqual(got, row.want) {
			t.Errorf("%s %s: %+v, want %+v", row.kind, row.name, got, row.want)
		}
	}
	if slices.ContainsFunc(service[0].Blocks, func(b config.Settings) bool { return b.Kind == "service" }) {
		t.Error("the block of the service stands beside what it says")
	}
}

// TestWhatMayChangeIsShown: each key that a service or an argument may change has its row.
func TestWhatMayChangeIsShown(t *testing.T) {
	globals, modules := config.ChangeableKeys()
	for _, rule := range config.ServiceRules() {
		if !slices.Contains(globals, rule.Key) {
			t.Errorf("%s of a service is not shown", rule.Key)
		}
	}
	for _, key := range config.ServiceModuleKeys() {
		if !slices.Contains(modules, key) {
			t.Errorf("%s of a service is not shown", key)
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
		found := slices.ContainsFunc(append(shown, shown[0].Blocks...), func(b config.Settings) bool {
			return slices.ContainsFunc(b.Settings, func(s config.Setting) bool { return s.Key == key && s.Origin == config.FromArgument })
		})
		if !found {
			t.Errorf("%s is not shown as an argument", word)
		}
	}

	for _, key := range slices.Concat(globals, modules) {
		if schema.Global.Find(key) == nil && schema.Module.Find(key) == nil {
			t.Errorf("there is no key %s", key)
		}
	}
}
