package config_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"pam_pkcs11/config"
	"pam_pkcs11/config/internal/finding"
	"pam_pkcs11/config/internal/schema"
)

// usingMapper is a file whose one mapper is of a type and has these settings, which begin in line 2.
func usingMapper(typ, settings string) string {
	return "pam_pkcs11 { use_mappers = m; pkcs11_module default { } mapper m { type = " + typ + ";\n" + settings + "\n} }"
}

// TestMappersThatKnowNobody: a mapper that could say yes to nobody is an error with its place, also without a
// block of its own.
func TestMappersThatKnowNobody(t *testing.T) {
	rows := []struct{ name, text, want string }{
		{"digest without a block", "pam_pkcs11 { use_mappers = cn, digest; pkcs11_module default { } }", "f.conf:1:32: mapper digest has no mapfile"},
		{"digest", usingMapper("digest", "algorithm = sha256;"), "f.conf:1:57: mapper m has no mapfile"},
		{"serial", usingMapper("serial", ""), "f.conf:1:57: mapper m has no mapfile"},
		{"serial with none", usingMapper("serial", " mapfile = none;"), "f.conf:2:12: mapper m has no mapfile"},
		{"digest with an empty mapfile", usingMapper("digest", ` mapfile = "";`), "f.conf:2:12: mapper m has no mapfile"},
		{"ldap without a block", "pam_pkcs11 { use_mappers = ldap; pkcs11_module default { } }", "f.conf:1:28: mapper ldap has no server"},
		{"ldap", usingMapper("ldap", `base = "dc=x";`), "f.conf:1:57: mapper m has no server"},
		{"ldap with an empty URI", usingMapper("ldap", ` uri = ""; ldaphost = "";`), "f.conf:2:8: mapper m has no server"},
		{"ldap with a blank URI", usingMapper("ldap", ` uri = " ";`), "f.conf:2:8: mapper m has no server"},
		{"cn", usingMapper("cn", ""), ""},
		{"digest with a mapfile", usingMapper("digest", "mapfile = file:///m;"), ""},
		{"ldap with a URI", usingMapper("ldap", "uri = ldap://h;"), ""},
		{"ldap with a host", usingMapper("ldap", "ldaphost = host;"), ""},
		{"ldap with a domain", usingMapper("ldap", "srv_domain = example.com;"), ""},
		{"certmap names users of the machine", usingMapper("certmap", "rule alice { }"), ""},
		{"not in use", "pam_pkcs11 { use_mappers = cn; pkcs11_module default { } mapper ldap { } mapper digest { } mapper serial { } }", ""},
	}
	for _, row := range rows {
		_, err := config.Parse("f.conf", []byte(row.text), nil)
		report := config.CheckData("f.conf", []byte(row.text))
		if (err == nil) != (row.want == "") || err != nil && !strings.HasPrefix(err.Error(), row.want) {
			t.Errorf("%s: %v, want %q", row.name, err, row.want)
		}
		if report.OK() != (row.want == "") {
			t.Errorf("%s: config check finds %v", row.name, report.Errors)
		}
	}
}

func TestAttributeMap(t *testing.T) {
	const head = "uri = ldap://h; base = \"dc=x\";\n"
	rows := []struct{ value, want, note string }{ // want: the beginning of the error, "" is none
		{`"uid="`, `f.conf:3:17: attribute_map: "uid=" has no item "", expected one of cn, subject, `, ""},
		{`"uid= "`, `f.conf:3:17: attribute_map: "uid= " has no item ""`, ""},
		{`"mail=email&uid="`, `f.conf:3:17: attribute_map: "uid=" has no item ""`, ""},
		{`"mail=email", "uid="`, `f.conf:3:31: attribute_map: "uid="`, ""},
		{`"mail=email&"`, `f.conf:3:17: attribute_map: "" is not attribute=item`, ""},
		{`"=cn"`, `f.conf:3:17: attribute_map: "=cn" is not attribute=item`, ""},
		{`""`, `f.conf:3:17: attribute_map: "" is not attribute=item`, ""},
		{`"mail"`, `f.conf:3:17: attribute_map: "mail" is not attribute=item`, ""},
		{`"mail)(uid=cn"`, `f.conf:3:17: attribute_map: "mail)(uid=cn" is not attribute=item`, ""},
		{`"mail*=cn"`, `f.conf:3:17: attribute_map: "mail*=cn" is not attribute=item`, ""},
		{`"mail=address"`, `f.conf:3:17: attribute_map: "mail=address" has no item "address"`, ""},
		{`"mail=emails"`, `f.conf:3:17: attribute_map: "mail=emails" has no item "emails"`, ""},
		{`"x=ser"`, `f.conf:3:17: attribute_map: "x=ser" has no item "ser"`, ""}, // a new item, by its whole name only
		{`"mail=email"`, "", ""},
		{`"mail = EMAIL & userCertificate;binary=cert"`, "", ""},
		{`"mail=em"`, "", `f.conf:3:17: attribute_map: "mail=em" is read as mail=email`},
		{`"uid=u"`, "", `f.conf:3:17: attribute_map: "uid=u" is read as uid=upn`},
		{`"mail=email", "x=c"`, "", `f.conf:3:31: attribute_map: "x=c" is read as x=cn`},
	}
	for _, row := range rows {
		report := config.CheckData("f.conf", []byte(usingMapper("ldap", head+"attribute_map = "+row.value+";")))
		switch {
		case row.want == "" != report.OK(), row.want != "" && !strings.HasPrefix(report.Errors.Error(), row.want):
			t.Errorf("%s: %v, want %s", row.value, report.Errors, row.want)
		case row.note != "" && !slices.ContainsFunc(report.Of(finding.NoteTolerated), func(n finding.Note) bool { return n.String() == row.note }):
			t.Errorf("%s: %v, want the note %s", row.value, report.Of(finding.NoteTolerated), row.note)
		case row.note == "" && len(report.Of(finding.NoteTolerated)) != 0:
			t.Errorf("%s: %v", row.value, report.Of(finding.NoteTolerated))
		}
	}
}

