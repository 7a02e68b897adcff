package store

import (
	"strings"
	"testing"
)

func TestPlaces(t *testing.T) {
	k := &Keeper{options: Options{
		URLs: []string{"http://crl.example.org/kept.crl"},
		Mirrors: []Mirror{
			{From: "http://CRL.example.org/a/", To: "https://mirror/lists/a/"},
			{From: "http://crl.example.org/", To: "http://10.0.0.1/"},
			{From: "http://other.example.org/x.crl", To: "http://mirror/y.crl"},
		},
		LDAPServers: []string{"ldap://dc1:3268", "ldaps://dc2"},
	}}
	for written, want := range map[string]string{
		"http://crl.example.org/a/x.crl":                  "https://mirror/lists/a/x.crl !",
		"HTTP://crl.EXAMPLE.org/a/X.crl":                  "https://mirror/lists/a/X.crl !",
		"http://crl.example.org/b/x.crl?d=1":              "http://10.0.0.1/b/x.crl?d=1 !",
		"http://crl.example.org/kept.crl":                 "http://crl.example.org/kept.crl !",
		"http://crl.example.org.evil/x":                   "http://crl.example.org.evil/x",
		"http://crl.example.org:80/x":                     "http://crl.example.org:80/x",
		"http://crl.example.org@evil/x":                   "http://crl.example.org@evil/x",
		"http://crl.example.org/../admin":                 "http://crl.example.org/../admin",
		"http://crl.example.org/a/%2e%2e/admin":           "http://crl.example.org/a/%2e%2e/admin",
		"http://crl.example.org/a/x%3f/../admin":          "http://crl.example.org/a/x%3f/../admin",
		"http://crl.example.org/a\\..\\admin":             "http://crl.example.org/a\\..\\admin",
		"http://crl.example.org/%zz":                      "http://crl.example.org/%zz",
		"http://other.example.org/x.crl":                  "http://mirror/y.crl !",
		"http://other.example.org/x.crl.old":              "http://other.example.org/x.crl.old",
		"ldap:///CN=CA?certificateRevocationList?base?x":  "ldap://dc1:3268/CN=CA?certificateRevocationList?base?x ! ldaps://dc2/CN=CA?certificateRevocationList?base?x !",
		"ldaps:///CN=CA?certificateRevocationList?base?x": "ldaps://dc2/CN=CA?certificateRevocationList?base?x !",
		"ldap://host/CN=CA":                               "ldap://host/CN=CA",
		"nothing":                                         "nothing",
		"":                                                "",
	} {
		var got []string
		for _, a := range k.placesOf(written, false) {
			got = append(got, a.url)
			if a.configured {
				got = append(got, "!")
			}
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%q: %q", written, got)
		}
	}
}

func FuzzMirror(f *testing.F) {
	f.Add("http://crl.example.org/a/../b")
	f.Add("http://crl.example.org/%2e%2e/b?x")
	f.Add("ldap:///CN=x")
	m := Mirror{From: "http://crl.example.org/a/", To: "http://10.0.0.1/lists/"}
	f.Fuzz(func(t *testing.T, written string) {
		to, ok := m.target(written)
		if ok && !strings.HasPrefix(to, m.To) {
			t.Errorf("%q leads to %q", written, to)
		}
		path, _, _ := strings.Cut(to, "?")
		if ok && strings.Contains(path, "/../") {
			t.Errorf("%q climbs: %q", written, to)
		}
		withoutServer(written)
	})
}
