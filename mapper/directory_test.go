package mapper

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/binary"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"pam_pkcs11/internal/certinfo"
	"pam_pkcs11/internal/ldapconn"
	"pam_pkcs11/internal/ldapconn/slapdtest"
	"pam_pkcs11/internal/testca"
)

func writeFile(t testing.TB, name string, data []byte, mode os.FileMode) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
	return path
}

func keyPEM(t testing.TB, c *testca.Cert) []byte {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(c.Key.Private)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
}

func TestWaysToADirectory(t *testing.T) {
	ca := testca.NewRoot("Users CA")
	alice := ca.Leaf("Alice")
	cert := ldapCertificate(t, alice)
	s := slapdtest.Start(t, slapdtest.Person("alice", 2001, binaryLine("userCertificate;binary", alice.DER)))
	caFile := writeFile(t, "ca.pem", s.CA.PEM(), 0o644)
	caDir := filepath.Dir(writeFile(t, "a.der", s.CA.DER, 0o644))
	stranger := writeFile(t, "ca.pem", testca.NewRoot("Another CA").PEM(), 0o644)
	junk := writeFile(t, "ca.pem", []byte("nothing"), 0o644)
	client := s.CA.Leaf("admin")
	clientCert, clientKey := writeFile(t, "c.pem", client.PEM(), 0o644), writeFile(t, "c.key", keyPEM(t, client), 0o600)
	openKey := writeFile(t, "c.key", keyPEM(t, client), 0o644)
	secret := []byte(slapdtest.Password + "\n")
	byName := strings.Replace(s.LDAP, "127.0.0.1", "localhost", 1)
	byNumber := strings.Replace(s.LDAPS, "localhost", "127.0.0.1", 1)
	host, port, _ := strings.Cut(strings.TrimPrefix(s.LDAP, "ldap://"), ":")
	_, tlsPort, _ := strings.Cut(strings.TrimPrefix(s.LDAPS, "ldaps://"), ":")
	admin := []string{"binddn", slapdtest.AdminDN}
	cases := []struct {
		name     string
		settings []string
		ok       bool
		says     string
	}{
		{"this machine, in the clear", []string{"uri", s.LDAP}, true, ""},
		{"this machine, StartTLS", []string{"uri", byName, "ssl", "tls", "tls_cacertfile", caFile}, true, ""},
		{"StartTLS, directory of authorities", []string{"uri", byName, "ssl", "tls_start", "tls_cacertdir", caDir}, true, ""},
		{"StartTLS, another authority", []string{"uri", byName, "ssl", "tls", "tls_cacertfile", stranger}, false, "unknown authority"},
		{"StartTLS, the system's authorities", []string{"uri", byName, "ssl", "tls"}, false, "unknown authority"},
		{"StartTLS, another name", []string{"uri", s.LDAP, "ssl", "tls", "tls_cacertfile", caFile}, false, "127.0.0.1"},
		{"StartTLS, unchecked", []string{"uri", s.LDAP, "ssl", "tls", "tls_checkpeer", "0"}, true, ""},
		{"StartTLS, checked by a number", []string{"uri", s.LDAP, "ssl", "tls", "tls_checkpeer", "1"}, false, "TLS"},
		{"no authority in the file", []string{"uri", byName, "ssl", "tls", "tls_cacertfile", junk}, false, "no certificate in them"},
		{"no file of authorities", []string{"uri", byName, "ssl", "tls", "tls_cacertfile", "/nonexistent/ca.pem"}, false, "tls_cacertfile"},
		{"LDAPS", []string{"uri", s.LDAPS, "tls_cacertfile", caFile}, true, ""},
		{"LDAPS, ssl = off", []string{"uri", s.LDAPS, "ssl", "off", "tls_cacertfile", caFile}, true, ""},
		{"LDAPS by ssl = on", []string{"uri", "ldap" + strings.TrimPrefix(s.LDAPS, "ldaps"), "ssl", "on", "tls_cacertfile", caFile}, true, ""},
		{"LDAPS, another name", []string{"uri", byNumber, "tls_cacertfile", caFile}, false, "127.0.0.1"},
		{"LDAPS, another authority", []string{"uri", s.LDAPS, "tls_cacertfile", stranger}, false, "unknown authority"},
		{"LDAPS to a server in the clear", []string{"uri", s.LDAP, "ssl", "ssl", "tls_cacertfile", caFile}, false, "TLS"},
		{"ldaphost and ldapport", []string{"ldaphost", host, "ldapport", port}, true, ""},
		{"ldaphost and ldapport, LDAPS", []string{"ldaphost", "localhost", "ldapport", tlsPort, "ssl", "on", "tls_cacertfile", caFile}, true, ""},
		{"ldaphost after a dead URI", []string{"uri", "ldap://127.0.0.1:1", "ldaphost", host, "ldapport", port}, true, ""},
		{"LDAPI", []string{"uri", s.LDAPI}, true, ""},
		{"LDAPI, SASL EXTERNAL", []string{"uri", s.LDAPI, "sasl_mech", "EXTERNAL"}, true, ""},
		{"client certificate, SASL EXTERNAL", []string{"uri", s.LDAPS, "tls_cacertfile", caFile, "tls_cert", clientCert, "tls_key", clientKey, "sasl_mech", "EXTERNAL"}, true, ""},
		{"client certificate, a key that others read", []string{"uri", s.LDAPS, "tls_cacertfile", caFile, "tls_cert", clientCert, "tls_key", openKey, "sasl_mech", "EXTERNAL"}, true, ""},
		{"SASL EXTERNAL without a client certificate", []string{"uri", s.LDAPS, "tls_cacertfile", caFile, "sasl_mech", "EXTERNAL"}, false, "bind"},
		{"another's key", []string{"uri", s.LDAPS, "tls_cacertfile", caFile, "tls_cert", clientCert, "tls_key", writeFile(t, "x.key", keyPEM(t, s.CA.Leaf("x")), 0o600)}, false, "tls_key"},
		{"passwd_file", append(admin, "uri", s.LDAP, "passwd_file", writeFile(t, "p", secret, 0o600)), true, ""},
		{"passwd_file that its group reads", append(admin, "uri", s.LDAP, "passwd_file", writeFile(t, "p", secret, 0o640)), false, "may be read by others"},
		{"passwd_file that everybody reads", append(admin, "uri", s.LDAP, "passwd_file", writeFile(t, "p", secret, 0o604)), false, "may be read by others"},
		{"passwd_file that is empty", append(admin, "uri", s.LDAP, "passwd_file", writeFile(t, "p", []byte("\n"), 0o600)), false, "is empty"},
		{"passwd_file that is not there", append(admin, "uri", s.LDAP, "passwd_file", "/nonexistent/p"), false, "passwd_file"},
		{"no server", nil, false, "no server is configured"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			got, words := verdict(t, ldapChain(t, Options{}, ldapBlock(t, "ldap", c.settings...)), cert, "")
			if (got == "alice") != c.ok || !strings.Contains(words, c.says) {
				t.Errorf("got %q: %s", got, words)
			}
			if strings.Contains(words, slapdtest.Password) {
				t.Error("the password is in the log")
			}
		})
	}
}

