//go:build cgo

package endings

import (
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"pam_pkcs11/internal/certinfo"
	"pam_pkcs11/internal/testca"
	"pam_pkcs11/pkcs11"
	"pam_pkcs11/pkcs11/pkcs11test"

	"crypto/elliptic"
	"crypto/sha256"

	"golang.org/x/crypto/ssh"
)

// world is what all rows share: the module, the cards, the CA, the fault-injecting library.
type world struct {
	dir     string
	build   string // the directory with pam_pkcs11.so and its worker
	module  string // the one that is played, of this directory or of another
	softhsm string
	fault   *pkcs11test.Fault
	decks   map[string]string // card -> directory of its token store
	digest  string            // of the certificate that the digest mapper knows
	subject string            // of alice's certificate, in OpenSSL's one-line form
	ocsp    *responder
	sshKey  string     // of the certificate on the card "nobody", a line of authorized_keys
	alice   []byte     // DER of alice's certificate
	lasting testing.TB // the test of all rows: what is started for it serves several
}

var (
	worldOnce sync.Once
	shared    *world
	worldErr  error
	worldDir  string
)

func TestMain(m *testing.M) {
	code, done, err := withOwnAccounts()
	if err != nil {
		fmt.Fprintln(os.Stderr, "test/endings:", err)
		os.Exit(1)
	}
	if done {
		os.Exit(code)
	}

	code = m.Run()
	if worldDir != "" {
		_ = os.RemoveAll(worldDir)
	}
	os.Exit(code)
}

func theWorld(t *testing.T) *world {
	t.Helper()
	worldOnce.Do(func() { shared, worldErr = makeWorld() })
	if worldErr != nil {
		t.Fatal(worldErr)
	}
	return shared
}

func makeWorld() (*world, error) {
	dir, err := os.MkdirTemp("", "pam_pkcs11-endings-")
	if err != nil {
		return nil, err
	}
	worldDir = dir
	if err := os.Chmod(dir, 0o755); err != nil {
		return nil, err
	}
	w := &world{dir: dir, decks: map[string]string{}}
	if w.softhsm, err = pkcs11test.Library(); err != nil {
		return nil, err
	}
	if w.fault, err = pkcs11test.BuildFault(dir, w.softhsm); err != nil {
		return nil, err
	}
	w.build = filepath.Join(dir, "built")
	if said, err := exec.Command("../../pam/build.sh", w.build).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("pam/build.sh: %w: %s", err, said)
	}
	w.module = filepath.Join(w.build, "pam_pkcs11.so")
	return w, w.makeCards()
}

