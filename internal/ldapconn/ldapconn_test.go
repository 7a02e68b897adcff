package ldapconn_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"pam_pkcs11/internal/ldapconn"
	"pam_pkcs11/internal/ldapconn/slapdtest"
	"pam_pkcs11/internal/slowtest"
	"pam_pkcs11/internal/testca"
)

var people = slapdtest.Person("alice", 2001, "mail: alice@example.com") + slapdtest.Person("bob", 2002)

var aliceQuery = ldapconn.Query{Base: "ou=People," + slapdtest.Suffix, Scope: ldapconn.ScopeSub, Filter: "(uid=alice)", Attributes: []string{"uid", "mail"}, MaxEntries: 1}

func ctx(t *testing.T) context.Context {
	c, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	t.Cleanup(cancel)
	return c
}

func trust(ca *testca.CA) *tls.Config {
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(ca.PEM())
	return &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
}

func TestWaysToConnect(t *testing.T) {
	s := slapdtest.Start(t, people)
	stranger := trust(testca.NewRoot("Another CA"))
	byName := strings.Replace(s.LDAP, "127.0.0.1", "localhost", 1)
	simple := func(c ldapconn.Config) ldapconn.Config {
		c.Bind, c.DN, c.Password = ldapconn.Simple, slapdtest.AdminDN, []byte(slapdtest.Password)
		return c
	}
	cases := []struct {
		name   string
		config ldapconn.Config
		ok     bool
	}{
		{"plain, anonymous", ldapconn.Config{URIs: []string{s.LDAP}}, true},
		{"plain, simple bind", simple(ldapconn.Config{URIs: []string{s.LDAP}}), true},
		{"wrong password", ldapconn.Config{URIs: []string{s.LDAP}, Bind: ldapconn.Simple, DN: slapdtest.AdminDN, Password: []byte("wrong")}, false},
		{"no password is not an anonymous bind", ldapconn.Config{URIs: []string{s.LDAP}, Bind: ldapconn.Simple, DN: slapdtest.AdminDN}, false},
		{"StartTLS", simple(ldapconn.Config{URIs: []string{byName}, StartTLS: true, TLS: trust(s.CA)}), true},
		{"StartTLS, unknown CA", ldapconn.Config{URIs: []string{byName}, StartTLS: true, TLS: stranger}, false},
		{"StartTLS, wrong name", ldapconn.Config{URIs: []string{s.LDAP}, StartTLS: true, TLS: trust(s.CA)}, false},
		{"LDAPS", simple(ldapconn.Config{URIs: []string{s.LDAPS}, TLS: trust(s.CA)}), true},
		{"LDAPS, unknown CA", ldapconn.Config{URIs: []string{s.LDAPS}, TLS: stranger}, false},
		{"LDAPS, wrong name", ldapconn.Config{URIs: []string{strings.Replace(s.LDAPS, "localhost", "127.0.0.1", 1)}, TLS: trust(s.CA)}, false},
		{"LDAPI, SASL EXTERNAL", ldapconn.Config{URIs: []string{s.LDAPI}, Bind: ldapconn.SASLExternal}, true},
		{"dead server first", ldapconn.Config{URIs: []string{"ldap://127.0.0.1:1", s.LDAP}}, true},
		{"no server", ldapconn.Config{}, false},
		{"nonsense", ldapconn.Config{URIs: []string{"http://x"}}, false},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			conn, err := ldapconn.Dial(ctx(t), c.config)
			if err != nil {
				refused := strings.Contains(c.name, "password")
				if c.ok || ldapconn.IsFault(err) != refused || errors.Is(err, ldapconn.ErrNoServer) == refused {
					t.Fatal(err)
				}
				return
			}
			defer conn.Close()
			entries, err := conn.Search(ctx(t), aliceQuery)
			if err != nil || len(entries) != 1 || string(entries[0].Get("MAIL")[0]) != "alice@example.com" {
				t.Fatalf("%v, %v", entries, err)
			}
			if !c.ok {
				t.Error("connected and searched")
			}
		})
	}
}