func TestWhereServersAre(t *testing.T) {
	cases := []struct {
		settings []string
		want     string
	}{
		{[]string{"uri", "ldap://a  ldaps://b"}, "ldap://a ldaps://b"},
		{[]string{"uri", "ldap://a:1 ldapi://%2Fx", "ssl", "on"}, "ldaps://a:1 ldapi://%2Fx"},
		{[]string{"ldaphost", "h"}, ""}, // of one letter, as ever
		{[]string{"ldaphost", "host"}, "ldap://host"},
		{[]string{"ldaphost", "host", "ldapport", "1389", "uri", "ldap://a"}, "ldap://a ldap://host:1389"},
		{[]string{"ldaphost", "::1", "ldapport", "1389"}, "ldap://[::1]:1389"},
		{[]string{"ldaphost", "ldaps://host:1"}, "ldaps://host:1"},
	}
	for _, c := range cases {
		d, err := newDirectory(ldapBlock(t, "ldap", c.settings...), Options{})
		if err != nil || strings.Join(d.uris, " ") != c.want {
			t.Errorf("%q: %v, %v", c.settings, d, err)
		}
	}
}

// searching takes the place of a directory with one person, whatever is asked.
func searching(dn string, attributes ...string) func(slapdtest.Request, io.Writer) bool {
	return func(r slapdtest.Request, w io.Writer) bool {
		return slapdtest.Polite(r, w, slapdtest.Entry(r.ID, dn, attributes...))
	}
}

