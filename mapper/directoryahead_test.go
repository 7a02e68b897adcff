package mapper_test

import (
	"context"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"pam_pkcs11/config"
	"pam_pkcs11/internal/certinfo"
	"pam_pkcs11/internal/ldapconn/slapdtest"
	"pam_pkcs11/internal/slowtest"
	"pam_pkcs11/internal/testca"
	"pam_pkcs11/mapper"
	"pam_pkcs11/mapper/internal/directory"
	"pam_pkcs11/mapper/internal/mappertest"
)

// counted is a directory that counts what it is asked for and can wait for it.
type counted struct {
	uri             string
	mu              sync.Mutex
	binds, searches int
	connected       int
	bound, hungUp   chan struct{}
}

// newCounted serves alice to everybody; onBind, where it is not nil, ends a connection after its bind.
func newCounted(t *testing.T, onBind func(n int) (goOn bool)) *counted {
	t.Helper()
	c := &counted{bound: make(chan struct{}, 10), hungUp: make(chan struct{}, 10)}
	behind := slapdtest.Hostile(t, func(r slapdtest.Request, w io.Writer) bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		switch r.Op {
		case slapdtest.BindRequest:
			c.binds++
			slapdtest.Polite(r, w)
			goOn := onBind == nil || onBind(c.binds)
			c.bound <- struct{}{}
			return goOn
		case slapdtest.SearchRequest:
			c.searches++
		}
		return slapdtest.Polite(r, w, slapdtest.Entry(r.ID, "uid=alice", "uid", "alice"))
	})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			c.mu.Lock()
			c.connected++
			c.mu.Unlock()
			go c.carry(in, strings.TrimPrefix(behind, "ldap://"))
		}
	}()
	c.uri = "ldap://" + l.Addr().String()
	return c
}

// carry takes a connection to the server behind, and tells when the client has closed it.
func (c *counted) carry(in net.Conn, behind string) {
	defer in.Close()
	out, err := net.Dial("tcp", behind)
	if err != nil {
		return
	}
	go func() {
		_, _ = io.Copy(in, out)
		in.Close()
	}()
	_, _ = io.Copy(out, in)
	out.Close()
	c.hungUp <- struct{}{}
}

func (c *counted) counts() (connected, binds, searches int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.connected, c.binds, c.searches
}

func within(t *testing.T, what string, c <-chan struct{}) {
	t.Helper()
	select {
	case <-c:
	case <-time.After(20 * time.Second):
		t.Fatalf("%s: not within 20 seconds", what)
	}
}

var simpleBind = []string{"binddn", "cn=x", "passwd", "x", "uid_attribute", "uid", "attribute_map", "mail=email"}

func expecting(t *testing.T) *certinfo.Certificate {
	t.Helper()
	return mappertest.Parsed(t, testca.NewRoot("Users CA").Leaf("Alice", testca.SAN(testca.Email("alice@example.com"))))
}

// TestConnectedAhead: what Expect has connected is what Find asks, and there is one bind.
func TestConnectedAhead(t *testing.T) {
	cert := expecting(t)
	s := newCounted(t, nil)
	chain := ldapChain(t, mapper.Options{}, ldapBlock(t, "ldap", append([]string{"uri", s.uri}, simpleBind...)...))
	ctx, cancel := context.WithCancel(ldapContext(t))
	defer cancel()
	chain.Expect(ctx, nil, "", true) // before the card is read
	chain.Expect(ctx, []*certinfo.Certificate{cert, cert}, "", true)
	chain.Expect(ctx, []*certinfo.Certificate{cert}, "", true) // another card
	within(t, "the bind", s.bound)
	if connected, binds, searches := s.counts(); connected != 1 || binds != 1 || searches != 0 {
		t.Errorf("before the question: %d connections, %d binds, %d searches", connected, binds, searches)
	}
	if got, words := verdict(t, chain, cert, ""); got != "alice" {
		t.Errorf("got %q (%s)", got, words)
	}
	if connected, binds, searches := s.counts(); connected != 1 || binds != 1 || searches == 0 {
		t.Errorf("after the question: %d connections, %d binds, %d searches", connected, binds, searches)
	}
	within(t, "the end of the connection", s.hungUp)
	if got, words := verdict(t, chain, cert, "alice"); got != "alice" { // the next question connects anew
		t.Errorf("got %q (%s)", got, words)
	}
}

