package mapper_test

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"pam_pkcs11/config"
	"pam_pkcs11/internal/ldapconn/slapdtest"
	"pam_pkcs11/internal/slowtest"
	"pam_pkcs11/internal/testca"
	"pam_pkcs11/mapper"
	"pam_pkcs11/mapper/internal/directory"
	"pam_pkcs11/mapper/internal/mappertest"
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
	cert := mappertest.Parsed(t, alice)
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
			got, words := verdict(t, ldapChain(t, mapper.Options{}, ldapBlock(t, "ldap", c.settings...)), cert, "")
			if (got == "alice") != c.ok || !strings.Contains(words, c.says) {
				t.Errorf("got %q: %s", got, words)
			}
			if strings.Contains(words, slapdtest.Password) {
				t.Error("the password is in the log")
			}
		})
	}
}

// directoryOf sets up the directory of a block.
func directoryOf(t testing.TB, b config.Mapper, o mapper.Options) (*directory.Directory, error) {
	t.Helper()
	s, ok := b.Directory()
	if !ok {
		t.Fatalf("%s has no directory", b.Type)
	}
	return directory.New(b.Name, s, o)
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
		d, err := directoryOf(t, ldapBlock(t, "ldap", c.settings...), mapper.Options{})
		if err != nil || strings.Join(d.URIs, " ") != c.want {
			t.Errorf("%q: %v, %v", c.settings, d, err)
		}
	}
}

func TestFailover(t *testing.T) {
	alice := testca.NewRoot("Users CA").Leaf("Alice")
	cert := mappertest.Parsed(t, alice)
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
			chain := ldapChain(t, mapper.Options{StoreDir: dir}, ldapBlock(t, "ldap", "uri", uri+" "+s.LDAP))
			started, allowed := time.Now(), slowtest.Allowance()
			got, words := verdict(t, chain, cert, "")
			if took := time.Since(started); got != "alice" || took > 5*time.Second+allowed() {
				t.Errorf("%s: got %q after %s (%s)", name, got, took, words)
			}
			remembered = nil
			if data, err := os.ReadFile(filepath.Join(dir, "ldap-dead-"+directory.RecordName("directory")+".json")); err == nil {
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
	r, err := ldapChain(t, mapper.Options{}, ldapBlock(t, "ldap", "uri", mutedLater+" "+s.LDAP)).Find(ctx, mapper.Checked{Cert: cert}, true)
	if err != nil || r.User != "alice" {
		t.Errorf("mute at the search: %v, %v", r, err)
	}
}

// TestOneConnection: at any number of accounts one connection, one bind, and the searches of one flight.
func TestOneConnection(t *testing.T) {
	ca := testca.NewRoot("Users CA")
	leaf := ca.Leaf("Alice", testca.SAN(testca.Email("alice@example.com")))
	cert := mappertest.Parsed(t, leaf)
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
			chain := ldapChain(t, mapper.Options{}, ldapBlock(t, "ldap", append([]string{"uri", s.LDAP}, c.settings...)...))
			if got, words := verdict(t, chain, cert, c.user); got != "alice" {
				t.Fatalf("got %q (%s)", got, words)
			}
			binds := 0
			if len(c.settings) > 2 {
				binds = 1
			}
			for what, want := range map[string]struct{ least, most int }{
				"(IP=" + strings.TrimPrefix(s.LDAP, "ldap://") + ")": {2, 2}, // one is slapdtest's look whether it listens
				" method=128": {binds, binds},
				" SRCH base=": {1, c.searches}, // the answer to one ends the flight
			} {
				// slapd writes a line when it comes to it.
				slowtest.Until(t, "lines with "+what, func() bool {
					return strings.Count(s.Log(), what) >= want.least
				})
				if got := strings.Count(s.Log(), what); got > want.most {
					t.Errorf("%d times %q, want %d to %d:\n%s", got, what, want.least, want.most, s.Log())
				}
			}
		})
	}
}