func TestHostileDirectories(t *testing.T) {
	ca := testca.NewRoot("Users CA")
	leaf := ca.Leaf("Alice", testca.SAN(testca.Email("alice@example.com")))
	cert := ldapCertificate(t, leaf)
	var passwords atomic.Int64
	noTLS := func(code byte) func(slapdtest.Request, io.Writer) bool {
		return func(r slapdtest.Request, w io.Writer) bool {
			switch r.Op {
			case slapdtest.ExtendedRequest:
				_, _ = w.Write(slapdtest.Result(r.ID, slapdtest.ExtendedAnswer, code))
			case slapdtest.BindRequest:
				passwords.Add(1)
			}
			return true
		}
	}
	onSearch := func(answer func(r slapdtest.Request, w io.Writer) bool) func(slapdtest.Request, io.Writer) bool {
		return func(r slapdtest.Request, w io.Writer) bool {
			if r.Op != slapdtest.SearchRequest {
				return slapdtest.Polite(r, w)
			}
			return answer(r, w)
		}
	}
	raw := func(b []byte, goOn bool) func(slapdtest.Request, io.Writer) bool {
		return onSearch(func(_ slapdtest.Request, w io.Writer) bool { _, _ = w.Write(b); return goOn })
	}
	deep := make([]byte, 0, 40000)
	for range 10000 {
		deep = append(deep, 0x30, 0x82, 0x10, 0x00)
	}
	flood := func(e func(id int64) []byte) func(slapdtest.Request, io.Writer) bool {
		return onSearch(func(r slapdtest.Request, w io.Writer) bool {
			many := bytes.Repeat(e(r.ID), 1000)
			for range 1000 {
				if _, err := w.Write(many); err != nil {
					return false
				}
			}
			return false
		})
	}
	loop := func(r slapdtest.Request, w io.Writer) bool {
		_, _ = w.Write(slapdtest.Message(r.ID, slapdtest.SearchReference, testca.TLV(4, []byte("ldap://127.0.0.1:1/ou=x"))))
		_, _ = w.Write(slapdtest.Result(r.ID, slapdtest.SearchDone, 0))
		return true
	}
	bind := []string{"binddn", "cn=x", "passwd", "secret"}
	starttls := append([]string{"ssl", "tls"}, bind...)
	cases := []struct {
		name     string
		answer   func(slapdtest.Request, io.Writer) bool
		settings []string
		user     string
		says     string
	}{
		{"closes at once", func(slapdtest.Request, io.Writer) bool { return false }, nil, "", "fails"},
		{"closes in the answer", raw([]byte{0x30, 0x20, 2, 1}, false), nil, "", "fails"},
		{"a length of four gigabytes", raw([]byte{0x30, 0x84, 0xff, 0xff, 0xff, 0xff, 1}, true), nil, "", "fails"},
		{"a length of eight octets", raw([]byte{0x30, 0x88, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, true), nil, "", "fails"},
		{"ten thousand levels", raw(deep, true), nil, "", "fails"},
		{"ten thousand levels without end", raw([]byte(strings.Repeat("\x30\x80", 10000)), true), nil, "", "fails"},
		{"noise, then nothing", raw([]byte("HTTP/1.1 200 OK\r\n\r\n"), true), []string{"searchtimeout", "1"}, "", "fails"},
		{"entries without end", flood(func(id int64) []byte { return slapdtest.Entry(id, "uid=alice", "uid", "alice") }), nil, "", "fails"},
		{"entries of nothing", flood(func(id int64) []byte { return slapdtest.Message(id, slapdtest.SearchEntry) }), nil, "", "fails"},
		{"answers to nobody's question", flood(func(id int64) []byte { return slapdtest.Result(id+100, slapdtest.SearchDone, 0) }), nil, "", "fails"},
		{"an attribute without values", onSearch(func(r slapdtest.Request, w io.Writer) bool {
			_, _ = w.Write(slapdtest.Message(r.ID, slapdtest.SearchEntry, testca.TLV(4), testca.Sequence(testca.Sequence(testca.TLV(4, []byte("uid"))))))
			return true
		}), nil, "", "fails"},
		{"pages without end", onSearch(func(r slapdtest.Request, w io.Writer) bool {
			_, _ = w.Write(slapdtest.PagedDone(r.ID, "more"))
			return true
		}),
			[]string{"certificate_match", "compare"}, "", "has not ended"},
		{"two entries", onSearch(func(r slapdtest.Request, w io.Writer) bool {
			return slapdtest.Polite(r, w, slapdtest.Entry(r.ID, "uid=a", "uid", "alice"), slapdtest.Entry(r.ID, "uid=b", "uid", "bob"))
		}), nil, "", "more than one user"},
		{"another user's entry", searching("uid=bob", "uid", "bob"), nil, "alice", "no"},
		{"an entry with another certificate", searching("uid=alice", "uid", "alice", "userCertificate;binary", "x"), nil, "", "no"},
		{"an entry with another certificate, matched", searching("uid=alice", "uid", "alice", "userCertificate", "x"), nil, "alice", "no"},
		{"a login with a line end", searching("uid=x", "uid", "alice\nroot"), nil, "", "does not say its login"},
		{"a login with NUL", searching("uid=x", "uid", "alice\x00"), nil, "", "does not say its login"},
		{"an empty login", searching("uid=x", "uid", ""), nil, "", "does not say its login"},
		{"no login", searching("uid=x"), nil, "", "does not say its login"},
		{"root", searching("uid=x", "uid", "root"), nil, "", "below UID_MIN"},
		{"an error", onSearch(func(r slapdtest.Request, w io.Writer) bool {
			_, _ = w.Write(slapdtest.Result(r.ID, slapdtest.SearchDone, 50))
			return true
		}), nil, "", "Insufficient Access"},
		{"a size limit", onSearch(func(r slapdtest.Request, w io.Writer) bool {
			_, _ = w.Write(append(slapdtest.Entry(r.ID, "uid=alice", "uid", "alice"), slapdtest.Result(r.ID, slapdtest.SearchDone, 4)...))
			return true
		}), nil, "", "more than one user"},
		{"a referral", onSearch(func(r slapdtest.Request, w io.Writer) bool {
			_, _ = w.Write(slapdtest.Result(r.ID, slapdtest.SearchDone, 10, testca.TLV(0xa3, testca.TLV(4, []byte("ldap://127.0.0.1:1/")))))
			return true
		}), nil, "", "no"},
		{"a reference", onSearch(loop), nil, "", "no"},
		{"a reference to a dead server, followed", onSearch(loop), []string{"referrals", "true"}, "", "referral ldap://127.0.0.1:1"},
		{"StartTLS refused", noTLS(2), starttls, "", "StartTLS"},
		{"StartTLS agreed to and not done", noTLS(0), starttls, "", "TLS"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			started := time.Now()
			settings := append([]string{"uri", slapdtest.Hostile(t, c.answer)}, c.settings...)
			got, words := verdict(t, ldapChain(t, Options{}, ldapBlock(t, "ldap", settings...)), cert, c.user)
			if got != "" || !strings.Contains(words, c.says) {
				t.Errorf("got %q (%s), want %s", got, words, c.says)
			}
			if took := time.Since(started); took > 15*time.Second {
				t.Errorf("took %s", took)
			}
		})
	}
	if n := passwords.Load(); n != 0 {
		t.Errorf("%d passwords went out without TLS", n)
	}
}

