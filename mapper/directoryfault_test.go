package mapper_test

import (
	"errors"
	"io"
	"os"
	"strings"
	"sync/atomic"
	"testing"

	"pam_pkcs11/config"
	"pam_pkcs11/internal/ldapconn/slapdtest"
	"pam_pkcs11/internal/testca"
	"pam_pkcs11/mapper"
	"pam_pkcs11/mapper/internal/mappertest"
)

// TestSettingsThatAreWrong: what a server says of the settings is no stranger's card. Each has its own words, and the
// error says that the directory could not be asked.
func TestSettingsThatAreWrong(t *testing.T) {
	ca := testca.NewRoot("Users CA")
	leaf := ca.Leaf("Alice", testca.SAN(testca.Email("alice@example.com")))
	known := mapper.Checked{Cert: mappertest.Parsed(t, leaf)}
	stranger := mapper.Checked{Cert: mappertest.Parsed(t, ca.Leaf("Stranger", testca.SAN(testca.Email("stranger@example.com"))))}
	shared := mapper.Checked{Cert: mappertest.Parsed(t, ca.Leaf("Shared", testca.SAN(testca.Email("x@example.com"))))}
	s := slapdtest.Start(t, slapdtest.Person("alice", 2001, "mail: alice@example.com", binaryLine("userCertificate;binary", leaf.DER)))
	limited := slapdtest.StartACL(t, slapdtest.Person("alice", 2001, "mail: x@example.com")+slapdtest.Person("bob", 2002, "mail: x@example.com")+slapdtest.Person("erin", 2005, "mail: x@example.com"), "sizelimit 1")
	referring := slapdtest.Hostile(t, func(r slapdtest.Request, w io.Writer) bool {
		if r.Op != slapdtest.SearchRequest {
			return slapdtest.Polite(r, w)
		}
		_, _ = w.Write(slapdtest.Result(r.ID, slapdtest.SearchDone, 10, testca.TLV(0xa3, testca.TLV(4, []byte("ldap://elsewhere.example/")))))
		return true
	})
	for _, c := range []struct {
		name     string
		uri      string
		settings []string
		cert     mapper.Checked
		says     string // "" where the directory could be asked
	}{
		{
			name: "base", uri: s.LDAP, settings: []string{"base", "ou=Nowhere," + slapdtest.Suffix},
			cert: stranger, says: "the base does not exist",
		},
		{
			name: "bind", uri: s.LDAP,
			settings: []string{"binddn", slapdtest.AdminDN, "passwd", "wrong"}, cert: stranger,
			says: "the server refuses the bind",
		},
		{
			name: "StartTLS", uri: slapdtest.Hostile(t, refusesTLS),
			settings: []string{"ssl", "tls"}, cert: stranger, says: "the server refuses StartTLS",
		},
		{
			name: "referral", uri: referring, cert: stranger,
			says: "only points to other servers: ldap://elsewhere.example/ (referrals = true follows them)",
		},
		{
			name: "size limit", uri: limited.LDAP,
			settings: []string{"filter", "(objectClass=posixAccount)", "uid_attribute", "uid", "attribute_map", "mail=email"},
			cert:     shared, says: "its own size limit",
		},
		{
			name: "attribute_map", uri: s.LDAP, settings: []string{"attribute_map", "mial=email"},
			cert: stranger, says: "attribute mial is not in the server's schema",
		},
		{
			name: "filter", uri: s.LDAP,
			settings: []string{"filter", "(&(objectClass=posixAccount)(iud=%s))"}, cert: stranger,
			says: "attribute iud is not in the server's schema",
		},
		{
			name: "attribute", uri: s.LDAP,
			settings: []string{"attribute", "userCertficate;binary"}, cert: stranger,
			says: "attribute userCertficate is not in the server's schema",
		},
		{
			name: "two attributes", uri: s.LDAP,
			settings: []string{"attribute_map", "mial=email", "attribute_map", "xcn=cn"},
			cert:     stranger, says: "attribute mial, xcn is not",
		},
		{
			name: "uid_attribute", uri: s.LDAP,
			settings: []string{"uid_attribute", "employeeNummer"}, cert: stranger,
			says: "attribute employeeNummer is not",
		},
		{name: "a stranger's card", uri: s.LDAP, cert: stranger},
		{
			name: "a stranger's card, other attributes", uri: s.LDAP,
			settings: []string{"attribute_map", "rfc822Mailbox=email", "attribute_map", "description;lang-en=cn"},
			cert:     stranger,
		},
		{
			name: "no server", uri: "ldap://127.0.0.1:1", cert: stranger,
			says: "no LDAP server answers",
		},
		{
			name: "a wrong attribute beside a right one", uri: s.LDAP,
			settings: []string{"attribute_map", "mial=email"}, cert: known,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, user := range []string{"", "alice"} {
				chain := ldapChain(t, mapper.Options{}, ldapBlock(t, "ldap", append([]string{"uri", c.uri}, c.settings...)...))
				r, err := chain.Find(ldapContext(t), c.cert, true)
				if user != "" {
					r, err = chain.Match(ldapContext(t), c.cert, user, true)
				}
				switch {
				case c.cert.Cert == known.Cert:
					if err != nil {
						t.Errorf("%q: %v", user, err)
					}
				case !errors.Is(err, mapper.ErrNoMatch) || errors.Is(err, mapper.ErrUnavailable) != (c.says != "") || !strings.Contains(err.Error(), c.says):
					t.Errorf("%q: %v, want %q", user, err, c.says)
				case !strings.Contains(r.Decisions[0].Verdict, c.says):
					t.Errorf("%q: %s", user, r.Decisions[0].Verdict)
				}
			}
		})
	}
}