// TestDefaultBaseIsNoted: no server has the base of the old module's source.
func TestDefaultBaseIsNoted(t *testing.T) {
	for _, row := range []struct {
		typ, settings string
		noted         bool
	}{
		{"ldap", "uri = ldap://h;", true},
		{"ldap", "uri = ldap://h; base = ;", true},
		{"ldap", `uri = ldap://h; base = "dc=example,dc=org";`, false},
		{"ldap", `uri = ldap://h; base = "ou=People,o=example,c=com";`, false},
		{"ldap", `uri = ldap://h; base = "";`, false},
		{"ldap", "srv_domain = example.com; active_directory = true;", true},
		{"certmap", "uri = ldap://h; rule x { }", true},
		{"certmap", "rule alice { }", false},
	} {
		c := parsed(t, usingMapper(row.typ, row.settings))
		if hasNote(c.Notes, finding.NoteTolerated, "base is not set") != row.noted {
			t.Errorf("%s, %s: notes %v", row.typ, row.settings, c.Notes)
		}
	}
}

func TestDirectorySettingsAsTheirWriterMeans(t *testing.T) {
	const server = "uri = ldap://h; "
	value := func(key string, v schema.Values) string {
		switch key {
		case "scope", "tls_checkpeer":
			return string(rune('0' + v.Int(key)))
		}
		return strings.Join(v.List(key), " | ")
	}
	rows := []struct{ key, settings, want string }{ // want: the value, or the beginning of the error
		{"scope", server + "scope = sub;", "2"},
		{"scope", server + "scope = SUBTREE;", "2"},
		{"scope", server + "scope = one;", "1"},
		{"scope", server + "scope = onelevel;", "1"},
		{"scope", server + "scope = base;", "0"},
		{"scope", server + "scope = 2;", "2"},
		{"scope", server + "scope = 3;", "f.conf:2:25: scope is from 0 to 2, not 3"},
		{"scope", server + "scope = all;", `f.conf:2:25: scope is a whole number, not "all" (or one of base, one, onelevel, sub, subtree)`},
		{"scope", server + "scope = \"\";", `f.conf:2:25: scope is a whole number, not ""`},
		{"tls_checkpeer", server + "tls_checkpeer = demand;", "2"},
		{"tls_checkpeer", server + "tls_checkpeer = hard;", "1"},
		{"tls_checkpeer", server + "tls_checkpeer = never;", "0"},
		{"tls_checkpeer", server + "tls_checkpeer = allow;", `f.conf:2:33: tls_checkpeer is a whole number, not "allow" (or one of never, hard, demand)`},
		{"ssl", server + "ssl = start_tls;", "tls"},
		{"ssl", server + "ssl = Start_TLS;", "tls"},
		{"ssl", server + "ssl = starttls;", "tls"},
		{"ssl", server + "ssl = start-tls;", "tls"},
		{"ssl", server + "ssl = start;", "f.conf:2:23: ssl is off, tls or ssl"},
		{"base", server + `base = "ou=a,dc=x", "ou=b,dc=x";`, "ou=a,dc=x | ou=b,dc=x"},
		{"base", server + `base = "ou=a,dc=x"; base = "ou=b,dc=x";`, "ou=a,dc=x | ou=b,dc=x"},
		{"base", server + "base = dc=x;", "dc=x"},
		{"base", server, "ou=People,o=example,c=com"},
		{"base", server + `base = "";`, ""},
		{"base", server + `base = "dc=x", "";`, `f.conf:2:32: "" is not a distinguished name`},
		{"base", server + "base = ou=a,dc=x;", "f.conf:2:24: several distinguished names must each stand in quotes"},
		{"base", server + "base = People;", `f.conf:2:24: "People" is not a distinguished name`},
		{"base", server + `base = "dc=1"` + strings.Repeat(`, "dc=2"`, 9) + ";", "dc=1" + strings.Repeat(" | dc=2", 9)},
		{"base", server + `base = "dc=1"` + strings.Repeat(`, "dc=2"`, 10) + ";", "f.conf:2:104: here are 11 bases, at most 10 are allowed"},
		{"uri", `uri = "ldap://a ldap://b", ldap://c;`, "ldap://a ldap://b | ldap://c"},
		{"sasl_mech", server + "sasl_mech = EXTERNAL;", "EXTERNAL"},
		{"sasl_mech", server + "sasl_mech = GSSAPI;", `f.conf:2:29: sasl_mech has no word "GSSAPI" (there is no Kerberos and no SASL password here: bind with binddn and passwd_file over TLS, or with EXTERNAL`},
		{"sasl_mech", server + "sasl_mech = External;", `f.conf:2:29: sasl_mech has no word "External" (did you mean EXTERNAL?)`},
		{"sasl_mech", server + "sasl_mech = DIGEST-MD5;", `f.conf:2:29: sasl_mech has no word "DIGEST-MD5" (there is no Kerberos`},
	}
	for _, row := range rows {
		for _, typ := range []string{"ldap", "certmap"} {
			c, err := config.Parse("f.conf", []byte(usingMapper(typ, row.settings)), nil)
			var all finding.Errors
			switch {
			case errors.As(err, &all):
				if !strings.HasPrefix(all[0].Error(), row.want) || row.want == "" {
					t.Errorf("%s, %s: %v, want %s", typ, row.settings, all, row.want)
				}
			case value(row.key, c.Mappers[0].Values) != row.want:
				t.Errorf("%s, %s: %q, want %q", typ, row.settings, value(row.key, c.Mappers[0].Values), row.want)
			}
		}
	}
	for settings, part := range map[string]string{"scope = sub;": `read "sub" as 0`, "ssl = start_tls;": `took "start_tls" for off`, "tls_checkpeer = demand;": `read "demand" as 0`} {
		if c := parsed(t, usingMapper("ldap", server+settings)); !hasNote(c.Notes, finding.NoteDifferent, part) {
			t.Errorf("%s: no note in %v", settings, c.Notes)
		}
	}
	if c := parsed(t, usingMapper("ldap", server+"tls_checkpeer = never;")); !hasNote(c.Notes, finding.NoteInsecure, "tls_checkpeer = never") {
		t.Errorf("a risk is not loud: %v", c.Notes)
	}
}

