package ldapconn_test

import (
	"errors"
	"io"
	"testing"

	"pam_pkcs11/internal/ldapconn"
	"pam_pkcs11/internal/ldapconn/slapdtest"
	"pam_pkcs11/internal/testca"
)

// TestFaultsAreNoSilence: what a server says is told apart from a server that says nothing.
func TestFaultsAreNoSilence(t *testing.T) {
	referral := testca.TLV(0xa3, testca.TLV(4, []byte("ldap://elsewhere.example/")))
	for name, c := range map[string]struct {
		op, code byte
		more     [][]byte
		want     error // nil: the connection, or the time
	}{
		"invalid credentials":       {slapdtest.BindRequest, 49, nil, ldapconn.ErrBindRefused},
		"stronger authentication":   {slapdtest.BindRequest, 8, nil, ldapconn.ErrBindRefused},
		"no such object":            {slapdtest.SearchRequest, 32, nil, ldapconn.ErrNoBase},
		"insufficient access":       {slapdtest.SearchRequest, 50, nil, ldapconn.ErrAccess},
		"unwilling to perform":      {slapdtest.SearchRequest, 53, nil, ldapconn.ErrSearchRefused},
		"size limit":                {slapdtest.SearchRequest, 4, nil, ldapconn.ErrSizeLimit},
		"referral":                  {slapdtest.SearchRequest, 10, [][]byte{referral}, ldapconn.ErrReferralOnly},
		"the server's time is over": {slapdtest.SearchRequest, 3, nil, nil},
	} {
		t.Run(name, func(t *testing.T) {
			uri := slapdtest.Hostile(t, func(r slapdtest.Request, w io.Writer) bool {
				if r.Op != c.op {
					return slapdtest.Polite(r, w)
				}
				answer := map[byte]byte{slapdtest.BindRequest: slapdtest.BindResponse, slapdtest.SearchRequest: slapdtest.SearchDone}[r.Op]
				_, _ = w.Write(slapdtest.Result(r.ID, answer, c.code, c.more...))
				return true
			})
			config := ldapconn.Config{URIs: []string{uri}, Bind: ldapconn.Simple, DN: "cn=x", Password: []byte("x")}
			conn, err := ldapconn.Dial(ctx(t), config)
			if err == nil {
				defer conn.Close()
				_, err = conn.Search(ctx(t), aliceQuery)
			}
			switch {
			case err == nil || errors.Is(err, ldapconn.ErrNoServer):
				t.Errorf("got %v", err)
			case c.want == nil && ldapconn.IsFault(err), c.want != nil && !errors.Is(err, c.want):
				t.Errorf("got %v, want %v", err, c.want)
			}
		})
	}
}

// TestOneServerThatRefusesIsEnough: beside servers that are down, one that was reached is what counts.
func TestOneServerThatRefusesIsEnough(t *testing.T) {
	refuses := slapdtest.Hostile(t, func(r slapdtest.Request, w io.Writer) bool {
		_, _ = w.Write(slapdtest.Result(r.ID, slapdtest.BindResponse, 49))
		return true
	})
	config := ldapconn.Config{Bind: ldapconn.Simple, DN: "cn=x", Password: []byte("x")}
	for _, uris := range [][]string{{"ldap://127.0.0.1:1", refuses}, {refuses, "ldap://127.0.0.1:1"}} {
		config.URIs = uris
		if _, err := ldapconn.Dial(ctx(t), config); errors.Is(err, ldapconn.ErrNoServer) || !errors.Is(err, ldapconn.ErrBindRefused) {
			t.Errorf("%q: %v", uris, err)
		}
	}
}

func TestNameOfAnEntry(t *testing.T) {
	for _, c := range []struct {
		dn, attribute, want string
		ok                  bool
	}{
		{"uid=alice,ou=People,dc=example", "uid", "alice", true},
		{"UID=Alice,ou=People", "uid", "Alice", true},
		{"userid=alice,ou=People", "uid", "alice", true},
		{"0.9.2342.19200300.100.1.1=alice", "userId", "alice", true},
		{"uid=alice,ou=People", "uid;lang-en", "alice", true},
		{"cn=Alice+uid=alice,ou=People", "uid", "alice", true},
		{`uid=a\2cb\20,ou=People`, "uid", "a,b ", true},
		{`uid=a\0ab`, "uid", "a\nb", true},
		{"cn=Alice,uid=root", "uid", "", false},
		{"cn=Alice", "mail", "", false},
		{"uid=alice+uid=root", "uid", "", false},
		{"", "uid", "", false},
		{"alice", "uid", "", false},
	} {
		if got, ok := (ldapconn.Entry{DN: c.dn}).Named(c.attribute); got != c.want || ok != c.ok {
			t.Errorf("%s in %q: %q, %t", c.attribute, c.dn, got, ok)
		}
	}
}

func FuzzNameOfAnEntry(f *testing.F) {
	for _, dn := range []string{"uid=alice,ou=People", `uid=a\,b+cn=x`, "uid=#04024869", `uid=\zz`, "=", "uid=", "uid=a\x00"} {
		f.Add(dn)
	}
	f.Fuzz(func(t *testing.T, dn string) {
		if value, ok := (ldapconn.Entry{DN: dn}).Named("uid"); !ok && value != "" {
			t.Errorf("%q: %q", dn, value)
		}
	})
}