func refusesTLS(r slapdtest.Request, w io.Writer) bool {
	if r.Op == slapdtest.ExtendedRequest {
		_, _ = w.Write(slapdtest.Result(r.ID, slapdtest.ExtendedAnswer, 2))
	}
	return true
}

// TestAnotherMapperSaysYes: a directory that cannot be asked matters only where nobody says yes.
func TestAnotherMapperSaysYes(t *testing.T) {
	cert := mapper.Checked{Cert: mappertest.Parsed(t, testca.NewRoot("Users CA").Leaf("alice"))}
	down := ldapBlock(t, "ldap", "uri", "ldap://127.0.0.1:1")
	byName := newBlock(t, "cn")
	for _, blocks := range [][]config.Mapper{{down, byName}, {byName, down}} {
		r, err := ldapChain(t, mapper.Options{}, blocks...).Match(ldapContext(t), cert, "alice", true)
		if err != nil || r.User != "alice" {
			t.Errorf("%v, %v", r, err)
		}
		if _, err := ldapChain(t, mapper.Options{}, blocks...).Match(ldapContext(t), cert, "bob", true); !errors.Is(err, mapper.ErrUnavailable) {
			t.Errorf("bob: %v", err)
		}
	}
}

// TestAServerThatRefusesIsNoSilence: the cache serves where no server is reached, and not where one was and refuses.
func TestAServerThatRefusesIsNoSilence(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Log("not root: nothing is kept, which is all that can be seen here")
	}
	leaf := testca.NewRoot("Users CA").Leaf("Alice")
	cert := mappertest.Parsed(t, leaf)
	for name, c := range map[string]struct {
		op, code byte
		more     [][]byte
		serves   bool
	}{
		"invalid credentials":   {slapdtest.BindRequest, 49, nil, false},
		"inappropriate bind":    {slapdtest.BindRequest, 48, nil, false},
		"insufficient access":   {slapdtest.SearchRequest, 50, nil, false},
		"no such object":        {slapdtest.SearchRequest, 32, nil, false},
		"referral":              {slapdtest.SearchRequest, 10, [][]byte{testca.TLV(0xa3, testca.TLV(4, []byte("ldap://127.0.0.1:1/")))}, false},
		"size limit":            {slapdtest.SearchRequest, 4, nil, false},
		"unwilling to perform":  {slapdtest.SearchRequest, 53, nil, false},
		"time limit":            {slapdtest.SearchRequest, 3, nil, true},
		"closes the connection": {slapdtest.SearchRequest, 0, nil, true},
		"closes it at the bind": {slapdtest.BindRequest, 0, nil, true},
	} {
		t.Run(name, func(t *testing.T) {
			var wrong atomic.Bool
			says := searching("uid=alice", "uid", "alice", "userCertificate;binary", string(leaf.DER))
			uri := slapdtest.Hostile(t, func(r slapdtest.Request, w io.Writer) bool {
				if !wrong.Load() || r.Op != c.op {
					return says(r, w)
				}
				answer := map[byte]byte{slapdtest.BindRequest: slapdtest.BindResponse, slapdtest.SearchRequest: slapdtest.SearchDone}[r.Op]
				if c.code > 0 {
					_, _ = w.Write(slapdtest.Result(r.ID, answer, c.code, c.more...))
				}
				return c.code > 0
			})
			o := mapper.Options{StoreDir: storeDir(t), Logger: nilLogger()}
			ask := func(uris string) string {
				got, _ := verdict(t, ldapChain(t, o, ldapBlock(t, "ldap", "uri", uris, "cache_hours", "8", "binddn", "cn=x", "passwd", "x")), cert, "alice")
				return got
			}
			for _, uris := range []string{uri, uri + " ldap://127.0.0.1:1", "ldap://127.0.0.1:1 " + uri} {
				wrong.Store(false)
				if got := ask(uris); got != "alice" {
					t.Fatalf("online: got %q", got)
				}
				wrong.Store(true)
				want := ""
				if c.serves && os.Geteuid() == 0 {
					want = "alice"
				}
				if got := ask(uris); got != want {
					t.Errorf("%s: got %q, want %q", uris, got, want)
				}
			}
		})
	}
}

