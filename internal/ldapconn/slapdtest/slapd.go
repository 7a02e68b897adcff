// Package slapdtest runs a real OpenLDAP server for tests: on loopback, with a database and a
// configuration of its own below the test's directory, ended with the test.
package slapdtest

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"pam_pkcs11/internal/nettest"
	"pam_pkcs11/internal/slowtest"
	"pam_pkcs11/internal/testca"
)

// The directory's suffix and its administrator.
const (
	Suffix   = "dc=example,dc=com"
	AdminDN  = "cn=admin," + Suffix
	Password = "secret"
)

// Server is a running slapd.
type Server struct {
	LDAP, LDAPS, LDAPI string // URIs
	CA                 *testca.CA
	log                *log
}

// log collects what slapd writes, and can be read meanwhile.
type log struct {
	// mu guards the field below.
	mu   sync.Mutex
	text bytes.Buffer
}

// Write implements io.Writer.
func (l *log) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

// Log returns what a server that was started with StartLogged has written, one line for each
// connection ("ACCEPT"), operation ("BIND", "SRCH") and answer ("RESULT").
func (s *Server) Log() string {
	s.log.mu.Lock()
	defer s.log.mu.Unlock()
	return s.log.text.String()
}

// Start runs slapd with the entries of an LDIF text. hosts are the names in its certificate; none
// means "localhost". The Debian packages slapd and ldap-utils must be installed.
func Start(t testing.TB, ldif string, hosts ...string) *Server {
	t.Helper()
	return start(t, ldif, "0", hosts)
}

// StartACL is Start with directives at the end of the database's configuration, such as access
// rules (slapd.access(5)).
func StartACL(t testing.TB, ldif string, directives ...string) *Server {
	t.Helper()
	return start(t, ldif, "0", nil, directives...)
}

// StartLogged is Start with a log of all operations.
func StartLogged(t testing.TB, ldif string) *Server {
	t.Helper()
	return start(t, ldif, "256", nil)
}

// start runs slapd; level is that of its log (slapd(8), -d).
func start(t testing.TB, ldif, level string, hosts []string, directives ...string) *Server {
	t.Helper()
	for _, program := range []string{"/usr/sbin/slapd", "/usr/sbin/slapadd"} {
		if _, err := os.Stat(program); err != nil {
			t.Fatalf("%s is not there: install the Debian package slapd", program)
		}
	}

	dir := t.TempDir()
	s := &Server{CA: testca.NewRoot("Directory CA"), log: &log{}}

	s.writeTLS(t, dir, hosts)
	writeConfig(t, dir, directives)
	s.load(t, dir, ldif)
	s.run(t, dir, level)
	return s
}

// writeTLS writes a key and a certificate with the names of hosts.
func (s *Server) writeTLS(t testing.TB, dir string, hosts []string) {
	if len(hosts) == 0 {
		hosts = []string{"localhost"}
	}

	var names [][]byte
	for _, h := range hosts {
		names = append(names, testca.DNS(h))
	}

	cert := s.CA.Leaf(hosts[0], testca.SAN(names...), testca.ExtKeyUsage(false, "1.3.6.1.5.5.7.3.1"))
	write(t, dir, "ca.pem", s.CA.PEM())
	write(t, dir, "server.pem", cert.PEM())

	key, err := x509.MarshalPKCS8PrivateKey(cert.Key.Private)
	if err != nil {
		t.Fatal(err)
	}
	write(t, dir, "server.key", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key}))
}