// TestOneFlight: all searches are sent before any is answered, so that they cost one round trip.
func TestOneFlight(t *testing.T) {
	cert := mappertest.Parsed(t, testca.NewRoot("Users CA").Leaf("Alice", testca.SAN(testca.Email("alice@example.com"))))
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
	chain := ldapChain(t, mapper.Options{}, ldapBlock(t, "ldap", "uri", uri, "attribute_map", "a=cn", "attribute_map", "b=cn", "attribute_map", "c=email", "attribute_map", "d=subject"))
	if got, words := verdict(t, chain, cert, ""); got != "alice" {
		t.Errorf("got %q (%s) after %d searches", got, words, len(waiting))
	}
}

// TestPasswordsStayOut: at every level of the log, and in explanations, there is no password, and what was
// asked and found is.
func TestPasswordsStayOut(t *testing.T) {
	leaf := testca.NewRoot("Users CA").Leaf("Alice", testca.SAN(testca.Email("alice@example.com")))
	s := slapdtest.Start(t, slapdtest.Person("alice", 2001, "mail: alice@example.com"))
	var log bytes.Buffer
	o := mapper.Options{Logger: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))}
	for _, settings := range [][]string{
		{"passwd", slapdtest.Password}, {"passwd", "not-" + slapdtest.Password}, {"passwd_file", writeFile(t, "p", []byte(slapdtest.Password), 0o600)},
	} {
		settings = append(settings, "uri", "ldap://127.0.0.1:1 "+s.LDAP, "binddn", slapdtest.AdminDN, "attribute_map", "mail=email")
		all, err := ldapChain(t, o, ldapBlock(t, "ldap", settings...)).Explain(ldapContext(t), mapper.Checked{Cert: mappertest.Parsed(t, leaf)}, "", true)
		if err != nil {
			t.Fatal(err)
		}
		told := fmt.Sprint(all)
		if strings.Contains(told+log.String(), slapdtest.Password) {
			t.Errorf("the password is in the log or in the explanation:\n%s\n%s", log.String(), told)
		}
		if !strings.Contains(told, "(mail=alice\\40example\\2ecom)") || !strings.Contains(settings[1], "not-") && !strings.Contains(told, "entry uid=alice,") {
			t.Errorf("the explanation does not tell: %s", told)
		}
	}
}

// TestServerCertificatesExpire: the clock is the login's.
func TestServerCertificatesExpire(t *testing.T) {
	leaf := testca.NewRoot("Users CA").Leaf("Alice")
	s := slapdtest.Start(t, slapdtest.Person("alice", 2001, binaryLine("userCertificate;binary", leaf.DER)))
	block := ldapBlock(t, "ldap", "uri", s.LDAPS, "tls_cacertfile", writeFile(t, "ca.pem", s.CA.PEM(), 0o644))
	for _, c := range []struct {
		after      time.Duration
		want, says string
	}{{0, "alice", ""}, {2 * 365 * 24 * time.Hour, "", "expired"}, {-48 * time.Hour, "", "not yet valid"}} {
		got, words := verdict(t, ldapChain(t, mapper.Options{Now: func() time.Time { return time.Now().Add(c.after) }}, block), mappertest.Parsed(t, leaf), "")
		if got != c.want || !strings.Contains(words, c.says) {
			t.Errorf("after %s: got %q (%s)", c.after, got, words)
		}
	}
}

func TestServerByAnIPv6Address(t *testing.T) {
	leaf := testca.NewRoot("Users CA").Leaf("Alice")
	s := slapdtest.Start(t, slapdtest.Person("alice", 2001, binaryLine("userCertificate;binary", leaf.DER)))
	l, err := net.Listen("tcp", "[::1]:0")
	if err != nil {
		t.Logf("this machine has no IPv6 address: %v", err)
		return
	}
	defer l.Close()
	go func() {
		in, err := l.Accept()
		if err != nil {
			return
		}
		defer in.Close()
		out, err := net.Dial("tcp", strings.TrimPrefix(s.LDAP, "ldap://"))
		if err != nil {
			return
		}
		defer out.Close()
		go func() { _, _ = io.Copy(out, in) }()
		_, _ = io.Copy(in, out)
	}()
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	got, words := verdict(t, ldapChain(t, mapper.Options{}, ldapBlock(t, "ldap", "ldaphost", "::1", "ldapport", port)), mappertest.Parsed(t, leaf), "")
	if got != "alice" {
		t.Errorf("got %q (%s)", got, words)
	}
}