// TestEarlierAnswersAreTakenBack: where the directory is asked and the entry found is nobody's any more, the answer of
// before does not come back with the next outage.
func TestEarlierAnswersAreTakenBack(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Log("not root: nothing is kept")
	}
	leaf := testca.NewRoot("Users CA").Leaf("Alice")
	cert := mappertest.Parsed(t, leaf)
	var dn atomic.Value
	dn.Store("uid=alice")
	uri := slapdtest.Hostile(t, func(r slapdtest.Request, w io.Writer) bool {
		return dn.Load() != "" && searching(dn.Load().(string), "uid", "alice", "userCertificate;binary", string(leaf.DER))(r, w)
	})
	o := mapper.Options{StoreDir: storeDir(t), Logger: nilLogger()}
	for _, c := range []struct{ dn, want string }{{"uid=alice", "alice"}, {"cn=alice", ""}, {"", ""}} {
		dn.Store(c.dn)
		if got, words := verdict(t, ldapChain(t, o, ldapBlock(t, "ldap", "uri", uri, "cache_hours", "8")), cert, "alice"); got != c.want {
			t.Errorf("%q: got %q (%s)", c.dn, got, words)
		}
	}
}

// TestAnExplanationThatFails: a server that does not want to say why nothing was found has said no all the same.
func TestAnExplanationThatFails(t *testing.T) {
	cert := expecting(t)
	for name, code := range map[string]byte{"refuses": 50, "ends": 0} {
		var searches atomic.Int32
		uri := slapdtest.Hostile(t, func(r slapdtest.Request, w io.Writer) bool {
			if r.Op == slapdtest.SearchRequest && searches.Add(1) > 2 {
				if code > 0 {
					_, _ = w.Write(slapdtest.Result(r.ID, slapdtest.SearchDone, code))
				}
				return code > 0
			}
			return slapdtest.Polite(r, w)
		})
		_, err := ldapChain(t, mapper.Options{}, ldapBlock(t, "ldap", "uri", uri, "attribute_map", "mail=email")).Find(ldapContext(t), mapper.Checked{Cert: cert}, true)
		if !errors.Is(err, mapper.ErrNoMatch) || errors.Is(err, mapper.ErrUnavailable) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
