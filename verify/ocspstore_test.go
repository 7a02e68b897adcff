package verify_test

import (
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"pam_pkcs11/internal/certinfo"
	"pam_pkcs11/internal/testca"
	"pam_pkcs11/verify"
	"pam_pkcs11/verify/ocsp"
)

// storeScene is a certificate whose responder says what the test wants, and a store in a directory.
type storeScene struct {
	t      *testing.T
	root   *testca.CA
	leaf   *certinfo.Certificate
	server *ocspServer
	dir    string
	now    time.Time

	mu     sync.Mutex
	answer func(q testca.Question) []byte // nil: tryLater
}

func newStoreScene(t *testing.T) *storeScene {
	s := &storeScene{t: t, root: testca.NewRoot("Root"), dir: filepath.Join(t.TempDir(), "state", "ocsp"), now: time.Now().Truncate(time.Second)}
	s.server = responding(t, func(q testca.Question) []byte {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.answer == nil {
			return s.root.OCSP(testca.OCSP{Status: 3})
		}
		return s.answer(q)
	})
	s.leaf = parsed(t, s.root.Leaf("Alice", testca.InfoAccess([]string{s.server.URL}, nil)))
	return s
}

func (s *storeScene) says(single testca.Single) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answer = func(q testca.Question) []byte {
		o := saying(q, single)
		o.ProducedAt = single.ThisUpdate
		return s.root.OCSP(o)
	}
}

func (s *storeScene) silent() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answer = nil
}

// login checks with a verifier of its own, as each login has one, and tells whether the responder was asked.
func (s *storeScene) login(o verify.Options) (err error, asked bool) {
	s.t.Helper()
	o.Now = func() time.Time { return s.now }
	v := withOCSP(s.t, o, &s.root.Cert)
	v.OCSP().Store = ocsp.NewStore(s.dir)
	before := s.server.asked()
	_, err = v.Check(within(s.t, 20*time.Second), s.leaf, nil)
	return err, s.server.asked() > before
}

func (s *storeScene) expect(what string, o verify.Options, want verify.Reason, asked bool) {
	s.t.Helper()
	err, was := s.login(o)
	if verify.ReasonOf(err) != want || (err == nil) != (want == "") || was != asked {
		s.t.Errorf("%s: got %v, the responder was asked: %v", what, err, was)
	}
}

func (s *storeScene) files() []string {
	names, err := filepath.Glob(filepath.Join(s.dir, "*.ocsp"))
	if err != nil {
		s.t.Fatal(err)
	}
	return names
}

func TestStoreKeepsGood(t *testing.T) {
	s := newStoreScene(t)
	s.says(testca.Single{ThisUpdate: s.now, NextUpdate: s.now.Add(time.Hour)})
	s.expect("first login", verify.Options{}, "", true)
	s.silent()
	s.expect("second login", verify.Options{}, "", false)
	s.expect("a fresh answer is required", verify.Options{OCSP: verify.OCSPOptions{Nonce: verify.NonceRequired}}, verify.ReasonRevocationUnknown, true)
	s.now = s.now.Add(30 * time.Minute)
	s.expect("older than ocsp_max_age", verify.Options{OCSP: verify.OCSPOptions{MaxAge: time.Minute}}, verify.ReasonRevocationUnknown, true)
	s.now = s.now.Add(31 * time.Minute)
	s.expect("its time is over", verify.Options{}, verify.ReasonRevocationUnknown, true)
	s.now = s.now.Add(-81 * time.Minute)
	s.expect("the clock was put back before it", verify.Options{}, verify.ReasonRevocationUnknown, true)
	files := s.files()
	if len(files) != 1 {
		t.Fatalf("files %v", files)
	}
	for path, want := range map[string]os.FileMode{files[0]: 0o600, s.dir: 0o700 | os.ModeDir, filepath.Dir(s.dir): 0o755 | os.ModeDir} {
		if info, err := os.Stat(path); err != nil || info.Mode() != want {
			t.Errorf("%s: %v, %v", path, info.Mode(), err)
		}
	}
}

func TestStoreKeepsNothingWithoutNextUpdate(t *testing.T) {
	s := newStoreScene(t)
	s.says(testca.Single{ThisUpdate: s.now, NoNextUpdate: true})
	s.expect("first login", verify.Options{}, "", true)
	if len(s.files()) != 0 {
		t.Errorf("files %v", s.files())
	}
}

func TestStoreKeepsRevoked(t *testing.T) {
	s := newStoreScene(t)
	hold := testca.Single{Status: testca.OCSPRevoked, Reason: 6, ThisUpdate: s.now, NextUpdate: s.now.Add(time.Hour)}
	s.says(hold)
	s.expect("first login", verify.Options{}, verify.ReasonRevoked, true)
	s.silent()
	s.expect("second login", verify.Options{Soft: true}, verify.ReasonRevoked, false)
	s.now = s.now.AddDate(0, 0, 1)
	s.expect("its time is over", verify.Options{Soft: true}, verify.ReasonRevoked, true)
	s.expect("with a fresh answer required", verify.Options{Soft: true, OCSP: verify.OCSPOptions{Nonce: verify.NonceRequired}}, verify.ReasonRevoked, true)
	s.says(testca.Single{ThisUpdate: hold.ThisUpdate.Add(-time.Minute), NextUpdate: s.now.Add(time.Hour)})
	s.expect("an older answer says good", verify.Options{}, verify.ReasonRevoked, true)
	s.says(testca.Single{ThisUpdate: hold.ThisUpdate, NextUpdate: s.now.Add(time.Hour)})
	s.expect("one as old says good", verify.Options{}, verify.ReasonRevoked, true)
	s.says(testca.Single{ThisUpdate: s.now, NextUpdate: s.now.Add(time.Hour)})
	s.expect("a newer one says good", verify.Options{}, "", true)
	s.silent()
	s.expect("that one is kept", verify.Options{}, "", false)
}