// TestEveryMapperHasItsSettings: a block of each type gives the type of package mappers with its name, and what
// contradicts itself in it is told with the place of the key.
func TestEveryMapperHasItsSettings(t *testing.T) {
	for _, typ := range schema.MapperTypes() {
		m, err := config.NewMapper(typ, typ, nil)
		if err != nil || m.Settings == nil {
			t.Errorf("%s: %v, %v", typ, m.Settings, err)
		}
	}
	if err := (config.Mapper{}).Contradiction(); err != nil {
		t.Error(err)
	}
	for settings, want := range map[string]string{
		"uri = ldap://h; tls_cert = /x;":                     "f.conf:2:28: mapper m: tls_cert and tls_key belong together",
		"uri = ldap://h; passwd = x;":                        "f.conf:2:26: mapper m: a password without binddn",
		"uri = ldap://h; certificate_match = off;":           "f.conf:2:37: mapper m: certificate_match = off without attribute_map",
		"uri = ldap://h; attribute = \"a=b\";":               "f.conf:2:29: mapper m: attribute = ",
		"uri = \"" + strings.Repeat("ldap://h ", 11) + "\";": "f.conf:2:7: mapper m: 11 servers, at most 10 are allowed",
		"uri = ldap://h;":                                    "",
	} {
		m := parsed(t, usingMapper("ldap", settings)).Mappers[0]
		switch err := m.Contradiction(); {
		case err == nil && want != "", err != nil && (want == "" || !strings.HasPrefix(err.Error(), want)):
			t.Errorf("%s: %v, want %q", settings, err, want)
		}
	}
	m := parsed(t, usingMapper("certmap", "uri = ldap://h;\nrule a { domains = x; }")).Mappers[0]
	if err := m.Contradiction(); err == nil || !strings.HasPrefix(err.Error(), "f.conf:3:1: rule a: the rule has domains") {
		t.Error(err)
	}
}