// TestMuteDirectories: a server that stops at any step costs no more than its own time.
func TestMuteDirectories(t *testing.T) {
	cert := ldapCertificate(t, testca.NewRoot("Users CA").Leaf("Alice"))
	for name, c := range map[string]struct {
		until    byte
		settings []string
	}{
		"at the TLS handshake": {0, []string{"ssl", "ssl"}}, "at StartTLS": {slapdtest.ExtendedRequest, []string{"ssl", "tls"}},
		"at the bind": {slapdtest.BindRequest, []string{"binddn", "cn=x", "passwd", "x"}}, "at the search": {slapdtest.SearchRequest, []string{"searchtimeout", "1"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			uri := slapdtest.Hostile(t, func(r slapdtest.Request, w io.Writer) bool { return r.Op == c.until || slapdtest.Polite(r, w) })
			started := time.Now()
			got, words := verdict(t, ldapChain(t, Options{}, ldapBlock(t, "ldap", append([]string{"uri", uri}, c.settings...)...)), cert, "")
			if took := time.Since(started); got != "" || took > 10*time.Second || !strings.Contains(words, "fails") {
				t.Errorf("took %s: %q, %s", took, got, words)
			}
		})
	}
}

func TestFailover(t *testing.T) {
	alice := testca.NewRoot("Users CA").Leaf("Alice")
	cert := ldapCertificate(t, alice)
	s := slapdtest.Start(t, slapdtest.Person("alice", 2001, binaryLine("userCertificate;binary", alice.DER)))
	dir := storeDir(t)
	mute := slapdtest.Hostile(t, func(slapdtest.Request, io.Writer) bool { return true })
	closing := slapdtest.Hostile(t, func(r slapdtest.Request, w io.Writer) bool {
		return r.Op != slapdtest.SearchRequest && slapdtest.Polite(r, w)
	})
	mutedLater := slapdtest.Hostile(t, func(r slapdtest.Request, w io.Writer) bool {
		return r.Op == slapdtest.SearchRequest || slapdtest.Polite(r, w)
	})
	for name, uri := range map[string]string{"dead": "ldap://127.0.0.1:1", "mute": mute, "closing at the search": closing} {
		var remembered []string
		for range 2 {
			chain := ldapChain(t, Options{StoreDir: dir}, ldapBlock(t, "ldap", "uri", uri+" "+s.LDAP))
			started := time.Now()
			got, words := verdict(t, chain, cert, "")
			if took := time.Since(started); got != "alice" || took > 5*time.Second {
				t.Errorf("%s: got %q after %s (%s)", name, got, took, words)
			}
			remembered = nil
			if data, err := os.ReadFile(filepath.Join(dir, "ldap-dead-"+recordName("directory")+".json")); err == nil {
				var known map[string]time.Time
				if err := json.Unmarshal(data, &known); err != nil {
					t.Fatal(err)
				}
				for u := range known {
					remembered = append(remembered, u)
				}
			}
		}
		if os.Geteuid() == 0 && (len(remembered) != 1 || remembered[0] != uri) {
			t.Errorf("%s: remembered are %q", name, remembered)
		}
		_ = os.RemoveAll(dir)
	}
	// A server that answers the bind and then nothing gets half of the time.
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	r, err := ldapChain(t, Options{}, ldapBlock(t, "ldap", "uri", mutedLater+" "+s.LDAP)).Find(ctx, cert, true)
	if err != nil || r.User != "alice" {
		t.Errorf("mute at the search: %v, %v", r, err)
	}
}