func TestTooManyEntriesAreAnError(t *testing.T) {
	s := slapdtest.Start(t, people)
	conn, err := ldapconn.Dial(ctx(t), ldapconn.Config{URIs: []string{s.LDAP}})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	q := aliceQuery
	q.Filter = "(objectClass=posixAccount)"
	if entries, err := conn.Search(ctx(t), q); !errors.Is(err, ldapconn.ErrTooMany) {
		t.Errorf("got %d entries and %v", len(entries), err)
	}
	q.Base = "ou=Nowhere," + slapdtest.Suffix
	if entries, err := conn.Search(ctx(t), q); !errors.Is(err, ldapconn.ErrNoBase) || len(entries) != 0 {
		t.Errorf("a base that does not exist: %v, %v", entries, err)
	}
}

// hostile serves connections with a function and ends with the test.
func hostile(t *testing.T, serve func(net.Conn)) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() { defer c.Close(); serve(c) }()
		}
	}()
	return "ldap://" + l.Addr().String()
}

func mute(c net.Conn) { io.Copy(io.Discard, c) }

func TestMuteServerCostsATenthOfASecond(t *testing.T) {
	s := slapdtest.Start(t, people)
	config := ldapconn.Config{URIs: []string{hostile(t, mute), s.LDAP}, Bind: ldapconn.Simple, DN: slapdtest.AdminDN, Password: []byte(slapdtest.Password), Dead: &ldapconn.DeadServers{}}
	for i, limit := range []time.Duration{1500 * time.Millisecond, 1500 * time.Millisecond} {
		started, allowed := time.Now(), slowtest.Allowance()
		conn, err := ldapconn.Dial(ctx(t), config)
		if err != nil {
			t.Fatal(err)
		}
		conn.Close()
		if took := time.Since(started); took > limit+allowed() {
			t.Errorf("connection %d took %s", i+1, took)
		}
		if conn.URI != s.LDAP {
			t.Errorf("connected to %s", conn.URI)
		}
	}
}

func TestHostileServers(t *testing.T) {
	answer := func(b []byte) func(net.Conn) {
		return func(c net.Conn) {
			io.ReadAtLeast(c, make([]byte, 4096), 10)
			c.Write(b)
			io.Copy(io.Discard, c)
		}
	}
	deep := make([]byte, 0, 40000)
	for range 10000 {
		deep = append(deep, 0x30, 0x82, 0x10, 0x00)
	}
	cases := map[string]func(net.Conn){
		"closes at once":       func(net.Conn) {},
		"mute":                 mute,
		"huge length":          answer([]byte{0x30, 0x84, 0xff, 0xff, 0xff, 0xff, 1, 2, 3}),
		"length of eight":      answer([]byte{0x30, 0x88, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}),
		"deep nesting":         answer(deep),
		"noise":                answer([]byte("HTTP/1.1 200 OK\r\n\r\n")),
		"closes in the answer": func(c net.Conn) { io.ReadAtLeast(c, make([]byte, 64), 10); c.Write([]byte{0x30, 0x20, 0x02}) },
		"endless": func(c net.Conn) {
			io.ReadAtLeast(c, make([]byte, 64), 10)
			for {
				if _, err := c.Write(make([]byte, 65536)); err != nil {
					return
				}
			}
		},
	}
	for name, serve := range cases {
		t.Run(name, func(t *testing.T) {
			started, allowed := time.Now(), slowtest.Allowance()
			config := ldapconn.Config{URIs: []string{hostile(t, serve)}, Bind: ldapconn.Simple, DN: "cn=x", Password: []byte("x"), ConnectTimeout: 500 * time.Millisecond}
			if conn, err := ldapconn.Dial(ctx(t), config); err == nil {
				conn.Close()
				t.Error("connected")
			}
			if took := time.Since(started); took > 2*time.Second+allowed() {
				t.Errorf("took %s", took)
			}
		})
	}
}

