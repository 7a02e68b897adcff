package verify_test

import (
	"context"
	"crypto"
	"encoding/base64"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"pam_pkcs11/internal/testca"
	"pam_pkcs11/verify"
)

// Peers.md 5.2, group 13, against real HTTP servers on loopback.

// ocspServer is a responder that a test has in its hands.
type ocspServer struct {
	URL string

	mu        sync.Mutex
	questions []testca.Question
	methods   []string
}

func (s *ocspServer) asked() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.methods)
}

// responding starts a responder; answer gives the body for a question.
func responding(t testing.TB, answer func(q testca.Question) []byte) *ocspServer {
	t.Helper()
	return serving(t, func(w http.ResponseWriter, _ *http.Request, q testca.Question) {
		w.Header().Set("Content-Type", "application/ocsp-response")
		_, _ = w.Write(answer(q))
	})
}

// serving is responding for answers that are not only a body.
func serving(t testing.TB, answer func(w http.ResponseWriter, r *http.Request, q testca.Question)) *ocspServer {
	t.Helper()
	s := &ocspServer{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		q, err := readQuestion(r)
		if err != nil {
			t.Errorf("%s %s: %v", r.Method, r.URL, err)
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		s.mu.Lock()
		s.questions, s.methods = append(s.questions, q), append(s.methods, r.Method)
		s.mu.Unlock()
		answer(w, r, q)
	}))
	t.Cleanup(server.Close)
	s.URL = server.URL + "/ocsp"
	return s
}

func readQuestion(r *http.Request) (testca.Question, error) {
	var der []byte
	var err error
	if r.Method == http.MethodPost {
		der, err = io.ReadAll(r.Body)
	} else {
		var text string
		if text, err = url.PathUnescape(strings.TrimPrefix(r.URL.EscapedPath(), "/ocsp/")); err == nil {
			der, err = base64.StdEncoding.DecodeString(text)
		}
	}
	if err != nil {
		return testca.Question{}, err
	}
	return testca.ParseQuestion(der)
}

// saying answers about what is asked, with the nonce of the question.
func saying(q testca.Question, s testca.Single) testca.OCSP {
	s.CertID = q.CertID
	return testca.OCSP{Singles: []testca.Single{s}, Nonce: q.Nonce}
}

// withOCSP makes a verifier that lets certificates name responders of this machine.
func withOCSP(t testing.TB, o verify.Options, certs ...*testca.Cert) *verify.Verifier {
	t.Helper()
	o.Policy.OCSP = true
	v := trusting(t, o, certs...)
	v.OCSP().Local = true
	return v
}