// storeDir is a directory for records that does not exist yet.
func storeDir(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, "records")
}

func TestOfflineCache(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Log("not root: nothing is kept, which is all that can be seen here")
	}
	ca := testca.NewRoot("Users CA")
	now := time.Now()
	alice := ca.Leaf("Alice", testca.Validity(now.Add(-time.Hour), now.Add(10*time.Hour)))
	cert, other := ldapCertificate(t, alice), ldapCertificate(t, ca.Leaf("Alice"))
	dir := storeDir(t)
	online, says := true, searching("uid=alice", "uid", "alice", "userCertificate;binary", string(alice.DER))
	nobody := func(r slapdtest.Request, w io.Writer) bool { return slapdtest.Polite(r, w) }
	answer := says
	uri := slapdtest.Hostile(t, func(r slapdtest.Request, w io.Writer) bool { return online && answer(r, w) })
	clock := now
	ask := func(t *testing.T, cert *certinfo.Certificate, user string, settings ...string) string {
		t.Helper()
		settings = append([]string{"uri", uri}, settings...)
		chain := ldapChain(t, Options{StoreDir: dir, Now: func() time.Time { return clock }}, ldapBlock(t, "ldap", settings...))
		got, _ := verdict(t, chain, cert, user)
		return got
	}
	kept := "alice"
	if os.Geteuid() != 0 {
		kept = ""
	}
	expect := func(name, got, want string) {
		t.Helper()
		if got != want {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
	}
	hours := []string{"cache_hours", "8"}
	expect("online, no cache", ask(t, cert, ""), "alice")
	online = false
	expect("offline, nothing was kept", ask(t, cert, "", hours...), "")
	online = true
	expect("online", ask(t, cert, "", hours...), "alice")
	online = false
	expect("offline", ask(t, cert, "", hours...), kept)
	expect("offline, matched", ask(t, cert, "alice", hours...), kept)
	expect("offline, another user", ask(t, cert, "bob", hours...), "")
	expect("offline, another certificate of the same name", ask(t, other, "", hours...), "")
	expect("offline, cache off", ask(t, cert, ""), "")
	expect("offline, another configuration", ask(t, cert, "", "cache_hours", "8", "scope", "2"), "")
	clock = now.Add(7 * time.Hour)
	expect("offline, in time", ask(t, cert, "", hours...), kept)
	expect("offline, older than the policy is now", ask(t, cert, "", "cache_hours", "4"), "")
	clock = now.Add(9 * time.Hour)
	expect("offline, too late", ask(t, cert, "", hours...), "")
	clock = now.Add(-time.Hour)
	expect("offline, the clock was set back", ask(t, cert, "", hours...), "")
	clock, online = now, true
	expect("online again", ask(t, cert, "", "cache_hours", "100"), "alice")
	clock, online = now.Add(11*time.Hour), false
	expect("offline, after the certificate's end", ask(t, cert, "", "cache_hours", "100"), "")
	clock, online = now, true
	ask(t, cert, "", hours...)
	answer = nobody
	expect("the directory says no about another user", ask(t, cert, "bob", hours...), "")
	online = false
	expect("offline, the yes stands", ask(t, cert, "", hours...), kept)
	online = true
	expect("the directory takes it back", ask(t, cert, "", hours...), "")
	online = false
	expect("offline, taken back", ask(t, cert, "", hours...), "")
	checkRecords(t, dir)
}