func (w *world) makeCards() error {
	ca := testca.NewRoot("Example CA")
	sub := ca.Intermediate("Example Issuing CA")
	stranger := testca.NewRoot("Another CA")
	if err := os.MkdirAll(filepath.Join(w.dir, "cacerts"), 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(w.dir, "cacerts", "ca.pem"), ca.PEM(), 0o644); err != nil {
		return err
	}
	forger := testca.NewRoot("Example CA", testca.WithKey(testca.P256())) // its name, not its key
	alice := ca.Leaf("alice", testca.WithKey(testca.RSA(2048, "alice")))
	lone := stranger.Leaf("alice")
	var err error
	if w.ocsp, err = newResponder(ca, alice); err != nil {
		return err
	}
	nobody := ca.Leaf("somebody", testca.WithKey(testca.Ed25519()))
	if err := w.makeCRLs(ca, alice); err != nil {
		return err
	}
	if err := w.know(alice, lone, nobody); err != nil {
		return err
	}
	w.alice = alice.DER
	id := []byte{1}
	one := func(c *testca.Cert) []pkcs11test.Object {
		return []pkcs11test.Object{{ID: id, Cert: c.DER, Key: c.Key.Private}}
	}
	future := time.Now().Add(48 * time.Hour)
	cards := map[string][]pkcs11test.Object{
		"alice":         one(alice),
		"p256":          one(ca.Leaf("alice", testca.WithKey(testca.P256()))),
		"p384":          one(ca.Leaf("alice", testca.WithKey(testca.EC(elliptic.P384())))),
		"p521":          one(ca.Leaf("alice", testca.WithKey(testca.EC(elliptic.P521())))),
		"ed25519":       one(ca.Leaf("alice", testca.WithKey(testca.Ed25519()))),
		"chain":         append(one(sub.Leaf("alice")), pkcs11test.Object{ID: []byte{9}, Cert: sub.DER}),
		"keyless first": append([]pkcs11test.Object{{ID: []byte{7}, Cert: ca.Leaf("alice").DER}}, one(ca.Leaf("alice"))...),
		"keyless":       {{ID: id, Cert: alice.DER}},
		"empty":         {},
		"junk first":    append([]pkcs11test.Object{{ID: []byte{7}, Cert: []byte{0x30, 3, 1, 1, 0xff}}}, one(alice)...),
		"expired":       one(ca.Leaf("alice", testca.Expired())),
		"early":         one(ca.Leaf("alice", testca.Validity(future, future.Add(time.Hour)))),
		"stranger":      one(lone),
		"forged":        one(forger.Leaf("alice")),
		"server":        one(ca.Leaf("alice", testca.ExtKeyUsage(false, "1.3.6.1.5.5.7.3.1"))),
		"encipher":      one(ca.Leaf("alice", testca.KeyUsage(true, 1<<2))),
		"copied":        {{ID: id, Cert: alice.DER, Key: testca.RSA(2048, "thief").Private}},
		"bob":           one(ca.Leaf("bob")),
		"expired bob":   one(ca.Leaf("bob", testca.Expired())),
		"expired lone":  one(stranger.Leaf("alice", testca.Expired())),
		"early bob":     one(ca.Leaf("bob", testca.Validity(future, future.Add(time.Hour)))),
		"root":          one(ca.Leaf("root")),
		"nul":           one(ca.Leaf("x", testca.Subject("CN=root\x00.example"))),
		"two names":     one(ca.Leaf("x", testca.Subject("CN=somebody", "CN=alice"))),
		"addresses": one(ca.Leaf("somebody", testca.Serial(1, 0xaf), testca.SAN(testca.Email("x@example.com"), testca.Email("alice@example.com"),
			testca.UPN("x@example.net"), testca.UPN("alice@example.com")))),
		"nobody":  one(nobody),
		"careful": {{ID: id, Cert: alice.DER, Key: alice.Key.Private, AlwaysAuthenticate: true}},
	}
	for label, objects := range cards {
		if err := w.makeStore(label, map[string][]pkcs11test.Object{label: objects}); err != nil {
			return fmt.Errorf("card %q: %w", label, err)
		}
	}
	if err := w.makeStore("bob+alice", map[string][]pkcs11test.Object{"bob": one(ca.Leaf("bob")), "alice": one(alice)}); err != nil {
		return err
	}
	return w.makeStore("blank", nil)
}

// know keeps what mapfiles and key files say of three certificates.
func (w *world) know(alice, lone, nobody *testca.Cert) error {
	signer, err := ssh.NewSignerFromKey(nobody.Key.Private)
	if err != nil {
		return err
	}
	w.sshKey = string(ssh.MarshalAuthorizedKey(signer.PublicKey()))
	parsed, err := certinfo.Parse(alice.DER)
	if err != nil {
		return err
	}
	w.subject = parsed.Subject.OneLine()
	w.digest = fmt.Sprintf("%x", sha256.Sum256(lone.DER))
	return nil
}

func (w *world) makeStore(card string, tokens map[string][]pkcs11test.Object) error {
	dir := filepath.Join(w.dir, "cards", card)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	store, err := pkcs11test.NewStore(dir)
	if err != nil {
		return err
	}
	w.decks[card] = dir
	for _, label := range []string{"bob", "alice"} { // in this order where there are both
		if objects, ok := tokens[label]; ok && len(tokens) == 2 {
			if err := store.Add(pkcs11test.Token{Label: label, PIN: pin, Objects: objects}); err != nil {
				return err
			}
		}
	}
	if len(tokens) == 1 {
		for label := range maps.Keys(tokens) {
			return store.Add(pkcs11test.Token{Label: label, PIN: pin, Objects: tokens[label]})
		}
	}
	return nil
}

// laid is a row made ready: a PAM service with the row's configuration and card.
type laid struct {
	services, service string
	fault             *pkcs11test.Fault
	insert            func() // nil where the card is there from the start
}

