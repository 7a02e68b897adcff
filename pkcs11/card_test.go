package pkcs11_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"go.uber.org/goleak"

	"pam_pkcs11/internal/certinfo"
	"pam_pkcs11/internal/secret"
	"pam_pkcs11/internal/testca"
	"pam_pkcs11/pkcs11"
	"pam_pkcs11/pkcs11/pkcs11test"
	"pam_pkcs11/token"
)

// fault is the library that fails as it is told, over SoftHSM; all tests use it one after the other.
var fault *pkcs11test.Fault

func TestMain(m *testing.M) {
	if os.Getenv(childMode) != "" {
		os.Exit(child())
	}
	os.Exit(run(m))
}

func run(m *testing.M) int {
	library, err := pkcs11test.Library()
	if err == nil {
		var dir string
		if dir, err = os.MkdirTemp("", "pkcs11-"); err == nil {
			defer os.RemoveAll(dir)
			fault, err = pkcs11test.BuildFault(dir, library)
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	code := m.Run()
	if err := goleak.Find(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return code
}

const rightPIN = "123456"

var authority = testca.NewRoot("Card CA")

// keyKinds are the kinds of keys that cards have.
var keyKinds = map[string]func() *testca.Key{
	"RSA of 2048 bits": func() *testca.Key { return testca.RSA(2048, "card") },
	"P-256":            testca.P256,
	"P-384":            func() *testca.Key { return testca.EC(p384) },
	"P-521":            func() *testca.Key { return testca.EC(p521) },
	"Ed25519":          testca.Ed25519,
}

// object makes a certificate and its key as they lie on a card.
func object(key *testca.Key, id string) pkcs11test.Object {
	cert := authority.Leaf("alice", testca.WithKey(key))
	return pkcs11test.Object{Label: "alice", ID: []byte(id), Cert: cert.DER, Key: key.Private}
}

// card makes a store with one token.
func card(t *testing.T, objects ...pkcs11test.Object) *pkcs11test.Store {
	t.Helper()
	store, err := pkcs11test.NewStore(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if err := store.Add(pkcs11test.Token{Label: "alice's card", PIN: rightPIN, Objects: objects}); err != nil {
		t.Fatal(err)
	}
	return store
}

// load loads SoftHSM, or the fault library when lines of a script are given.
func load(t *testing.T, store *pkcs11test.Store, trace func(string), lines ...string) *pkcs11.Module {
	t.Helper()
	library, environment := store.Library, store.Environment()
	if lines != nil {
		library, environment = fault.Library, append(environment, fault.Environment()...)
		script(t, lines...)
	}
	m, err := pkcs11.Load(library, pkcs11.Options{Environment: environment, Trace: trace})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = m.Close() })
	return m
}

// faultless is a script without faults.
var faultless = []string{""}

func script(t *testing.T, lines ...string) {
	t.Helper()
	if err := fault.Set(append([]string{"pin " + rightPIN}, lines...)...); err != nil {
		t.Fatal(err)
	}
}

func pinOf(t *testing.T, s string) *secret.PIN {
	t.Helper()
	p, err := secret.New([]byte(s))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Wipe)
	return p
}

// open selects the first token and opens a session.
func open(t *testing.T, m *pkcs11.Module, readWrite bool) *pkcs11.Session {
	t.Helper()
	slots, err := m.Slots()
	if err != nil {
		t.Fatal(err)
	}
	chosen := token.Selector{}.Select(pkcs11.Places(slots))
	if len(chosen) == 0 {
		t.Fatalf("no token among %d slots", len(slots))
	}
	s, err := m.OpenSession(chosen[0].ID, readWrite)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// verify checks a signature with the standard library.
func verify(cert *certinfo.Certificate, message []byte, sig pkcs11.Signature) bool {
	digest := message
	if sig.Scheme.Hash != 0 {
		h := sig.Scheme.Hash.New()
		h.Write(message)
		digest = h.Sum(nil)
	}
	public := cert.PublicKey
	if pss, ok := public.(*certinfo.PSSPublicKey); ok {
		public = pss.Key
	}
	switch k := public.(type) {
	case *rsa.PublicKey:
		if sig.Scheme.Kind == certinfo.SchemeRSAPSS {
			return rsa.VerifyPSS(k, sig.Scheme.Hash, digest, sig.Bytes, &rsa.PSSOptions{SaltLength: sig.Scheme.SaltLength}) == nil
		}
		return rsa.VerifyPKCS1v15(k, sig.Scheme.Hash, digest, sig.Bytes) == nil
	case *ecdsa.PublicKey:
		return ecdsa.VerifyASN1(k, digest, sig.Bytes)
	case ed25519.PublicKey:
		return ed25519.VerifyWithOptions(k, message, sig.Bytes, &ed25519.Options{Hash: crypto.Hash(0)}) == nil
	}
	return false
}

// login is a whole login, in the order of the PAM module: all that a card does in it.
func login(m *pkcs11.Module, pin *secret.PIN, message []byte) (sig pkcs11.Signature, cert *certinfo.Certificate, err error) {
	slots, err := m.Slots()
	if err != nil {
		return sig, nil, err
	}
	chosen := token.Selector{}.Select(pkcs11.Places(slots))
	if len(chosen) == 0 {
		return sig, nil, fmt.Errorf("no token: %v", slots)
	}
	s, err := m.OpenSession(chosen[0].ID, false)
	if err != nil {
		return sig, nil, err
	}
	objects, err := s.Certificates()
	if err != nil {
		return sig, nil, err
	}
	if len(objects) == 0 || objects[0].Err != nil {
		return sig, nil, fmt.Errorf("no certificate: %v", objects)
	}
	// From here on the PIN is there.
	if err := s.Login(pin); err != nil {
		return sig, nil, err
	}
	key, err := s.SigningKey(objects[0])
	if err != nil {
		return sig, nil, err
	}
	if sig, err = s.Sign(key, objects[0].Cert, message, func() error { return s.LoginContextSpecific(pin) }); err != nil {
		return sig, nil, err
	}
	if err := s.Logout(); err != nil {
		return sig, nil, err
	}
	if err := s.Close(); err != nil {
		return sig, nil, err
	}
	return sig, objects[0].Cert, m.Close()
}

func tempFile(t *testing.T, name string, data []byte, mode os.FileMode) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, data, mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
	return path
}