// TestStoreSurvivesPowerLoss: whatever a crash leaves in the file, the next login is not told "good" by it, and heals it.
func TestStoreSurvivesPowerLoss(t *testing.T) {
	s := newStoreScene(t)
	next := testca.Single{ThisUpdate: s.now, NextUpdate: s.now.Add(time.Hour)}
	s.says(next)
	s.expect("first login", verify.Options{}, "", true)
	path := s.files()[0]
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	s.silent()
	for n := 0; n < len(whole); n += 7 {
		write(t, path, whole[:n], 0o600)
		if err, _ := s.login(verify.Options{}); verify.ReasonOf(err) != verify.ReasonRevocationUnknown {
			t.Fatalf("cut after %d octets: %v", n, err)
		}
	}
	for n := 0; n < len(whole); n += 11 {
		bad := append([]byte(nil), whole...)
		bad[n] ^= 0x10
		write(t, path, bad, 0o600)
		if err, _ := s.login(verify.Options{}); verify.ReasonOf(err) != verify.ReasonRevocationUnknown {
			t.Fatalf("bit in octet %d: %v", n, err)
		}
	}
	write(t, path+".new", whole[:100], 0o600) // a crash between write and rename
	s.says(next)
	s.expect("healing", verify.Options{}, "", true)
	s.silent()
	s.expect("healed", verify.Options{}, "", false)
}

// TestStoreCannotBeWritten: a "revoked" that does not fit on the disk leaves no "good" behind there, and is remembered for
// the rest of the login.
func TestStoreCannotBeWritten(t *testing.T) {
	s := newStoreScene(t)
	s.says(testca.Single{ThisUpdate: s.now, NextUpdate: s.now.Add(time.Hour)})
	s.expect("first login", verify.Options{}, "", true)
	s.now = s.now.Add(2 * time.Hour)
	s.says(testca.Single{Status: testca.OCSPRevoked, ThisUpdate: s.now, NextUpdate: s.now.Add(time.Hour)})
	full := func(string, []byte) error { return syscall.ENOSPC }
	v := withOCSP(t, verify.Options{Now: func() time.Time { return s.now }}, &s.root.Cert)
	store := ocsp.NewStore(s.dir)
	store.Write = full
	v.OCSP().Store = store
	for _, silent := range []bool{false, true} {
		if silent {
			s.silent()
		}
		if _, err := v.Check(within(t, 20*time.Second), s.leaf, nil); verify.ReasonOf(err) != verify.ReasonRevoked {
			t.Errorf("disk full, responder silent %v: %v", silent, err)
		}
	}
	if len(s.files()) != 0 {
		t.Errorf("files %v", s.files())
	}
	s.now = s.now.Add(-2 * time.Hour)
	s.expect("the clock is put back", verify.Options{}, verify.ReasonRevocationUnknown, true)
}

func TestStoreIsOurs(t *testing.T) {
	s := newStoreScene(t)
	s.says(testca.Single{ThisUpdate: s.now, NextUpdate: s.now.Add(time.Hour)})
	s.expect("first login", verify.Options{}, "", true)
	path := s.files()[0]
	if err := os.Chmod(path, 0o622); err != nil {
		t.Fatal(err)
	}
	s.silent()
	s.expect("a file that others may write", verify.Options{}, verify.ReasonRevocationUnknown, true)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	elsewhere := filepath.Join(t.TempDir(), "answer")
	write(t, elsewhere, []byte("mine"), 0o600)
	if err := os.Symlink(elsewhere, path+".new"); err != nil {
		t.Fatal(err)
	}
	s.says(testca.Single{ThisUpdate: s.now, NextUpdate: s.now.Add(time.Hour)})
	s.expect("a symbolic link in the way", verify.Options{}, "", true)
	if data, err := os.ReadFile(elsewhere); err != nil || string(data) != "mine" {
		t.Errorf("written through the link: %q, %v", data, err)
	}
	if err := os.Chmod(s.dir, 0o777); err != nil {
		t.Fatal(err)
	}
	s.expect("a directory that others may write", verify.Options{}, "", true)
	if len(s.files()) != 0 {
		t.Errorf("kept all the same: %v", s.files())
	}
}

// TestStoreLock: while another process writes, a good answer is not kept, and a revoked one waits for it.
func TestStoreLock(t *testing.T) {
	s := newStoreScene(t)
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(filepath.Join(s.dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	fd := int(f.Fd())
	if err := syscall.Flock(fd, syscall.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	s.says(testca.Single{ThisUpdate: s.now, NextUpdate: s.now.Add(time.Hour)})
	s.expect("locked, good", verify.Options{}, "", true)
	if len(s.files()) != 0 {
		t.Errorf("files %v", s.files())
	}
	time.AfterFunc(100*time.Millisecond, func() { _ = syscall.Flock(fd, syscall.LOCK_UN) })
	s.says(testca.Single{Status: testca.OCSPRevoked, ThisUpdate: s.now, NextUpdate: s.now.Add(time.Hour)})
	s.expect("locked, revoked", verify.Options{}, verify.ReasonRevoked, true)
	if len(s.files()) != 1 {
		t.Errorf("files %v", s.files())
	}
}