// writeConfig writes slapd.conf(5) with the directives at its end.
func writeConfig(t testing.TB, dir string, directives []string) {
	if err := os.Mkdir(filepath.Join(dir, "db"), 0o700); err != nil {
		t.Fatal(err)
	}

	// The attributes of Active Directory are in no schema of Debian's package.
	write(t, dir, "slapd.conf", []byte(strings.ReplaceAll(`include /etc/ldap/schema/core.schema
include /etc/ldap/schema/cosine.schema
include /etc/ldap/schema/inetorgperson.schema
include /etc/ldap/schema/nis.schema
attributetype ( 1.2.840.113556.1.4.867 NAME 'altSecurityIdentities' EQUALITY caseIgnoreMatch SYNTAX 1.3.6.1.4.1.1466.115.121.1.15 )
attributetype ( 1.2.840.113556.1.4.656 NAME 'userPrincipalName' EQUALITY caseIgnoreMatch SYNTAX 1.3.6.1.4.1.1466.115.121.1.15 SINGLE-VALUE )
attributetype ( 1.2.840.113556.1.4.221 NAME 'sAMAccountName' EQUALITY caseIgnoreMatch SYNTAX 1.3.6.1.4.1.1466.115.121.1.15 SINGLE-VALUE )
attributetype ( 1.2.840.113556.1.4.146 NAME 'objectSid' EQUALITY octetStringMatch SYNTAX 1.3.6.1.4.1.1466.115.121.1.40 SINGLE-VALUE )
attributetype ( 1.2.840.113556.1.4.782 NAME 'objectCategory' EQUALITY caseIgnoreMatch SYNTAX 1.3.6.1.4.1.1466.115.121.1.15 SINGLE-VALUE )
objectclass ( 1.2.840.113556.1.5.9 NAME 'user' SUP top AUXILIARY MAY ( objectCategory $ altSecurityIdentities $ userPrincipalName $ sAMAccountName $ objectSid ) )
pidfile DIR/pid
modulepath /usr/lib/ldap
moduleload back_mdb
TLSCACertificateFile DIR/ca.pem
TLSCertificateFile DIR/server.pem
TLSCertificateKeyFile DIR/server.key
TLSVerifyClient try
authz-regexp "gidNumber=.*\+uidNumber=.*,cn=peercred,cn=external,cn=auth" "ADMIN"
authz-regexp "cn=([^,]*).*" "cn=$1,SUFFIX"
sizelimit 100000
database mdb
maxsize 268435456
suffix "SUFFIX"
rootdn "ADMIN"
rootpw PASSWORD
directory DIR/db
dbnosync
index objectClass,uid,mail,cn,userPrincipalName,altSecurityIdentities,sAMAccountName,objectSid eq
index userCertificate eq
`, "DIR", dir)))
	text, err := os.ReadFile(filepath.Join(dir, "slapd.conf"))
	if err != nil {
		t.Fatal(err)
	}
	filled := strings.NewReplacer("ADMIN", AdminDN, "SUFFIX", Suffix, "PASSWORD", Password).Replace(string(text))
	write(t, dir, "slapd.conf", []byte(filled+strings.Join(append(directives, ""), "\n")))
}

// load writes the root entries and those of the text into the database, before slapd runs.
func (s *Server) load(t testing.TB, dir, ldif string) {
	root := "dn: " + Suffix + "\nobjectClass: dcObject\nobjectClass: organization\ndc: example\no: Example\n\n" +
		"dn: ou=People," + Suffix + "\nobjectClass: organizationalUnit\nou: People\n\n"
	cmd := exec.Command("/usr/sbin/slapadd", "-q", "-f", filepath.Join(dir, "slapd.conf"))
	cmd.Stdin = strings.NewReader(root + ldif)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("slapadd: %v\n%s", err, out)
	}
}

// run starts slapd and waits until it listens.
func (s *Server) run(t testing.TB, dir, level string) {
	plain := nettest.Closed(t)
	secure := nettest.Closed(t)
	s.LDAP = "ldap://" + plain
	s.LDAPS = "ldaps://localhost" + secure[strings.LastIndex(secure, ":"):]
	s.LDAPI = "ldapi://" + url.PathEscape(filepath.Join(dir, "ldapi"))

	cmd := exec.Command("/usr/sbin/slapd", "-d", level, "-f", filepath.Join(dir, "slapd.conf"), "-h",
		s.LDAP+"/ ldaps://"+secure+"/ "+s.LDAPI+"/")
	cmd.Stdout = s.log
	cmd.Stderr = s.log

	// With -d slapd stays in the foreground: it ends with the test, however that ends.
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
	})

	await(t, plain)
	await(t, secure)
}

// await waits until a server listens: on a loaded machine that can take a minute.
func await(t testing.TB, address string) {
	if !slowtest.Poll(2*time.Minute, 10*time.Millisecond, func() bool {
		c, err := net.Dial("tcp", address)
		if err != nil {
			return false
		}
		c.Close()
		return true
	}) {
		t.Fatalf("slapd does not listen on %s", address)
	}
}

// write writes a file that only this user can read.
func write(t testing.TB, dir, name string, data []byte) {
	if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// Person is the LDIF of one posixAccount; more are further lines, each "attribute: value", those of
// one attribute together, and those of uid first.
func Person(uid string, number int, more ...string) string {
	lines := []string{
		fmt.Sprintf("dn: uid=%s,ou=People,%s", uid, Suffix),
		"objectClass: inetOrgPerson",
		"objectClass: posixAccount",
		"objectClass: user",
		"cn: " + uid,
		"sn: " + uid,
		fmt.Sprintf("uidNumber: %d", number),
		fmt.Sprintf("gidNumber: %d", number),
		"homeDirectory: /home/" + uid,
		"uid: " + uid,
		strings.Join(more, "\n"),
	}
	return strings.Join(lines, "\n") + "\n\n"
}