func (l *laid) logins(t *testing.T) int {
	t.Helper()
	n, err := l.fault.Count("C_Login")
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// lay writes the files of a row into a directory of its own.
func (w *world) lay(t *testing.T, e ending, stack int) *laid {
	t.Helper()
	dir, err := os.MkdirTemp(w.dir, "row-") // t.TempDir has the row's name in it, which SoftHSM's file cannot hold
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	l := &laid{services: filepath.Join(dir, "pam.d"), service: "endings", fault: w.fault}
	if e.service != "" {
		l.service = e.service
	}
	conf := w.configuration(t, dir, e)
	var lines strings.Builder
	if e.earlier != "" {
		lines.WriteString("auth [default=ignore] pam_unix.so nodelay\n")
	}
	fmt.Fprintf(&lines, "auth %s %s config_file=%s %s\n%s\n", stacks[stack].control, w.module, conf, quoteAll(e.args), stacks[stack].after)
	mustMkdir(t, l.services)
	mustWrite(t, filepath.Join(l.services, l.service), lines.String(), 0o644)
	l.insert = w.setFault(t, e)
	w.ocsp.forget(t)
	return l
}

// quoteAll brackets arguments that hold blanks, as pam.d(5) has it.
func quoteAll(args []string) string {
	var out []string
	for _, a := range args {
		if strings.Contains(a, " ") {
			a = "[" + a + "]"
		}
		out = append(out, a)
	}
	return strings.Join(out, " ")
}

// setFault writes the script of the fault-injecting library. With "insert when asked" there is no card until the returned
// function is called.
func (w *world) setFault(t *testing.T, e ending) (insert func()) {
	t.Helper()
	var lines []string
	later := false
	for _, f := range e.fault {
		if f == "insert when asked" {
			later = true
			continue
		}
		if left, ok := strings.CutPrefix(f, "tries "); ok {
			file := filepath.Join(w.dir, "tries")
			mustWrite(t, file, left+"\n", 0o644)
			f = "tries " + file
		}
		lines = append(lines, faultLine(t, f))
	}
	if !later {
		if err := w.fault.Set(lines...); err != nil {
			t.Fatal(err)
		}
		return nil
	}
	if err := w.fault.Set(append([]string{"absent"}, lines...)...); err != nil {
		t.Fatal(err)
	}
	return func() {
		if err := w.fault.Change(lines...); err != nil {
			t.Error(err)
		}
	}
}

// tokenFlags are the script lines of the words that rows use.
var tokenFlags = map[string]string{
	"flags locked": "flags 40000 0", "flags final-try": "flags 20000 0", "flags count-low": "flags 10000 0", "flags to-be-changed": "flags 80000 0",
	"flags not-initialised": "flags 0 8", "flags login-not-required": "flags 0 4", "flags protected-path": "flags 100 0\npad " + pin,
	"unlocked": "fault C_Login 1 return 0x100",
}

var codes = map[string]pkcs11.Code{
	"CKR_PIN_EXPIRED": pkcs11.CKR_PIN_EXPIRED, "CKR_PIN_LOCKED": pkcs11.CKR_PIN_LOCKED, "CKR_USER_PIN_NOT_INITIALIZED": pkcs11.CKR_USER_PIN_NOT_INITIALIZED,
	"CKR_DEVICE_ERROR": pkcs11.CKR_DEVICE_ERROR, "CKR_FUNCTION_CANCELED": pkcs11.CKR_FUNCTION_CANCELED, "CKR_GENERAL_ERROR": pkcs11.CKR_GENERAL_ERROR,
	"CKR_DEVICE_REMOVED": pkcs11.CKR_DEVICE_REMOVED, "CKR_FUNCTION_FAILED": pkcs11.CKR_FUNCTION_FAILED, "CKR_BUFFER_TOO_SMALL": pkcs11.CKR_BUFFER_TOO_SMALL,
}

func faultLine(t *testing.T, f string) string {
	if line, ok := tokenFlags[f]; ok {
		return line
	}
	function, action, found := strings.Cut(f, " ")
	switch {
	case !found || !strings.HasPrefix(function, "C_"):
		return strings.Replace(f, "signature", "sign", 1)
	case strings.HasPrefix(action, "CKR_"):
		code, known := codes[action]
		if !known {
			t.Fatalf("unknown code in %q", f)
		}
		return fmt.Sprintf("fault %s 0 return %#x", function, uint(code))
	}
	return "fault " + function + " 0 " + action
}
