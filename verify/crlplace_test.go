package verify

import (
	"encoding/base64"
	"errors"
	"slices"
	"strings"
	"testing"

	"pam_pkcs11/internal/ldapconn/slapdtest"
	"pam_pkcs11/internal/testca"
)

func TestPlaces(t *testing.T) {
	v := &Verifier{options: Options{
		CRLURLs: []string{"http://crl.example.org/kept.crl"},
		CRLMirrors: []CRLMirror{
			{From: "http://CRL.example.org/a/", To: "https://mirror/lists/a/"},
			{From: "http://crl.example.org/", To: "http://10.0.0.1/"},
			{From: "http://other.example.org/x.crl", To: "http://mirror/y.crl"},
		},
		CRLLDAPServers: []string{"ldap://dc1:3268", "ldaps://dc2"},
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
		for _, a := range v.places(written, false) {
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

// TestMirrorIsAsked: the place of the certificate is dead, and the site serves the list itself; the
// timer asks there too.
func TestMirrorIsAsked(t *testing.T) {
	o := newOnline(t)
	written := "http://crl.example.invalid/pki/inter.crl"
	o.leaf = o.world.inter.Leaf("Alice", testca.CRLDistribution(written))
	base := strings.TrimSuffix(o.interURL, "inter.crl")
	options := Options{CRLMirrors: []CRLMirror{{From: "http://crl.example.invalid/pki/", To: base}}, CRLLeafOnly: true}
	onlyMirror := func(f *crlFetcher) { f.local = false }
	dir := storeDir(t)
	if err := o.login(t, dir, options, onlyMirror); err != nil || o.asked.Load() != 1 {
		t.Errorf("%v, %d requests", err, o.asked.Load())
	}
	store := openStore(dir)
	if err := store.record([]string{written}); err != nil {
		t.Fatal(err)
	}
	v := trusting(t, options, &o.world.root.Cert)
	u := &crlUpdate{v: v, store: store}
	if all := u.addresses(); !slices.ContainsFunc(all, func(a address) bool { return a.url == o.interURL && a.configured }) {
		t.Errorf("the timer asks %v", all)
	}
	o.inter.Store(serveCRL(o.world.inter.CRL(testca.CRL{Number: 6, Entries: revoked(o.leaf, 1)})))
	if err := o.login(t, storeDir(t), options, onlyMirror); ReasonOf(err) != ReasonRevoked {
		t.Errorf("revoked: %v", err)
	}
}

// TestAddressWithoutServer: Active Directory names no server.
func TestAddressWithoutServer(t *testing.T) {
	root := testca.NewRoot("Root")
	written := "ldap:///cn=ca," + slapdtest.Suffix + "?certificateRevocationList;binary?base?objectClass=cRLDistributionPoint"
	leaf := root.Leaf("Alice", testca.CRLDistribution(written))
	server := slapdtest.Start(t, "dn: cn=ca,"+slapdtest.Suffix+"\nobjectClass: cRLDistributionPoint\ncn: ca\ncertificateRevocationList;binary:: "+
		base64.StdEncoding.EncodeToString(root.CRL(testca.CRL{}))+"\n\n")
	check := func(o Options) error {
		o.Policy.CRL = "online"
		v := trusting(t, o, &root.Cert)
		v.options.Policy.CA = true
		_, err := v.Check(t.Context(), parsed(t, leaf), nil)
		return err
	}
	if err := check(Options{CRLLDAPServers: []string{server.LDAP}}); err != nil {
		t.Errorf("with a server: %v", err)
	}
	var e *Error
	if err := check(Options{}); !errors.As(err, &e) || e.Reason != ReasonRevocationUnknown || !strings.Contains(e.Detail, "names no server") {
		t.Fatalf("without one: %v", err)
	}
	for _, key := range []string{"crl_ldap_server", "crl_url"} {
		if !strings.Contains(e.Restore, key) {
			t.Errorf("restore %q does not name %s", e.Restore, key)
		}
	}
}

// TestFileInCertificate: it is passed over, and the refusal says so and names the key for it.
func TestFileInCertificate(t *testing.T) {
	root := testca.NewRoot("Root")
	leaf := root.Leaf("Alice", testca.CRLDistribution("file:///etc/pki/root.crl"))
	for _, word := range []string{"online", "offline", "auto"} {
		v := trusting(t, Options{Policy: Policy{CRL: word}}, &root.Cert)
		v.options.Policy.CA = true
		_, err := v.Check(t.Context(), parsed(t, leaf), nil)
		var e *Error
		if !errors.As(err, &e) || !strings.Contains(e.Detail, "file:///etc/pki/root.crl was passed over") || !strings.Contains(e.Restore, "crl_url") {
			t.Errorf("%s: %v", word, err)
		}
	}
}

func FuzzMirror(f *testing.F) {
	f.Add("http://crl.example.org/a/../b")
	f.Add("http://crl.example.org/%2e%2e/b?x")
	f.Add("ldap:///CN=x")
	m := CRLMirror{From: "http://crl.example.org/a/", To: "http://10.0.0.1/lists/"}
	f.Fuzz(func(t *testing.T, written string) {
		to, ok := m.of(written)
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
