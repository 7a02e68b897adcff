//go:build cgo

package endings

import (
	"crypto/sha256"
	"encoding/hex"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/msteinert/pam/v2"

	"pam_pkcs11/internal/certinfo"
	"pam_pkcs11/internal/testca"
	"pam_pkcs11/verify"
)

// responder answers OCSP requests on loopback for the whole run: what it says stands in the path. Rows write
// OCSP/PATH for its address.
type responder struct {
	url  string
	mute net.Listener // takes connections and says nothing
	kept string       // file of the answers about alice's certificate in the system's store
}

func newResponder(ca *testca.CA, alice *testca.Cert) (*responder, error) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		q, err := testca.ParseQuestion(body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		single := testca.Single{CertID: q.CertID, NoNextUpdate: true}
		if r.URL.Path == "/revoked" {
			single.Status, single.Reason = testca.OCSPRevoked, 1
			time.Sleep(500 * time.Millisecond) // so that the prompt is there before, in every run
		}
		_, _ = w.Write(ca.OCSP(testca.OCSP{Singles: []testca.Single{single}, Nonce: q.Nonce}))
	}))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	cert, err := certinfo.Parse(alice.DER)
	if err != nil {
		return nil, err
	}
	h := sha256.New()
	h.Write(ca.Key.SPKI)
	h.Write(cert.RawIssuer)
	h.Write(cert.SerialBytes)
	return &responder{url: server.URL, mute: l,
		kept: filepath.Join(verify.DefaultStore, "ocsp", hex.EncodeToString(h.Sum(nil))+".ocsp")}, nil
}

// fill puts the addresses into lines of a configuration.
func (r *responder) fill(lines string) string {
	return strings.NewReplacer("OCSP/silent", "http://"+r.mute.Addr().String(), "OCSP", r.url).Replace(lines)
}

// forget removes what a row left in the system's store, and the store where it was not there before.
func (r *responder) forget(t *testing.T) {
	t.Helper()
	var missing []string
	for dir := filepath.Dir(r.kept); dir != "/var/lib"; dir = filepath.Dir(dir) {
		if !exists(dir) {
			missing = append(missing, dir)
		}
	}
	t.Cleanup(func() {
		_ = os.Remove(r.kept) // most rows leave nothing
		for _, dir := range missing {
			_ = os.Remove(filepath.Join(dir, "lock"))
			_ = os.Remove(dir)
		}
	})
	if lists := filepath.Join(verify.DefaultStore, "crl"); !exists(lists) {
		t.Cleanup(func() { // before the directory above it is removed: cleanups go backwards
			locks, _ := filepath.Glob(filepath.Join(lists, "*.lock"))
			for _, l := range locks {
				_ = os.Remove(l)
			}
			_ = os.Remove(lists)
		})
	}
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

func ocspRows() []ending {
	ok := []string{pin}
	asking := func(lines ...string) []string {
		return append([]string{"cert_policy = ca, signature, ocsp_on;"}, lines...)
	}
	brief := []string{"verify_timeout = 1;"}
	return []ending{
		{name: "OCSP says good", card: "alice", user: "alice", module: asking("ocsp_url = OCSP/good;"), answers: ok, said: granted("alice"), logins: 1},
		{name: "OCSP says good, nonce required", card: "alice", user: "alice", module: asking("ocsp_url = OCSP/good;", "ocsp_nonce = required;"), answers: ok, said: granted("alice"), logins: 1},
		{name: "OCSP says revoked: the PIN is not sent", card: "alice", user: "alice", module: asking("ocsp_url = OCSP/revoked;"), answers: ok,
			code: pam.ErrCredInsufficient, said: asked("alice", "E Error 2352"), slow: []string{"E Error 2352"}},
		{name: "OCSP says revoked, revocation = soft", card: "alice", user: "alice", module: asking("ocsp_url = OCSP/revoked;", "revocation = soft;"), answers: ok,
			code: pam.ErrCredInsufficient, said: asked("alice", "E Error 2352"), slow: []string{"E Error 2352"}},
		{name: "no OCSP responder is named", card: "alice", user: "alice", module: asking(), answers: ok, code: pam.ErrCredInsufficient, said: []string{"E Error 2356"}},
		{name: "no OCSP responder is named, revocation = soft", card: "alice", user: "alice", module: asking("revocation = soft;"), answers: ok, said: granted("alice"), logins: 1},
		{name: "OCSP responder is mute", card: "alice", user: "alice", global: brief, module: asking("ocsp_url = OCSP/silent;"), answers: ok,
			code: pam.ErrCredInsufficient, said: asked("alice", "E Error 2356")},
		{name: "OCSP responder is mute, revocation = soft", card: "alice", user: "alice", global: brief, module: asking("ocsp_url = OCSP/silent;", "revocation = soft;"), answers: ok,
			said: granted("alice"), logins: 1},
		{name: "no OCSP responder is named, and no list is there", card: "alice", user: "alice", module: []string{"cert_policy = ca, signature, ocsp_on, crl_offline;", "crl_dir = /nonexistent;"},
			answers: ok, code: pam.ErrCredInsufficient, said: []string{"E Error 2356"}},
		{name: "ocsp_responder_cert is missing", card: "alice", user: "alice", module: asking("ocsp_responder_cert = /nonexistent;"), answers: ok,
			code: pam.ErrAuthinfoUnavail, said: []string{"E Error 2364"}},
	}
}

// TestRevokedIsKept: the worker of a login has the rights and the place to keep what a responder said, for root only.
func TestRevokedIsKept(t *testing.T) {
	w := theWorld(t)
	run := *w
	for _, e := range ocspRows() {
		if !strings.Contains(e.name, "the PIN is not sent") {
			continue
		}
		check(t, e, play(t, &run, e, 0), 0)
		info, err := os.Stat(w.ocsp.kept)
		if err != nil || info.Mode() != 0o600 {
			t.Fatalf("%v, %v", info, err)
		}
		if dir, err := os.Stat(filepath.Dir(w.ocsp.kept)); err != nil || dir.Mode().Perm() != 0o700 {
			t.Errorf("%v, %v", dir, err)
		}
	}
}