func TestEscapeFilterLeavesNoStructure(t *testing.T) {
	all := make([]byte, 256)
	for i := range all {
		all[i] = byte(i)
	}
	escaped := ldapconn.EscapeFilter(all)
	for _, r := range escaped {
		if !(r == '\\' || r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z') {
			t.Fatalf("%q is left as it is", r)
		}
	}
	if !strings.HasPrefix(escaped, `\00\01`) {
		t.Error(escaped[:12])
	}
}

func TestParseURI(t *testing.T) {
	for in, want := range map[string]string{"ldap://h": "h:389", "ldaps://h": "h:636", "ldap://h:1389/": "h:1389", "ldaps://[::1]:1": "[::1]:1", "ldapi://%2Frun%2Fx": "/run/x"} {
		if got, err := ldapconn.ParseURI(in); err != nil || got.Address != want {
			t.Errorf("%s: %+v, %v", in, got, err)
		}
	}
	for _, in := range []string{"", "ldap://", "http://h", "ldap://h/dc=x", "ldap://u@h", "ldap://h?x", "ldapi://%00"} {
		if got, err := ldapconn.ParseURI(in); err == nil {
			t.Errorf("%q: %+v", in, got)
		}
	}
}

func TestParseFilter(t *testing.T) {
	for in, want := range map[string]string{
		"(uid=alice)":              "(=uid)",
		"(&(a=1)(|(b=2)(!(c=3))))": "(&(=a)(|(=b)(!(=c))))",
		"(&)":                      "(&)",
		"(a=*)":                    "(*a)",
		"(a=x*y*z)":                "(substringsa/3)",
		`(a=\2a)`:                  "(=a)",
		"(a>=1)":                   "(>=a)",
		"(a;lang-en~=1)":           "(~=a;lang-en)",
		"(memberOf:1.2.840.113556.1.4.1941:=cn=x)": "(:=:1.2.840.113556.1.4.1941:memberOf)",
		"(uid:dn:caseIgnoreMatch:=x)":              "(:=:caseIgnoreMatch:uid:dn)",
	} {
		f, err := ldapconn.ParseFilter(in)
		if err != nil || f.Shape() != want {
			t.Errorf("%s: %v, %v", in, f, err)
		}
	}
	for _, in := range []string{"", "uid=x", "(uid=x", "(uid=x))", "(u(id=x)", "(=x)", "(uid)", "(u d=x)", "(&(a=b)c)", strings.Repeat("(&", 100) + "(a=b)" + strings.Repeat(")", 100)} {
		if f, err := ldapconn.ParseFilter(in); err == nil {
			t.Errorf("%q: %s", in, f.Shape())
		}
	}
}

// TestAllowRaisesTheLimit: a connection that was made with a small limit delivers what is allowed
// afterwards, also below TLS.
func TestAllowRaisesTheLimit(t *testing.T) {
	var many strings.Builder
	for i := range 100 {
		many.WriteString(slapdtest.Person(fmt.Sprintf("user%d", i), 3000+i, "description: "+strings.Repeat("x", 1000)))
	}
	s := slapdtest.Start(t, many.String())
	for name, c := range map[string]ldapconn.Config{
		"ldap":     {URIs: []string{s.LDAP}},
		"StartTLS": {URIs: []string{strings.Replace(s.LDAP, "127.0.0.1", "localhost", 1)}, TLS: trust(s.CA), StartTLS: true},
		"ldaps":    {URIs: []string{s.LDAPS}, TLS: trust(s.CA)},
	} {
		c.MaxBytes = 32 << 10
		conn, err := ldapconn.Dial(ctx(t), c)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		conn.Allow(1 << 20)
		entries, err := conn.Search(ctx(t), ldapconn.Query{
			Base:       "ou=People," + slapdtest.Suffix,
			Scope:      ldapconn.ScopeSub,
			Filter:     "(objectClass=posixAccount)",
			Attributes: []string{"uid", "description"},
		})
		if err != nil || len(entries) != 100 {
			t.Errorf("%s: %d entries, %v", name, len(entries), err)
		}
		conn.Close()
	}
}
