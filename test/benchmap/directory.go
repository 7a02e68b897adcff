package main

import (
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"pam_pkcs11/internal/ldapconn/slapdtest"
)

// people is how many entries the directory has.
const people = 10_000

// stage lets slapdtest, which is made for tests, run in a program: what it starts ends with the comparison.
type stage struct {
	testing.TB
	dir      string
	cleanups []func()
	server   *slapdtest.Server
}

// Helper, TempDir, Cleanup and Fatalf are what slapdtest asks of a test.
func (s *stage) Helper() {}

// TempDir returns a directory that goes away with the scene.
func (s *stage) TempDir() string {
	dir, err := os.MkdirTemp(s.dir, "slapd-")
	if err != nil {
		panic(err)
	}
	return dir
}

// Cleanup is done at the end.
func (s *stage) Cleanup(f func()) { s.cleanups = append(s.cleanups, f) }

// stopped is what Fatal and Fatalf throw.
type stopped string

// Fatalf ends the start of a server.
func (s *stage) Fatalf(format string, args ...any) { panic(stopped(fmt.Sprintf(format, args...))) }

// Fatal is Fatalf.
func (s *stage) Fatal(args ...any) { panic(stopped(fmt.Sprint(args...))) }

func (s *stage) end() {
	for _, f := range s.cleanups {
		f()
	}
}

// directory starts the server with all its entries, once; the wanted one is the last.
func (b *bench) directory() (server *slapdtest.Server, err error) {
	if b.stage.server != nil {
		return b.stage.server, nil
	}
	defer func() {
		if why, ok := recover().(stopped); ok {
			err = errors.New(string(why))
		}
	}()
	var ldif strings.Builder
	for i := range people {
		name := fmt.Sprintf("person%05d", i)
		ldif.WriteString(slapdtest.Person(name, 100_000+i, "mail: "+name+"@example.com"))
	}
	ldif.WriteString(slapdtest.Person(user, userID, "mail: "+user+"@example.com", "userCertificate;binary:: "+base64.StdEncoding.EncodeToString(b.cert.DER)))
	b.stage.server = slapdtest.Start(b.stage, ldif.String())
	return b.stage.server, nil
}

// block is the ldap mapper for both modules.
func block(uris string, more ...string) ([]string, error) {
	module, _ := filepath.Glob("/usr/lib/*/pam_pkcs11/ldap_mapper.so")
	if len(module) == 0 {
		return nil, errors.New("ldap_mapper.so is not there: install the Debian package libpam-pkcs11")
	}
	lines := append([]string{
		"module = " + module[0] + ";", fmt.Sprintf("uri = \"%s\";", uris), "scope = 1;", "ssl = off;",
		fmt.Sprintf("base = \"ou=People,%s\";", slapdtest.Suffix), fmt.Sprintf("binddn = \"%s\";", slapdtest.AdminDN), "passwd = \"" + slapdtest.Password + "\";",
		"attribute = \"userCertificate\";", "filter = \"(&(objectClass=posixAccount)(uid=%s))\";", "attribute_map = \"mail=email\";",
	}, more...)
	return []string{"use_mappers = ldap;", "mapper ldap {\n    " + strings.Join(lines, "\n    ") + "\n  }"}, nil
}

// byOneLine is the login to compare with where the card names the user.
func (b *bench) byOneLine() ([]string, error) {
	return b.mapped("one", 0, nil, user+" -> "+user)
}

// forget removes what earlier logins remember of dead servers, so that each login finds out anew.
func forget() {
	records, _ := filepath.Glob("/var/cache/pam_pkcs11/ldap-dead-*.json")
	for _, r := range records {
		_ = os.Remove(r)
	}
}

// mappedEntry: an entry by its mail address, the login in uid_attribute (reference figure: 2.3 ms).
func mappedEntry(b *bench) (feature, error) {
	server, err := b.directory()
	if err != nil {
		return feature{}, err
	}
	on, err := block(server.LDAP, "uid_attribute = \"uid\";")
	off, err2 := b.byOneLine()
	return feature{name: "directory: an entry by its mail address", off: off, ours: on, theirs: on, limit: 0.6, find: true}, errors.Join(err, err2)
}

// secondServer compares a list of two servers, of which the first does not work, with the second alone
// (reference figure: 2 s).
func (b *bench) secondServer(name, first string) (feature, error) {
	server, err := b.directory()
	if err != nil {
		return feature{}, err
	}
	off, err := block(server.LDAP, "uid_attribute = \"uid\";")
	on, err2 := block(first+" "+server.LDAP, "uid_attribute = \"uid\";")
	b.stage.Cleanup(forget)
	return feature{name: name, off: off, ours: on, theirs: on, limit: 0.05, most: 100 * time.Millisecond, find: true, rounds: 5, before: forget}, errors.Join(err, err2)
}

// muteServer accepts and says nothing.
func muteServer(b *bench) (feature, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return feature{}, err
	}
	b.stage.Cleanup(func() { l.Close() })
	return b.secondServer("directory: the first server is mute", "ldap://"+l.Addr().String())
}

// deadServer does not even accept: its queue is full, and the system drops what comes.
func deadServer(b *bench) (feature, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return feature{}, err
	}
	b.stage.Cleanup(func() { unix.Close(fd) })
	if err := errors.Join(unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}), unix.Listen(fd, 0)); err != nil {
		return feature{}, err
	}
	address, err := unix.Getsockname(fd)
	if err != nil {
		return feature{}, err
	}
	uri := fmt.Sprintf("127.0.0.1:%d", address.(*unix.SockaddrInet4).Port)
	for range 4 {
		if c, err := net.DialTimeout("tcp", uri, 100*time.Millisecond); err == nil {
			b.stage.Cleanup(func() { c.Close() })
		}
	}
	return b.secondServer("directory: the first server is dead", "ldap://"+uri)
}

// everybody: without uid_attribute the other module asks for each account of the machine, of which there
// are ten thousand now (reference figures: 4.4 s, 10,000 connections).
func everybody(b *bench) (feature, error) {
	server, err := b.directory()
	if err != nil {
		return feature{}, err
	}
	var lines strings.Builder
	for i := range people {
		fmt.Fprintf(&lines, "person%05d:x:%d:%d::/nonexistent:/bin/sh\n", i, 100_000+i, 100_000+i)
	}
	fmt.Fprintf(&lines, "%s:x:%d:%d::%s:/bin/sh\n", user, userID, userID, b.home()) // the last one
	if err := errors.Join(unix.Unmount("/etc/passwd", unix.MNT_DETACH), addAccounts(filepath.Join(b.scene.Dir, "passwd-large"), lines.String())); err != nil {
		return feature{}, err
	}
	on, err := block(server.LDAP)
	off, err2 := b.byOneLine()
	return feature{name: "directory: find among 10,000 accounts", off: off, ours: on, theirs: on, limit: 0.001, most: 2 * time.Millisecond, find: true, rounds: 5}, errors.Join(err, err2)
}