// checkRecords: records are root's alone, and one that another could have written is not believed.
func checkRecords(t *testing.T, dir string) {
	s := newStore(Options{StoreDir: dir, Logger: nilLogger()})
	if s == nil {
		return
	}
	s.write("x", map[string]string{"a": "b"})
	info, err := os.Stat(filepath.Join(dir, "x"))
	parent, err2 := os.Stat(dir)
	if err != nil || err2 != nil || info.Mode() != 0o600 || parent.Mode().Perm() != 0o700 {
		t.Fatal(info, parent, err, err2)
	}
	var record map[string]string
	if !s.read("x", &record) || record["a"] != "b" {
		t.Error("a record is not read")
	}
	for name, spoil := range map[string]func() error{
		"readable": func() error { return os.Chmod(filepath.Join(dir, "x"), 0o644) },
		"of a stranger": func() error {
			return errors.Join(os.Chmod(filepath.Join(dir, "x"), 0o600), os.Chown(filepath.Join(dir, "x"), 4711, 4711))
		},
		"torn": func() error { return os.WriteFile(filepath.Join(dir, "x"), []byte(`{"a":`), 0o600) },
	} {
		s.write("x", map[string]string{"a": "b"})
		if err := spoil(); err != nil {
			t.Fatal(err)
		}
		if s.read("x", &record) {
			t.Errorf("a record that is %s is read", name)
		}
		s.remove("x")
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := s.replace("x", 1); err == nil {
		t.Error("a record is written where others can look")
	}
}

// nameServer answers SRV questions for one name on loopback (RFC 1035, RFC 2782).
func nameServer(t *testing.T, records ...string) *net.Resolver {
	t.Helper()
	c, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	go func() {
		buffer := make([]byte, 4096)
		for {
			n, from, err := c.ReadFrom(buffer)
			if err != nil {
				return
			}
			if len(records) == 1 && records[0] == "mute" {
				continue
			}
			_, _ = c.WriteTo(srvAnswer(buffer[:n], records), from)
		}
	}()
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "udp", c.LocalAddr().String())
	}}
}