// TestNotNeededAhead: a certificate that was refused leaves no connection behind, and nothing is asked.
func TestNotNeededAhead(t *testing.T) {
	s := newCounted(t, nil)
	chain := ldapChain(t, mapper.Options{}, ldapBlock(t, "ldap", append([]string{"uri", s.uri}, simpleBind...)...))
	ctx, cancel := context.WithCancel(ldapContext(t))
	chain.Expect(ctx, []*certinfo.Certificate{expecting(t)}, "", true)
	within(t, "the bind", s.bound)
	cancel()
	within(t, "the end of the connection", s.hungUp)
	if connected, binds, searches := s.counts(); connected != 1 || binds != 1 || searches != 0 {
		t.Errorf("%d connections, %d binds, %d searches", connected, binds, searches)
	}
}

// TestEndedAhead: a server that does not wait for the question is asked over a second connection.
func TestEndedAhead(t *testing.T) {
	cert := expecting(t)
	s := newCounted(t, func(n int) bool { return n > 1 })
	chain := ldapChain(t, mapper.Options{}, ldapBlock(t, "ldap", append([]string{"uri", s.uri}, simpleBind...)...))
	chain.Expect(ldapContext(t), []*certinfo.Certificate{cert}, "", true)
	within(t, "the bind", s.bound)
	within(t, "the end of the first connection", s.hungUp)
	if got, words := verdict(t, chain, cert, ""); got != "alice" {
		t.Errorf("got %q (%s)", got, words)
	}
	if connected, binds, _ := s.counts(); connected != 2 || binds != 2 {
		t.Errorf("%d connections, %d binds", connected, binds)
	}
}

// TestEndedWhenAsked: the same, where the end comes to light only when the question is asked. A new connection that ends
// so is the server's failure.
func TestEndedWhenAsked(t *testing.T) {
	cert := expecting(t)
	for ends, want := range map[int32]string{1: "alice", 2: ""} {
		var searches atomic.Int32
		uri := slapdtest.Hostile(t, func(r slapdtest.Request, w io.Writer) bool {
			if r.Op == slapdtest.SearchRequest && searches.Add(1) <= ends {
				return false
			}
			return slapdtest.Polite(r, w, slapdtest.Entry(r.ID, "uid=alice", "uid", "alice"))
		})
		chain := ldapChain(t, mapper.Options{}, ldapBlock(t, "ldap", append([]string{"uri", uri}, simpleBind...)...))
		chain.Expect(ldapContext(t), []*certinfo.Certificate{cert}, "", true)
		if got, words := verdict(t, chain, cert, ""); (want == "alice") != (got == "alice") {
			t.Errorf("%d connections end: got %q (%s)", ends, got, words)
		}
	}
}

// TestNothingAhead: no server hears of a certificate that it would not be asked about first.
func TestNothingAhead(t *testing.T) {
	cert := expecting(t)
	nothing := mappertest.Parsed(t, testca.NewRoot("Users CA").Leaf("Alice"))
	another, err := config.NewMapper("cn", "cn", nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		before   []config.Mapper
		settings []string
		cert     *certinfo.Certificate // nil: the card has not been read
		verified bool
	}{
		"another mapper is asked first":             {before: []config.Mapper{another}, cert: cert, verified: true},
		"another issuer's":                          {settings: []string{"issuer", "CN=Another CA"}, cert: cert, verified: true},
		"the issuer is not checked":                 {cert: cert},
		"there is nothing to ask":                   {settings: []string{"certificate_match", "off"}, cert: nothing, verified: true},
		"any issuer's":                              {settings: []string{"issuer", "CN=Another CA"}, verified: true},
		"any, of which there may be nothing to ask": {settings: []string{"certificate_match", "off"}, verified: true},
		"any, after another mapper":                 {before: []config.Mapper{another}, verified: true},
		"any, not checked":                          {},
	} {
		t.Run(name, func(t *testing.T) {
			s := newCounted(t, nil)
			blocks := append(c.before, ldapBlock(t, "ldap", append(append([]string{"uri", s.uri}, simpleBind...), c.settings...)...))
			chain := ldapChain(t, mapper.Options{}, blocks...)
			var shown []*certinfo.Certificate
			if c.cert != nil {
				shown = append(shown, c.cert)
			}
			chain.Expect(ldapContext(t), shown, "", c.verified)
			for _, m := range chain.Mappers() {
				if m, ok := m.(interface{ Ahead() bool }); ok && m.Ahead() {
					t.Error("connects")
				}
			}
		})
	}
}

