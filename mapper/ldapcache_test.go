package mapper_test

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"pam_pkcs11/internal/certinfo"
	"pam_pkcs11/internal/ldapconn/slapdtest"
	"pam_pkcs11/internal/testca"
	"pam_pkcs11/mapper"
	"pam_pkcs11/mapper/internal/directory"
	"pam_pkcs11/mapper/internal/mappertest"
)

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
	cert, other := mappertest.Parsed(t, alice), mappertest.Parsed(t, ca.Leaf("Alice"))
	dir := storeDir(t)
	says := searching("uid=alice", "uid", "alice", "userCertificate;binary", string(alice.DER))
	nobody := func(r slapdtest.Request, w io.Writer) bool { return slapdtest.Polite(r, w) }
	var online, refuses atomic.Bool // a connection may outlive its question
	online.Store(true)
	uri := slapdtest.Hostile(t, func(r slapdtest.Request, w io.Writer) bool {
		if refuses.Load() {
			return online.Load() && nobody(r, w)
		}
		return online.Load() && says(r, w)
	})
	clock := now
	ask := func(t *testing.T, cert *certinfo.Certificate, user string, settings ...string) string {
		t.Helper()
		settings = append([]string{"uri", uri}, settings...)
		chain := ldapChain(t, mapper.Options{StoreDir: dir, Now: func() time.Time { return clock }}, ldapBlock(t, "ldap", settings...))
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
	online.Store(false)
	expect("offline, nothing was kept", ask(t, cert, "", hours...), "")
	online.Store(true)
	expect("online", ask(t, cert, "", hours...), "alice")
	online.Store(false)
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
	clock = now
	online.Store(true)
	expect("online again", ask(t, cert, "", "cache_hours", "100"), "alice")
	clock = now.Add(11 * time.Hour)
	online.Store(false)
	expect("offline, after the certificate's end", ask(t, cert, "", "cache_hours", "100"), "")
	clock = now
	online.Store(true)
	ask(t, cert, "", hours...)
	refuses.Store(true)
	expect("the directory says no about another user", ask(t, cert, "bob", hours...), "")
	online.Store(false)
	expect("offline, the yes stands", ask(t, cert, "", hours...), kept)
	online.Store(true)
	expect("the directory takes it back", ask(t, cert, "", hours...), "")
	online.Store(false)
	expect("offline, taken back", ask(t, cert, "", hours...), "")
	checkRecords(t, dir)
}

// checkRecords: records are root's alone, and one that another could have written is not believed.
func checkRecords(t *testing.T, dir string) {
	s := directory.NewStore(mapper.Options{StoreDir: dir, Logger: nilLogger()})
	if s == nil {
		return
	}
	s.Write("x", map[string]string{"a": "b"})
	info, err := os.Stat(filepath.Join(dir, "x"))
	parent, err2 := os.Stat(dir)
	if err != nil || err2 != nil || info.Mode() != 0o600 || parent.Mode().Perm() != 0o700 {
		t.Fatal(info, parent, err, err2)
	}
	var record map[string]string
	if !s.Read("x", &record) || record["a"] != "b" {
		t.Error("a record is not read")
	}
	for name, spoil := range map[string]func() error{
		"readable": func() error { return os.Chmod(filepath.Join(dir, "x"), 0o644) },
		"of a stranger": func() error {
			return errors.Join(os.Chmod(filepath.Join(dir, "x"), 0o600), os.Chown(filepath.Join(dir, "x"), 4711, 4711))
		},
		"torn": func() error { return os.WriteFile(filepath.Join(dir, "x"), []byte(`{"a":`), 0o600) },
	} {
		s.Write("x", map[string]string{"a": "b"})
		if err := spoil(); err != nil {
			t.Fatal(err)
		}
		if s.Read("x", &record) {
			t.Errorf("a record that is %s is read", name)
		}
		s.Remove("x")
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := s.Replace("x", 1); err == nil {
		t.Error("a record is written where others can look")
	}
}