// srvAnswer gives each record, written "priority weight port target".
func srvAnswer(question []byte, records []string) []byte {
	end := 12
	for question[end] != 0 {
		end += int(question[end]) + 1
	}
	end += 5
	out := append([]byte{}, question[:end]...)
	out[2], out[3] = 0x84, 0x00
	binary.BigEndian.PutUint16(out[6:], uint16(len(records)))
	binary.BigEndian.PutUint16(out[8:], 0)
	binary.BigEndian.PutUint16(out[10:], 0)
	for _, r := range records {
		var priority, weight, port uint16
		var target string
		if _, err := fmt.Sscan(r, &priority, &weight, &port, &target); err != nil {
			panic(err)
		}
		data := binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(nil, priority), weight), port)
		for label := range strings.SplitSeq(strings.TrimSuffix(target, "."), ".") {
			data = append(append(data, byte(len(label))), label...)
		}
		data = append(data, 0)
		out = append(out, 0xc0, 12, 0, 33, 0, 1, 0, 0, 0, 60)
		out = append(binary.BigEndian.AppendUint16(out, uint16(len(data))), data...)
	}
	return out
}

func TestServersOfADomain(t *testing.T) {
	alice := testca.NewRoot("Users CA").Leaf("Alice")
	cert := ldapCertificate(t, alice)
	s := slapdtest.Start(t, slapdtest.Person("alice", 2001, binaryLine("userCertificate;binary", alice.DER)))
	_, port, _ := strings.Cut(strings.TrimPrefix(s.LDAP, "ldap://"), ":")
	_, tlsPort, _ := strings.Cut(strings.TrimPrefix(s.LDAPS, "ldaps://"), ":")
	caFile := writeFile(t, "ca.pem", s.CA.PEM(), 0o644)
	cases := []struct {
		name     string
		records  []string
		settings []string
		want     string
		says     string
	}{
		{"one", []string{"0 0 " + port + " localhost."}, nil, "alice", ""},
		{"the second by priority", []string{"20 0 " + port + " localhost.", "10 0 1 localhost."}, nil, "alice", ""},
		{"LDAPS", []string{"0 0 " + tlsPort + " localhost."}, []string{"ssl", "ssl", "tls_cacertfile", caFile}, "alice", ""},
		{"none", nil, nil, "", "SRV records"},
		{"of another domain", []string{"0 0 " + port + " evil.example."}, nil, "", "no server in that domain"},
		{"no service", []string{"0 0 0 ."}, nil, "", "SRV records"},
		{"mute name server", []string{"mute"}, nil, "", "SRV records"},
		{"a written server beside none", nil, []string{"uri", s.LDAP}, "alice", ""},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			settings := append([]string{"srv_domain", "localhost"}, c.settings...)
			chain := ldapChain(t, Options{Resolver: nameServer(t, c.records...)}, ldapBlock(t, "ldap", settings...))
			got, words := verdict(t, chain, cert, "")
			if got != c.want || !strings.Contains(words, c.says) {
				t.Errorf("got %q: %s", got, words)
			}
		})
	}
}

func TestReferrals(t *testing.T) {
	alice := testca.NewRoot("Users CA").Leaf("Alice")
	cert := ldapCertificate(t, alice)
	s := slapdtest.Start(t, slapdtest.Person("alice", 2001, binaryLine("userCertificate;binary", alice.DER)))
	refer := func(to func() string) string {
		return slapdtest.Hostile(t, func(r slapdtest.Request, w io.Writer) bool {
			if r.Op != slapdtest.SearchRequest {
				return slapdtest.Polite(r, w)
			}
			_, _ = w.Write(slapdtest.Result(r.ID, slapdtest.SearchDone, 10, testca.TLV(0xa3, testca.TLV(4, []byte(to())))))
			return true
		})
	}
	base := "/ou=People," + slapdtest.Suffix
	one := refer(func() string { return s.LDAP + base })
	two := refer(func() string { return one + base })
	var self string
	count := 0
	self = refer(func() string { count++; return fmt.Sprintf("%s/ou=%d", self, count) })
	same := ""
	same = refer(func() string { return same + base })
	for name, c := range map[string]struct {
		uri, follow, want, says string
	}{
		"not followed":             {one, "false", "", "no"},
		"followed":                 {one, "true", "alice", ""},
		"followed twice":           {two, "true", "alice", ""},
		"a loop":                   {self, "true", "", "lead on after"},
		"a loop on the same URL":   {same, "true", "", "no"},
		"another kind of URL":      {refer(func() string { return "http://x/" }), "true", "", "not understood"},
		"with a filter of its own": {refer(func() string { return s.LDAP + base + "??sub?(uid=*)" }), "true", "", "filter"},
	} {
		got, words := verdict(t, ldapChain(t, Options{}, ldapBlock(t, "ldap", "uri", c.uri, "referrals", c.follow)), cert, "")
		if got != c.want || !strings.Contains(words, c.says) {
			t.Errorf("%s: got %q (%s)", name, got, words)
		}
	}
	d, err := newDirectory(ldapBlock(t, "ldap", "uri", s.LDAP, "ssl", "off", "binddn", "cn=x", "passwd", "x", "referrals", "true"), Options{Logger: nilLogger()})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.askReferred(ldapContext(t), d.conn, ldapconn.Query{}, "ldap://attacker.example/"); err == nil || !strings.Contains(err.Error(), "password does not go") {
		t.Errorf("an attacker's server: %v", err)
	}
}

