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
		{name: "good", answer: root1(nil), o: verify.Options{}},
		{name: "good, by key", answer: root1(func(o *testca.OCSP) { o.ByKey = true }), o: verify.Options{}},
		{
			name: "revoked", answer: single(gone), o: verify.Options{}, want: verify.ReasonRevoked,
			detail: "keyCompromise",
		},
		{
			name: "on hold", answer: single(testca.Single{Status: testca.OCSPRevoked, Reason: 6}),
			o: verify.Options{}, want: verify.ReasonRevoked, detail: "certificateHold",
		},
		{
			name:   "revoked without a reason",
			answer: single(testca.Single{Status: testca.OCSPRevoked, Reason: -1}),
			o:      verify.Options{}, want: verify.ReasonRevoked,
		},
		{
			name:   "revoked for a reason that is not defined",
			answer: single(testca.Single{Status: testca.OCSPRevoked, Reason: 99}),
			o:      verify.Options{}, want: verify.ReasonRevoked, detail: "cannot be read",
		},
		{
			name: "revoked, soft", answer: single(gone), o: verify.Options{Soft: true},
			want: verify.ReasonRevoked,
		},
		{
			name:   "revoked, an old answer",
			answer: single(testca.Single{Status: testca.OCSPRevoked, ThisUpdate: now.AddDate(0, -1, 0)}),
			o:      verify.Options{}, want: verify.ReasonRevoked,
		},
		{name: "revoked, other nonce", answer: func(q testca.Question) []byte {
			o := saying(q, gone)
			o.Nonce = testca.TLV(4, make([]byte, 32))
			return root.OCSP(o)
		}, o: verify.Options{}, want: verify.ReasonRevoked},
		{
			name: "unknown", answer: single(testca.Single{Status: testca.OCSPUnknown}),
			o: verify.Options{}, want: verify.ReasonRevocationUnknown, detail: "does not know",
		},
		{
			name: "unknown, soft", answer: single(testca.Single{Status: testca.OCSPUnknown}),
			o: verify.Options{Soft: true}, want: verify.ReasonRevocationUnknown,
		},

		{
			name: "malformedRequest", answer: status(1), o: verify.Options{},
			want: verify.ReasonRevocationUnknown, detail: "malformedRequest",
		},
		{
			name: "internalError", answer: status(2), o: verify.Options{},
			want: verify.ReasonRevocationUnknown, detail: "internalError",
		},
		{
			name: "tryLater", answer: status(3), o: verify.Options{},
			want: verify.ReasonRevocationUnknown, detail: "tryLater",
		},
		{
			name: "status 4", answer: status(4), o: verify.Options{},
			want: verify.ReasonRevocationUnknown, detail: "status 4",
		},
		{
			name: "sigRequired", answer: status(5), o: verify.Options{},
			want: verify.ReasonRevocationUnknown, detail: "sigRequired",
		},
		{
			name: "unauthorized", answer: status(6), o: verify.Options{},
			want: verify.ReasonRevocationUnknown, detail: "unauthorized",
		},
		{
			name: "empty", answer: fixed(""), o: verify.Options{},
			want: verify.ReasonRevocationUnknown, detail: "not an OCSPResponse",
		},
		{
			name: "HTML", answer: fixed("<html>welcome to the hotel</html>"), o: verify.Options{},
			want: verify.ReasonRevocationUnknown, detail: "not an OCSPResponse",
		},
		{
			name:   "octets after the end",
			answer: func(q testca.Question) []byte { return append(root.OCSP(saying(q, good)), 0) },
			o:      verify.Options{}, want: verify.ReasonRevocationUnknown,
			detail: "not an OCSPResponse",
		},
		{
			name:   "truncated",
			answer: func(q testca.Question) []byte { return root.OCSP(saying(q, good))[:200] },
			o:      verify.Options{}, want: verify.ReasonRevocationUnknown,
			detail: "not an OCSPResponse",
		},
		{
			name:   "successful without a response",
			answer: func(testca.Question) []byte { return testca.Sequence(testca.TLV(0x0a, []byte{0})) },
			o:      verify.Options{}, want: verify.ReasonRevocationUnknown, detail: "without a response",
		},
		{
			name: "no single answer", answer: root1(func(o *testca.OCSP) { o.Singles = nil }),
			o: verify.Options{}, want: verify.ReasonRevocationUnknown,
			detail: "another certificate",
		},

		{name: "several, ours in the middle", answer: func(q testca.Question) []byte {
			o := saying(q, good)
			other := testca.Single{CertID: root.CertID(crypto.SHA1, []byte{9}), Status: testca.OCSPRevoked}
			o.Singles = []testca.Single{other, o.Singles[0], other}
			return root.OCSP(o)
		}, o: verify.Options{}},
		{name: "several, ours revoked in the second", answer: func(q testca.Question) []byte {
			o := saying(q, good)
			g := gone
			g.CertID = q.CertID
			o.Singles = append(o.Singles, g)
			return root.OCSP(o)
		}, o: verify.Options{}, want: verify.ReasonRevoked},
		{name: "several, ours good and unknown", answer: func(q testca.Question) []byte {
			o := saying(q, good)
			o.Singles = append(o.Singles, testca.Single{CertID: q.CertID, Status: testca.OCSPUnknown})
			return root.OCSP(o)
		}, o: verify.Options{}, want: verify.ReasonRevocationUnknown, detail: "does not know"},
		{name: "several, a stale one before the good one", answer: func(q testca.Question) []byte {
			o := saying(q, good)
			stale := testca.Single{CertID: q.CertID, ThisUpdate: now.Add(-3 * time.Hour), NextUpdate: now.Add(-2 * time.Hour)}
			o.Singles = append([]testca.Single{stale}, o.Singles...)
			return root.OCSP(o)
		}, o: verify.Options{}},
		{
			name:   "other serial",
			answer: root1(func(o *testca.OCSP) { o.Singles[0].CertID = root.CertID(crypto.SHA1, []byte{9}) }),
			o:      verify.Options{}, want: verify.ReasonRevocationUnknown,
			detail: "another certificate",
		},
		{name: "CertID of another issuer key", answer: func(q testca.Question) []byte {
			o := saying(q, good)
			o.Singles[0].CertID = twin.CertID(crypto.SHA1, q.Serial)
			return root.OCSP(o)
		}, o: verify.Options{}, want: verify.ReasonRevocationUnknown, detail: "another certificate"},
		{name: "CertID with a hash that was not asked for", answer: func(q testca.Question) []byte {
			o := saying(q, good)
			o.Singles[0].CertID = root.CertID(crypto.SHA384, q.Serial)
			return root.OCSP(o)
		}, o: verify.Options{}, want: verify.ReasonRevocationUnknown, detail: "another certificate"},
		{name: "CertID with SHA-256 only", answer: func(q testca.Question) []byte {
			if q.Hash == "1.3.14.3.2.26" {
				return root.OCSP(testca.OCSP{Status: 6})
			}
			return root.OCSP(saying(q, good))
		}, o: verify.Options{}},

		{
			name:   "bad signature",
			answer: root1(func(o *testca.OCSP) { o.CorruptSignature = true }), o: verify.Options{},
			want: verify.ReasonRevocationUnknown, detail: "not signed by",
		},
		{name: "revoked, bad signature", answer: func(q testca.Question) []byte {
			o := saying(q, gone)
			o.CorruptSignature = true
			return root.OCSP(o)
		}, o: verify.Options{Soft: true}, want: verify.ReasonRevocationUnknown},
		{
			name:   "a CA of the same name",
			answer: by(&twin.Cert, func(o *testca.OCSP) { o.Certs = []*testca.Cert{&twin.Cert} }),
			o:      verify.Options{}, want: verify.ReasonRevocationUnknown, detail: "Root",
		},
		{
			name:   "another CA",
			answer: by(&ecRoot.Cert, func(o *testca.OCSP) { o.Certs = []*testca.Cert{&ecRoot.Cert} }),
			o:      verify.Options{}, want: verify.ReasonRevocationUnknown,
			detail: "not issued by the CA",
		},
		{
			name:   "a name that nobody has",
			answer: root1(func(o *testca.OCSP) { o.Responder = testca.DN("CN=x") }),
			o:      verify.Options{}, want: verify.ReasonRevocationUnknown,
			detail: "neither by the issuer",
		},
		{
			name:   "the key of nobody",
			answer: by(&twin.Cert, func(o *testca.OCSP) { o.ByKey = true }), o: verify.Options{},
			want: verify.ReasonRevocationUnknown, detail: "neither by the issuer",
		},
		{
			name:   "SHA-1",
			answer: root1(func(o *testca.OCSP) { o.Scheme = testca.Scheme{Hash: crypto.SHA1} }),
			o:      verify.Options{}, want: verify.ReasonRevocationUnknown, detail: "SHA-1",
		},
		{name: "SHA-1 allowed", answer: root1(func(o *testca.OCSP) { o.Scheme = testca.Scheme{Hash: crypto.SHA1} }), o: verify.Options{AllowSHA1: true}},
		{name: "RSASSA-PSS", answer: root1(func(o *testca.OCSP) { o.Scheme = testca.Scheme{PSS: true, Hash: crypto.SHA256, Salt: 20} }), o: verify.Options{}},

		{
			name:   "Mallory vouches for a certificate",
			answer: by(mallory, func(o *testca.OCSP) { o.Certs = []*testca.Cert{mallory} }),
			o:      verify.Options{}, want: verify.ReasonRevocationUnknown, detail: "OCSPSigning",
		},
		{name: "delegate, by name", answer: delegated(), o: verify.Options{}},
		{name: "delegate, by key", answer: by(delegate, func(o *testca.OCSP) { o.ByKey, o.Certs = true, []*testca.Cert{delegate} }), o: verify.Options{}},
		{name: "delegate, second in the list", answer: by(delegate, func(o *testca.OCSP) { o.Certs = []*testca.Cert{&root.Cert, delegate} }), o: verify.Options{}},
		{name: "delegate, after an unreadable certificate", answer: by(delegate, func(o *testca.OCSP) {
			o.Certs = []*testca.Cert{{DER: testca.Sequence(testca.Number(1))}, delegate}
		}), o: verify.Options{}},
		{
			name: "delegate that is not sent along", answer: by(delegate, nil), o: verify.Options{},
			want: verify.ReasonRevocationUnknown, detail: "neither by the issuer",
		},
		{
			name:   "delegate without extended key usage",
			answer: delegated(testca.Without("2.5.29.37")), o: verify.Options{},
			want: verify.ReasonRevocationUnknown, detail: "OCSPSigning",
		},
		{
			name:   "delegate for any purpose",
			answer: delegated(testca.ExtKeyUsage(false, testca.AnyExtKeyUsage)),
			o:      verify.Options{}, want: verify.ReasonRevocationUnknown, detail: "OCSPSigning",
		},
		{
			name:   "delegate for clientAuth",
			answer: delegated(testca.ExtKeyUsage(false, testca.ClientAuth)), o: verify.Options{},
			want: verify.ReasonRevocationUnknown, detail: "OCSPSigning",
		},
		{
			name:   "delegate that may not sign",
			answer: delegated(testca.KeyUsage(true, testca.KeyEncipherment)), o: verify.Options{},
			want: verify.ReasonRevocationUnknown, detail: "keyUsage",
		},
		{
			name: "delegate expired", answer: delegated(testca.Expired()), o: verify.Options{},
			want: verify.ReasonRevocationUnknown, detail: "not valid after",
		},
		{
			name:   "delegate not valid yet",
			answer: delegated(testca.Validity(now.Add(time.Hour), now.Add(2*time.Hour))),
			o:      verify.Options{}, want: verify.ReasonRevocationUnknown, detail: "not valid before",
		},
		{
			name:   "delegate critical unknown",
			answer: delegated(testca.WithExtension("1.2.3.4", true, []byte{5, 0})),
			o:      verify.Options{}, want: verify.ReasonRevocationUnknown, detail: "critical",
		},
		{
			name:   "delegate RSA 1024",
			answer: delegated(testca.WithKey(testca.RSA(1024, "delegate"))), o: verify.Options{},
			want: verify.ReasonRevocationUnknown, detail: "1024 bits",
		},
		{
			name:   "delegate signed with SHA-1",
			answer: delegated(testca.SignedWith(testca.Scheme{Hash: crypto.SHA1})),
			o:      verify.Options{}, want: verify.ReasonRevocationUnknown, detail: "SHA-1",
		},
		{
			name: "delegate with a forged signature", answer: delegated(testca.BadSignature()),
			o: verify.Options{}, want: verify.ReasonRevocationUnknown,
			detail: "not signed by the CA",
		},
		{
			name:   "delegate without no-check",
			answer: delegated(testca.Without("1.3.6.1.5.5.7.48.1.5")), o: verify.Options{},
			want: verify.ReasonRevocationUnknown, detail: "own status",
		},

		{name: "no nonce", answer: root1(func(o *testca.OCSP) { o.Nonce = nil }), o: verify.Options{}},
		{
			name: "no nonce, required", answer: root1(func(o *testca.OCSP) { o.Nonce = nil }),
			o:    verify.Options{OCSP: verify.OCSPOptions{Nonce: verify.NonceRequired}},
			want: verify.ReasonRevocationUnknown, detail: "no nonce",
		},
		{name: "nonce, required", answer: root1(nil), o: verify.Options{OCSP: verify.OCSPOptions{Nonce: verify.NonceRequired}}},
		{
			name:   "another nonce",
			answer: root1(func(o *testca.OCSP) { o.Nonce = testca.TLV(4, make([]byte, 32)) }),
			o:      verify.Options{}, want: verify.ReasonRevocationUnknown, detail: "another nonce",
		},
		{
			name:   "our nonce and more",
			answer: root1(func(o *testca.OCSP) { o.Nonce = testca.TLV(4, append(o.Nonce[2:len(o.Nonce):len(o.Nonce)], 0)) }),
			o:      verify.Options{}, want: verify.ReasonRevocationUnknown, detail: "another nonce",
		},
		{
			name:   "nonce of 4 KiB",
			answer: root1(func(o *testca.OCSP) { o.Nonce = testca.TLV(4, make([]byte, 4096)) }),
			o:      verify.Options{}, want: verify.ReasonRevocationUnknown, detail: "another nonce",
		},
		{
			name:   "nonce that was not asked for",
			answer: root1(func(o *testca.OCSP) { o.Nonce = testca.TLV(4, make([]byte, 32)) }),
			o:      verify.Options{OCSP: verify.OCSPOptions{Nonce: verify.NonceOff}},
			want:   verify.ReasonRevocationUnknown, detail: "none was sent",
		},
		{name: "no nonce asked for", answer: root1(nil), o: verify.Options{OCSP: verify.OCSPOptions{Nonce: verify.NonceOff}}},

		{
			name:   "thisUpdate in the future",
			answer: single(testca.Single{ThisUpdate: now.Add(time.Hour)}), o: verify.Options{},
			want: verify.ReasonRevocationUnknown, detail: "not valid before",
		},
		{name: "thisUpdate in the future within the skew", answer: single(testca.Single{ThisUpdate: now.Add(time.Hour)}), o: verify.Options{ClockSkew: 2 * time.Hour}},
		{name: "a responder whose clock is a minute ahead", answer: single(testca.Single{ThisUpdate: now.Add(time.Minute)}), o: verify.Options{}},
		{
			name:   "nextUpdate over",
			answer: single(testca.Single{ThisUpdate: now.Add(-2 * time.Hour), NextUpdate: now.Add(-time.Minute)}),
			o:      verify.Options{}, want: verify.ReasonRevocationUnknown, detail: "made at",
		},
		{name: "nextUpdate over, made in time", answer: root1(func(o *testca.OCSP) {
			o.ProducedAt = now.Add(-2 * time.Hour)
			o.Singles[0].ThisUpdate, o.Singles[0].NextUpdate = now.Add(-2*time.Hour), now.Add(-time.Minute)
		}), o: verify.Options{}, want: verify.ReasonRevocationUnknown, detail: "not valid after"},
		{name: "nextUpdate over, within the skew", answer: root1(func(o *testca.OCSP) {
			o.ProducedAt = now.Add(-2 * time.Hour)
			o.Singles[0].ThisUpdate, o.Singles[0].NextUpdate = now.Add(-2*time.Hour), now.Add(-time.Minute)
		}), o: verify.Options{ClockSkew: 2 * time.Minute}},
		{
			name:   "nextUpdate before thisUpdate",
			answer: single(testca.Single{NextUpdate: now.Add(-time.Hour)}), o: verify.Options{},
			want: verify.ReasonRevocationUnknown, detail: "before it begins",
		},
		{
			name:   "producedAt in the future",
			answer: root1(func(o *testca.OCSP) { o.ProducedAt = now.Add(30 * time.Minute) }),
			o:      verify.Options{}, want: verify.ReasonRevocationUnknown,
			detail: "says that it was made",
		},
		{
			name:   "producedAt long before thisUpdate",
			answer: root1(func(o *testca.OCSP) { o.ProducedAt = now.Add(-time.Hour) }),
			o:      verify.Options{}, want: verify.ReasonRevocationUnknown,
			detail: "before its thisUpdate",
		},
		{name: "no nextUpdate, fresh", answer: single(testca.Single{NoNextUpdate: true}), o: verify.Options{}},
		{
			name:   "no nextUpdate, two hours old",
			answer: single(testca.Single{NoNextUpdate: true, ThisUpdate: now.Add(-2 * time.Hour)}),
			o:      verify.Options{}, want: verify.ReasonRevocationUnknown, detail: "older than 1h",
		},
		{name: "no nextUpdate, two hours old, allowed", answer: single(testca.Single{NoNextUpdate: true, ThisUpdate: now.Add(-2 * time.Hour)}), o: verify.Options{OCSP: verify.OCSPOptions{MaxAge: 3 * time.Hour}}},
		{
			name:   "older than ocsp_max_age",
			answer: single(testca.Single{ThisUpdate: now.Add(-2 * time.Hour), NextUpdate: now.Add(time.Hour)}),
			o:      verify.Options{OCSP: verify.OCSPOptions{MaxAge: time.Hour}},
			want:   verify.ReasonRevocationUnknown, detail: "older than 1h",
		},

		{
			name:   "critical unknown in the answer",
			answer: root1(func(o *testca.OCSP) { o.Extensions = critical }), o: verify.Options{},
			want: verify.ReasonRevocationUnknown, detail: "critical",
		},
		{
			name:   "critical unknown in the single answer",
			answer: root1(func(o *testca.OCSP) { o.Singles[0].Extensions = critical }),
			o:      verify.Options{}, want: verify.ReasonRevocationUnknown, detail: "critical",
		},
		{name: "critical unknown with revoked", answer: func(q testca.Question) []byte {
			o := saying(q, gone)
			o.Singles[0].Extensions = critical
			return root.OCSP(o)
		}, o: verify.Options{}, want: verify.ReasonRevocationUnknown, detail: "critical"},
		{
			name:   "extension twice",
			answer: root1(func(o *testca.OCSP) { o.Extensions = []testca.Extension{{OID: "1.3.6.1.5.5.7.48.1.2", Value: o.Nonce}} }),
			o:      verify.Options{}, want: verify.ReasonRevocationUnknown, detail: "twice",
		},
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