func within(t testing.TB, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

// TestOCSPAnswers has a row for each answer of a responder. The certificate is issued by the root.
func TestOCSPAnswers(t *testing.T) {
	now := time.Now().Truncate(time.Second)
	root := testca.NewRoot("Root", testca.WithKey(testca.RSA(2048, "ocsp root")))
	ecRoot := testca.NewRoot("EC Root")
	twin := testca.NewRoot("Root") // same name, other key
	signing := testca.ExtKeyUsage(false, testca.OCSPSigning)
	delegate := root.Leaf("Responder", signing, testca.OCSPNoCheck())
	mallory := root.Leaf("Mallory", testca.Expired())
	good := testca.Single{}
	gone := testca.Single{Status: testca.OCSPRevoked, Reason: 1}
	by := func(signer *testca.Cert, change func(o *testca.OCSP)) func(q testca.Question) []byte {
		return func(q testca.Question) []byte {
			o := saying(q, good)
			if change != nil {
				change(&o)
			}
			return signer.OCSP(o)
		}
	}
	root1 := func(change func(o *testca.OCSP)) func(q testca.Question) []byte { return by(&root.Cert, change) }
	single := func(s testca.Single) func(q testca.Question) []byte {
		return func(q testca.Question) []byte { return root.OCSP(saying(q, s)) }
	}
	delegated := func(options ...testca.Option) func(q testca.Question) []byte {
		d := root.Leaf("Responder", append([]testca.Option{signing, testca.OCSPNoCheck()}, options...)...)
		return by(d, func(o *testca.OCSP) { o.Certs = []*testca.Cert{d} })
	}
	fixed := func(body string) func(q testca.Question) []byte {
		return func(testca.Question) []byte { return []byte(body) }
	}
	status := func(n byte) func(q testca.Question) []byte {
		return func(testca.Question) []byte { return root.OCSP(testca.OCSP{Status: n}) }
	}
	critical := []testca.Extension{{OID: "1.2.3.4", Critical: true, Value: []byte{5, 0}}}
	tests := []struct {
		name   string
		answer func(q testca.Question) []byte
		o      verify.Options
		want   verify.Reason
		detail string // part of the error
	}{
		{"good", root1(nil), verify.Options{}, "", ""},
		{"good, by key", root1(func(o *testca.OCSP) { o.ByKey = true }), verify.Options{}, "", ""},
		{"revoked", single(gone), verify.Options{}, verify.ReasonRevoked, "keyCompromise"},
		{"on hold", single(testca.Single{Status: testca.OCSPRevoked, Reason: 6}), verify.Options{}, verify.ReasonRevoked, "certificateHold"},
		{"revoked without a reason", single(testca.Single{Status: testca.OCSPRevoked, Reason: -1}), verify.Options{}, verify.ReasonRevoked, ""},
		{"revoked for a reason that is not defined", single(testca.Single{Status: testca.OCSPRevoked, Reason: 99}), verify.Options{}, verify.ReasonRevoked, "cannot be read"},
		{"revoked, soft", single(gone), verify.Options{Soft: true}, verify.ReasonRevoked, ""},
		{"revoked, an old answer", single(testca.Single{Status: testca.OCSPRevoked, ThisUpdate: now.AddDate(0, -1, 0)}), verify.Options{}, verify.ReasonRevoked, ""},
		{"revoked, other nonce", func(q testca.Question) []byte {
			o := saying(q, gone)
			o.Nonce = testca.TLV(4, make([]byte, 32))
			return root.OCSP(o)
		}, verify.Options{}, verify.ReasonRevoked, ""},
		{"unknown", single(testca.Single{Status: testca.OCSPUnknown}), verify.Options{}, verify.ReasonRevocationUnknown, "does not know"},
		{"unknown, soft", single(testca.Single{Status: testca.OCSPUnknown}), verify.Options{Soft: true}, verify.ReasonRevocationUnknown, ""},

		{"malformedRequest", status(1), verify.Options{}, verify.ReasonRevocationUnknown, "malformedRequest"},
		{"internalError", status(2), verify.Options{}, verify.ReasonRevocationUnknown, "internalError"},
		{"tryLater", status(3), verify.Options{}, verify.ReasonRevocationUnknown, "tryLater"},
		{"status 4", status(4), verify.Options{}, verify.ReasonRevocationUnknown, "status 4"},
		{"sigRequired", status(5), verify.Options{}, verify.ReasonRevocationUnknown, "sigRequired"},
		{"unauthorized", status(6), verify.Options{}, verify.ReasonRevocationUnknown, "unauthorized"},
		{"empty", fixed(""), verify.Options{}, verify.ReasonRevocationUnknown, "not an OCSPResponse"},
		{"HTML", fixed("<html>welcome to the hotel</html>"), verify.Options{}, verify.ReasonRevocationUnknown, "not an OCSPResponse"},
		{"octets after the end", func(q testca.Question) []byte { return append(root.OCSP(saying(q, good)), 0) }, verify.Options{}, verify.ReasonRevocationUnknown, "not an OCSPResponse"},
		{"truncated", func(q testca.Question) []byte { return root.OCSP(saying(q, good))[:200] }, verify.Options{}, verify.ReasonRevocationUnknown, "not an OCSPResponse"},
		{"successful without a response", func(testca.Question) []byte { return testca.Sequence(testca.TLV(0x0a, []byte{0})) }, verify.Options{}, verify.ReasonRevocationUnknown, "without a response"},
		{"no single answer", root1(func(o *testca.OCSP) { o.Singles = nil }), verify.Options{}, verify.ReasonRevocationUnknown, "another certificate"},

		{"several, ours in the middle", func(q testca.Question) []byte {
			o := saying(q, good)
			other := testca.Single{CertID: root.CertID(crypto.SHA1, []byte{9}), Status: testca.OCSPRevoked}
			o.Singles = []testca.Single{other, o.Singles[0], other}
			return root.OCSP(o)
		}, verify.Options{}, "", ""},
		{"several, ours revoked in the second", func(q testca.Question) []byte {
			o := saying(q, good)
			g := gone
			g.CertID = q.CertID
			o.Singles = append(o.Singles, g)
			return root.OCSP(o)
		}, verify.Options{}, verify.ReasonRevoked, ""},
		{"several, ours good and unknown", func(q testca.Question) []byte {
			o := saying(q, good)
			o.Singles = append(o.Singles, testca.Single{CertID: q.CertID, Status: testca.OCSPUnknown})
			return root.OCSP(o)
		}, verify.Options{}, verify.ReasonRevocationUnknown, "does not know"},
		{"several, a stale one before the good one", func(q testca.Question) []byte {
			o := saying(q, good)
			stale := testca.Single{CertID: q.CertID, ThisUpdate: now.Add(-3 * time.Hour), NextUpdate: now.Add(-2 * time.Hour)}
			o.Singles = append([]testca.Single{stale}, o.Singles...)
			return root.OCSP(o)
		}, verify.Options{}, "", ""},
		{"other serial", root1(func(o *testca.OCSP) { o.Singles[0].CertID = root.CertID(crypto.SHA1, []byte{9}) }), verify.Options{}, verify.ReasonRevocationUnknown, "another certificate"},
		{"CertID of another issuer key", func(q testca.Question) []byte {
			o := saying(q, good)
			o.Singles[0].CertID = twin.CertID(crypto.SHA1, q.Serial)
			return root.OCSP(o)
		}, verify.Options{}, verify.ReasonRevocationUnknown, "another certificate"},
		{"CertID with a hash that was not asked for", func(q testca.Question) []byte {
			o := saying(q, good)
			o.Singles[0].CertID = root.CertID(crypto.SHA384, q.Serial)
			return root.OCSP(o)
		}, verify.Options{}, verify.ReasonRevocationUnknown, "another certificate"},
		{"CertID with SHA-256 only", func(q testca.Question) []byte {
			if q.Hash == "1.3.14.3.2.26" {
				return root.OCSP(testca.OCSP{Status: 6})
			}
			return root.OCSP(saying(q, good))
		}, verify.Options{}, "", ""},

		{"bad signature", root1(func(o *testca.OCSP) { o.CorruptSignature = true }), verify.Options{}, verify.ReasonRevocationUnknown, "not signed by"},
		{"revoked, bad signature", func(q testca.Question) []byte {
			o := saying(q, gone)
			o.CorruptSignature = true
			return root.OCSP(o)
		}, verify.Options{Soft: true}, verify.ReasonRevocationUnknown, ""},
		{"a CA of the same name", by(&twin.Cert, func(o *testca.OCSP) { o.Certs = []*testca.Cert{&twin.Cert} }), verify.Options{}, verify.ReasonRevocationUnknown, "Root"},
		{"another CA", by(&ecRoot.Cert, func(o *testca.OCSP) { o.Certs = []*testca.Cert{&ecRoot.Cert} }), verify.Options{}, verify.ReasonRevocationUnknown, "not issued by the CA"},
		{"a name that nobody has", root1(func(o *testca.OCSP) { o.Responder = testca.DN("CN=x") }), verify.Options{}, verify.ReasonRevocationUnknown, "neither by the issuer"},
		{"the key of nobody", by(&twin.Cert, func(o *testca.OCSP) { o.ByKey = true }), verify.Options{}, verify.ReasonRevocationUnknown, "neither by the issuer"},
		{"SHA-1", root1(func(o *testca.OCSP) { o.Scheme = testca.Scheme{Hash: crypto.SHA1} }), verify.Options{}, verify.ReasonRevocationUnknown, "SHA-1"},
		{"SHA-1 allowed", root1(func(o *testca.OCSP) { o.Scheme = testca.Scheme{Hash: crypto.SHA1} }), verify.Options{AllowSHA1: true}, "", ""},
		{"RSASSA-PSS", root1(func(o *testca.OCSP) { o.Scheme = testca.Scheme{PSS: true, Hash: crypto.SHA256, Salt: 20} }), verify.Options{}, "", ""},

		{"Mallory vouches for a certificate", by(mallory, func(o *testca.OCSP) { o.Certs = []*testca.Cert{mallory} }), verify.Options{}, verify.ReasonRevocationUnknown, "OCSPSigning"},
		{"delegate, by name", delegated(), verify.Options{}, "", ""},
		{"delegate, by key", by(delegate, func(o *testca.OCSP) { o.ByKey, o.Certs = true, []*testca.Cert{delegate} }), verify.Options{}, "", ""},
		{"delegate, second in the list", by(delegate, func(o *testca.OCSP) { o.Certs = []*testca.Cert{&root.Cert, delegate} }), verify.Options{}, "", ""},
		{"delegate, after an unreadable certificate", by(delegate, func(o *testca.OCSP) {
			o.Certs = []*testca.Cert{{DER: testca.Sequence(testca.Number(1))}, delegate}
		}), verify.Options{}, "", ""},
		{"delegate that is not sent along", by(delegate, nil), verify.Options{}, verify.ReasonRevocationUnknown, "neither by the issuer"},
		{"delegate without extended key usage", delegated(testca.Without("2.5.29.37")), verify.Options{}, verify.ReasonRevocationUnknown, "OCSPSigning"},
		{"delegate for any purpose", delegated(testca.ExtKeyUsage(false, testca.AnyExtKeyUsage)), verify.Options{}, verify.ReasonRevocationUnknown, "OCSPSigning"},
		{"delegate for clientAuth", delegated(testca.ExtKeyUsage(false, testca.ClientAuth)), verify.Options{}, verify.ReasonRevocationUnknown, "OCSPSigning"},
		{"delegate that may not sign", delegated(testca.KeyUsage(true, testca.KeyEncipherment)), verify.Options{}, verify.ReasonRevocationUnknown, "keyUsage"},
		{"delegate expired", delegated(testca.Expired()), verify.Options{}, verify.ReasonRevocationUnknown, "not valid after"},
		{"delegate not valid yet", delegated(testca.Validity(now.Add(time.Hour), now.Add(2*time.Hour))), verify.Options{}, verify.ReasonRevocationUnknown, "not valid before"},
		{"delegate critical unknown", delegated(testca.WithExtension("1.2.3.4", true, []byte{5, 0})), verify.Options{}, verify.ReasonRevocationUnknown, "critical"},
		{"delegate RSA 1024", delegated(testca.WithKey(testca.RSA(1024, "delegate"))), verify.Options{}, verify.ReasonRevocationUnknown, "1024 bits"},
		{"delegate signed with SHA-1", delegated(testca.SignedWith(testca.Scheme{Hash: crypto.SHA1})), verify.Options{}, verify.ReasonRevocationUnknown, "SHA-1"},
		{"delegate with a forged signature", delegated(testca.BadSignature()), verify.Options{}, verify.ReasonRevocationUnknown, "not signed by the CA"},
		{"delegate without no-check", delegated(testca.Without("1.3.6.1.5.5.7.48.1.5")), verify.Options{}, verify.ReasonRevocationUnknown, "own status"},

		{"no nonce", root1(func(o *testca.OCSP) { o.Nonce = nil }), verify.Options{}, "", ""},
		{"no nonce, required", root1(func(o *testca.OCSP) { o.Nonce = nil }), verify.Options{OCSP: verify.OCSPOptions{Nonce: verify.NonceRequired}}, verify.ReasonRevocationUnknown, "no nonce"},
		{"nonce, required", root1(nil), verify.Options{OCSP: verify.OCSPOptions{Nonce: verify.NonceRequired}}, "", ""},
		{"another nonce", root1(func(o *testca.OCSP) { o.Nonce = testca.TLV(4, make([]byte, 32)) }), verify.Options{}, verify.ReasonRevocationUnknown, "another nonce"},
		{"our nonce and more", root1(func(o *testca.OCSP) { o.Nonce = testca.TLV(4, append(o.Nonce[2:len(o.Nonce):len(o.Nonce)], 0)) }), verify.Options{}, verify.ReasonRevocationUnknown, "another nonce"},
		{"nonce of 4 KiB", root1(func(o *testca.OCSP) { o.Nonce = testca.TLV(4, make([]byte, 4096)) }), verify.Options{}, verify.ReasonRevocationUnknown, "another nonce"},
		{"nonce that was not asked for", root1(func(o *testca.OCSP) { o.Nonce = testca.TLV(4, make([]byte, 32)) }), verify.Options{OCSP: verify.OCSPOptions{Nonce: verify.NonceOff}}, verify.ReasonRevocationUnknown, "none was sent"},
		{"no nonce asked for", root1(nil), verify.Options{OCSP: verify.OCSPOptions{Nonce: verify.NonceOff}}, "", ""},

		{"thisUpdate in the future", single(testca.Single{ThisUpdate: now.Add(time.Hour)}), verify.Options{}, verify.ReasonRevocationUnknown, "not valid before"},
		{"thisUpdate in the future within the skew", single(testca.Single{ThisUpdate: now.Add(time.Hour)}), verify.Options{ClockSkew: 2 * time.Hour}, "", ""},
		{"a responder whose clock is a minute ahead", single(testca.Single{ThisUpdate: now.Add(time.Minute)}), verify.Options{}, "", ""},
		{"nextUpdate over", single(testca.Single{ThisUpdate: now.Add(-2 * time.Hour), NextUpdate: now.Add(-time.Minute)}), verify.Options{}, verify.ReasonRevocationUnknown, "made at"},
		{"nextUpdate over, made in time", root1(func(o *testca.OCSP) {
			o.ProducedAt = now.Add(-2 * time.Hour)
			o.Singles[0].ThisUpdate, o.Singles[0].NextUpdate = now.Add(-2*time.Hour), now.Add(-time.Minute)
		}), verify.Options{}, verify.ReasonRevocationUnknown, "not valid after"},
		{"nextUpdate over, within the skew", root1(func(o *testca.OCSP) {
			o.ProducedAt = now.Add(-2 * time.Hour)
			o.Singles[0].ThisUpdate, o.Singles[0].NextUpdate = now.Add(-2*time.Hour), now.Add(-time.Minute)
		}), verify.Options{ClockSkew: 2 * time.Minute}, "", ""},
		{"nextUpdate before thisUpdate", single(testca.Single{NextUpdate: now.Add(-time.Hour)}), verify.Options{}, verify.ReasonRevocationUnknown, "before it begins"},
		{"producedAt in the future", root1(func(o *testca.OCSP) { o.ProducedAt = now.Add(30 * time.Minute) }), verify.Options{}, verify.ReasonRevocationUnknown, "says that it was made"},
		{"producedAt long before thisUpdate", root1(func(o *testca.OCSP) { o.ProducedAt = now.Add(-time.Hour) }), verify.Options{}, verify.ReasonRevocationUnknown, "before its thisUpdate"},
		{"no nextUpdate, fresh", single(testca.Single{NoNextUpdate: true}), verify.Options{}, "", ""},
		{"no nextUpdate, two hours old", single(testca.Single{NoNextUpdate: true, ThisUpdate: now.Add(-2 * time.Hour)}), verify.Options{}, verify.ReasonRevocationUnknown, "older than 1h"},
		{"no nextUpdate, two hours old, allowed", single(testca.Single{NoNextUpdate: true, ThisUpdate: now.Add(-2 * time.Hour)}), verify.Options{OCSP: verify.OCSPOptions{MaxAge: 3 * time.Hour}}, "", ""},
		{"older than ocsp_max_age", single(testca.Single{ThisUpdate: now.Add(-2 * time.Hour), NextUpdate: now.Add(time.Hour)}), verify.Options{OCSP: verify.OCSPOptions{MaxAge: time.Hour}}, verify.ReasonRevocationUnknown, "older than 1h"},

		{"critical unknown in the answer", root1(func(o *testca.OCSP) { o.Extensions = critical }), verify.Options{}, verify.ReasonRevocationUnknown, "critical"},
		{"critical unknown in the single answer", root1(func(o *testca.OCSP) { o.Singles[0].Extensions = critical }), verify.Options{}, verify.ReasonRevocationUnknown, "critical"},
		{"critical unknown with revoked", func(q testca.Question) []byte {
			o := saying(q, gone)
			o.Singles[0].Extensions = critical
			return root.OCSP(o)
		}, verify.Options{}, verify.ReasonRevocationUnknown, "critical"},
		{"extension twice", root1(func(o *testca.OCSP) { o.Extensions = []testca.Extension{{OID: "1.3.6.1.5.5.7.48.1.2", Value: o.Nonce}} }), verify.Options{}, verify.ReasonRevocationUnknown, "twice"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			server := responding(t, tt.answer)
			leaf := root.Leaf("Alice", testca.InfoAccess([]string{server.URL}, nil))
			result, err := withOCSP(t, tt.o, &root.Cert).Check(within(t, 20*time.Second), parsed(t, leaf), nil)
			if verify.ReasonOf(err) != tt.want || (err == nil) != (tt.want == "") {
				t.Fatalf("got %v\n%+v", err, result.Decisions)
			}
			if err != nil && !strings.Contains(err.Error(), tt.detail) {
				t.Errorf("the error does not say %q: %v", tt.detail, err)
			}
		})
	}
}
