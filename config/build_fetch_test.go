package config_test

import (
	"slices"
	"strings"
	"testing"

	"pam_pkcs11/config"
)

// fetching loads a file with lines for the module and for a mapper.
func fetching(t *testing.T, module, mapper string) (*config.Config, error) {
	t.Helper()
	conf, err := config.Parse("f.conf", []byte("pam_pkcs11 {\nuse_pkcs11_module = m;\nuse_mappers = ldap;\npkcs11_module m {\nmodule = /lib/m.so;\nca_dir = /etc/ca;\n"+
		"cert_policy = ca, crl_auto;\n"+module+"\n}\nmapper ldap {\nbase = \"dc=x\";\n"+mapper+"\n}\n}\n"), nil)
	return conf, err
}

func TestFetchingKeys(t *testing.T) {
	conf, err := fetching(t, `proxy = http://proxy:3128;
no_proxy = localhost, .corp.example, 10.0.0.0/8, "fd00::/8 192.0.2.1";
crl_mirror = "http://crl.example.org/pki/ -> http://mirror/pki/", "ldap:///CN=a -> https://mirror/a.crl";
crl_ldap_server = ldap://dc1, "ldaps://dc2:636/";`, "uri = ldap://other;")
	if err != nil {
		t.Fatal(err)
	}
	m := conf.Module
	if want := []string{"localhost", ".corp.example", "10.0.0.0/8", "fd00::/8", "192.0.2.1"}; !slices.Equal(m.NoProxy, want) {
		t.Errorf("no_proxy %q", m.NoProxy)
	}
	if want := []config.Mirror{{"http://crl.example.org/pki/", "http://mirror/pki/"}, {"ldap:///CN=a", "https://mirror/a.crl"}}; !slices.Equal(m.CRL.Mirrors, want) {
		t.Errorf("crl_mirror %q", m.CRL.Mirrors)
	}
	if want := []string{"ldap://dc1", "ldaps://dc2:636"}; !slices.Equal(m.CRL.LDAPServers, want) {
		t.Errorf("crl_ldap_server %q", m.CRL.LDAPServers)
	}
}

func TestMirrorWithoutQuotes(t *testing.T) {
	conf, err := fetching(t, "crl_mirror = http://a/ -> http://b/c/,\n http://d/x -> http://e/y;", "uri = ldap://dc;")
	if err != nil {
		t.Fatal(err)
	}
	if want := []config.Mirror{{"http://a/", "http://b/c/"}, {"http://d/x", "http://e/y"}}; !slices.Equal(conf.Module.CRL.Mirrors, want) {
		t.Errorf("%q", conf.Module.CRL.Mirrors)
	}
}

func TestLDAPServersOfTheMapper(t *testing.T) {
	conf, err := fetching(t, "", "uri = \"ldap://dc1 ldapi://%2Frun%2Fx\", ldaps://dc2;\nldaphost = dc3;\nldapport = 3268;")
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"ldap://dc1", "ldaps://dc2", "ldap://dc3:3268"}; !slices.Equal(conf.Module.CRL.LDAPServers, want) {
		t.Errorf("%q", conf.Module.CRL.LDAPServers)
	}

	conf, err = fetching(t, "", "ldaphost = \"2001:db8::1\";\nldapport = 389;")
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"ldap://[2001:db8::1]:389"}; !slices.Equal(conf.Module.CRL.LDAPServers, want) {
		t.Errorf("an IPv6 address: %q", conf.Module.CRL.LDAPServers)
	}
}

func TestFetchingKeysAreChecked(t *testing.T) {
	for _, tt := range []struct{ line, want string }{
		{"no_proxy = http://x/;", `"http://x/" is not a host`},
		{"no_proxy = host:3128;", `"host:3128" is not a host`},
		{"no_proxy = 10.0.0.0/99;", `"10.0.0.0/99" is not a host`},
		{"no_proxy = 10.1;", `"10.1" is not a host`},
		{"no_proxy = \"*\";", `"*" is not a host`},
		{"crl_mirror = http://a/ ->;", "crl_mirror is not FROM -> TO"},
		{"crl_mirror = -> http://a/;", "crl_mirror is not FROM -> TO"},
		{"crl_mirror = http://a/;", "crl_mirror is not FROM -> TO"},
		{"crl_mirror = \"http://a/ -> http://b/ http://c/\";", "crl_mirror is not FROM -> TO"},
		{"crl_mirror = \"http://a -> http://b\";", `"http://a" is not an address with a path`},
		{"crl_mirror = \"http://a/ -> http://b/x\";", "only one ends with /"},
		{"crl_mirror = \"http://a/ -> file:///b/\";", `"file:///b/" is not an address`},
		{"crl_mirror = \"http://a/ -> http://u@b/\";", `"http://u@b/" is not an address`},
		{"crl_mirror = \"http://a/ -> ldap:///b/\";", `"ldap:///b/" is not an address`},
		{"crl_ldap_server = dc1;", `"dc1" is not a directory server`},
		{"crl_ldap_server = \"ldap://dc1/dc=x\";", "is not a directory server"},
		{"crl_ldap_server = \"ldap://1 ldap://2 ldap://3 ldap://4 ldap://5 ldap://6 ldap://7 ldap://8 ldap://9\";", "more than 8 servers"},
	} {
		line := tt.line
		if strings.HasPrefix(line, "no_proxy") {
			line = "proxy = http://p:1;\n" + line
		}
		if _, err := fetching(t, line, "uri = ldap://dc;"); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v", tt.line, err)
		}
	}
}