// TestFailsAhead: where no server answers, the question hears it in the same words and within its own time.
func TestFailsAhead(t *testing.T) {
	cert := expecting(t)
	mute := slapdtest.Hostile(t, func(slapdtest.Request, io.Writer) bool { return true })
	for name, c := range map[string]struct{ uri, says string }{
		"refused": {"ldap://127.0.0.1:1", "connection refused"}, "mute": {mute, "no LDAP server answers"},
		"missing passwd_file": {"", "passwd_file"},
	} {
		t.Run(name, func(t *testing.T) {
			settings := append([]string{"uri", c.uri}, simpleBind...)
			if c.uri == "" {
				settings = []string{"uri", mute, "binddn", "cn=x", "passwd_file", "/nonexistent/password"}
			}
			plain, words := verdict(t, ldapChain(t, mapper.Options{}, ldapBlock(t, "ldap", settings...)), cert, "")
			chain := ldapChain(t, mapper.Options{}, ldapBlock(t, "ldap", settings...))
			chain.Expect(ldapContext(t), []*certinfo.Certificate{cert}, "", true)
			got, early := verdict(t, chain, cert, "")
			if got != "" || plain != "" || !strings.Contains(early, c.says) || !strings.Contains(words, c.says) {
				t.Errorf("got %q (%s), without Expect %q (%s)", got, early, plain, words)
			}
		})
	}
	t.Run("the question's time is over first", func(t *testing.T) {
		chain := ldapChain(t, mapper.Options{}, ldapBlock(t, "ldap", append([]string{"uri", mute}, simpleBind...)...))
		chain.Expect(ldapContext(t), []*certinfo.Certificate{cert}, "", true)
		ctx, cancel := context.WithCancel(ldapContext(t))
		cancel()
		started, allowed := time.Now(), slowtest.Allowance()
		if r, err := chain.Find(ctx, mapper.Checked{Cert: cert}, true); err == nil || time.Since(started) > time.Second+allowed() {
			t.Errorf("%v, %v after %s", r.User, err, time.Since(started))
		}
	})
}

// TestFailoverAhead: a dead server is passed over and remembered also where the connection is made ahead.
func TestFailoverAhead(t *testing.T) {
	cert := expecting(t)
	s := newCounted(t, nil)
	o := mapper.Options{StoreDir: storeDir(t), Logger: nilLogger()}
	mute := slapdtest.Hostile(t, func(slapdtest.Request, io.Writer) bool { return true })
	for range 2 {
		chain := ldapChain(t, o, ldapBlock(t, "ldap", append([]string{"uri", mute + " " + s.uri}, simpleBind...)...))
		chain.Expect(ldapContext(t), []*certinfo.Certificate{cert}, "", true)
		if got, words := verdict(t, chain, cert, ""); got != "alice" {
			t.Errorf("got %q (%s)", got, words)
		}
	}
	var known map[string]time.Time
	if d := directory.NewDeadStore(o, "directory"); os.Geteuid() == 0 && (!d.Store.Read(d.Name, &known) || len(known) != 1) {
		t.Errorf("remembered: %v", known)
	}
}