// TestOneConnection: at any number of accounts one connection, one bind, and the searches of one flight.
func TestOneConnection(t *testing.T) {
	ca := testca.NewRoot("Users CA")
	leaf := ca.Leaf("Alice", testca.SAN(testca.Email("alice@example.com")))
	cert := ldapCertificate(t, leaf)
	var people strings.Builder
	for i := range 300 {
		people.WriteString(slapdtest.Person(fmt.Sprintf("user%d", i), 3000+i, fmt.Sprintf("mail: user%d@example.com", i)))
	}
	people.WriteString(slapdtest.Person("alice", 2001, "mail: alice@example.com", binaryLine("userCertificate;binary", leaf.DER)))
	bind := []string{"binddn", slapdtest.AdminDN, "passwd", slapdtest.Password}
	for _, c := range []struct {
		name     string
		settings []string
		user     string
		searches int
	}{
		{"find without uid_attribute", bind, "", 1},
		{"match", bind, "alice", 2},
		{"attribute_map of three", append(bind, "attribute_map", "description=cn", "attribute_map", "cn=cn", "attribute_map", "mail=email"), "", 4},
		{"without a bind", []string{"certificate_match", "exact"}, "", 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := slapdtest.StartLogged(t, people.String())
			chain := ldapChain(t, Options{}, ldapBlock(t, "ldap", append([]string{"uri", s.LDAP}, c.settings...)...))
			if got, words := verdict(t, chain, cert, c.user); got != "alice" {
				t.Fatalf("got %q (%s)", got, words)
			}
			binds := 0
			if len(c.settings) > 2 {
				binds = 1
			}
			for what, want := range map[string]int{"(IP=" + strings.TrimPrefix(s.LDAP, "ldap://") + ")": 2 /* one is slapdtest's look whether it listens */, " method=128": binds, " SRCH base=": c.searches} {
				// slapd writes a line when it comes to it.
				for deadline := time.Now().Add(5 * time.Second); strings.Count(s.Log(), what) < want && time.Now().Before(deadline); {
					time.Sleep(5 * time.Millisecond)
				}
				if got := strings.Count(s.Log(), what); got != want {
					t.Errorf("%d times %q, want %d:\n%s", got, what, want, s.Log())
				}
			}
		})
	}
}

// TestOneFlight: all searches are sent before any is answered, so that they cost one round trip.
func TestOneFlight(t *testing.T) {
	cert := ldapCertificate(t, testca.NewRoot("Users CA").Leaf("Alice", testca.SAN(testca.Email("alice@example.com"))))
	var waiting []int64
	uri := slapdtest.Hostile(t, func(r slapdtest.Request, w io.Writer) bool {
		if r.Op != slapdtest.SearchRequest {
			return slapdtest.Polite(r, w)
		}
		if waiting = append(waiting, r.ID); len(waiting) < 5 {
			return true
		}
		for i, id := range waiting {
			if i == 2 {
				_, _ = w.Write(slapdtest.Entry(id, "uid=alice", "uid", "alice"))
			}
			_, _ = w.Write(slapdtest.Result(id, slapdtest.SearchDone, 0))
		}
		return true
	})
	chain := ldapChain(t, Options{}, ldapBlock(t, "ldap", "uri", uri, "attribute_map", "a=cn", "attribute_map", "b=cn", "attribute_map", "c=email", "attribute_map", "d=subject"))
	if got, words := verdict(t, chain, cert, ""); got != "alice" {
		t.Errorf("got %q (%s) after %d searches", got, words, len(waiting))
	}
}
