package verify_test

import (
	"bytes"
	"log/slog"
	"net/http"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"pam_pkcs11/internal/certinfo"
	"pam_pkcs11/internal/slowtest"
	"pam_pkcs11/internal/testca"
	"pam_pkcs11/verify"
	"pam_pkcs11/verify/crl"
)

// signs answers with the signer's key and the given status.
func signs(signer *testca.Cert, status byte, certs ...*testca.Cert) func(q testca.Question) []byte {
	return func(q testca.Question) []byte {
		o := saying(q, testca.Single{Status: status, Reason: 1})
		o.Certs = certs
		return signer.OCSP(o)
	}
}

// TestOCSPThenCRL: what each source says, and what follows.
func TestOCSPThenCRL(t *testing.T) {
	root := testca.NewRoot("Root")
	const (
		none = iota // no responder, or no CRL word
		good
		revoked
		silent // a responder without an answer, or no CRL at hand
		expired
		expiredRevoked
	)
	tests := []struct {
		name      string
		ocsp, crl int
		soft      bool
		want      verify.Reason
	}{
		{name: "OCSP good", ocsp: good, crl: none},
		{name: "OCSP good, CRL not asked", ocsp: good, crl: silent},
		{name: "OCSP revoked", ocsp: revoked, crl: none, want: verify.ReasonRevoked},
		{name: "OCSP revoked, CRL good", ocsp: revoked, crl: good, want: verify.ReasonRevoked},
		{
			name: "OCSP revoked, soft", ocsp: revoked, crl: none, soft: true,
			want: verify.ReasonRevoked,
		},
		{name: "OCSP silent", ocsp: silent, crl: none, want: verify.ReasonRevocationUnknown},
		{name: "OCSP silent, soft", ocsp: silent, crl: none, soft: true},
		{name: "OCSP silent, CRL good", ocsp: silent, crl: good},
		{name: "OCSP silent, CRL revoked", ocsp: silent, crl: revoked, want: verify.ReasonRevoked},
		{
			name: "OCSP silent, CRL revoked, soft", ocsp: silent, crl: revoked, soft: true,
			want: verify.ReasonRevoked,
		},
		{
			name: "OCSP silent, CRL silent", ocsp: silent, crl: silent,
			want: verify.ReasonRevocationUnknown,
		},
		{name: "OCSP silent, CRL silent, soft", ocsp: silent, crl: silent, soft: true},
		{name: "OCSP silent, CRL expired, soft", ocsp: silent, crl: expired, soft: true},
		{
			name: "OCSP silent, CRL expired and revoked, soft", ocsp: silent, crl: expiredRevoked,
			soft: true, want: verify.ReasonRevoked,
		},
		{name: "no responder named", ocsp: none, crl: none, want: verify.ReasonRevocationUnknown},
		{name: "no responder named, soft", ocsp: none, crl: none, soft: true},
		{name: "no responder named, CRL good", ocsp: none, crl: good},
	}
	past := time.Now().Add(-2 * time.Hour)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var options []testca.Option
			switch tt.ocsp {
			case good:
				options = append(options, testca.InfoAccess([]string{responding(t, signs(&root.Cert, testca.OCSPGood)).URL}, nil))
			case revoked:
				options = append(options, testca.InfoAccess([]string{responding(t, signs(&root.Cert, testca.OCSPRevoked)).URL}, nil))
			case silent:
				options = append(options, testca.InfoAccess([]string{deadURL(t)}, nil))
			}
			leaf := root.Leaf("Alice", options...)
			v := withOCSP(t, verify.Options{Soft: tt.soft}, &root.Cert)
			var crls [][]byte
			switch tt.crl {
			case good:
				crls = [][]byte{root.CRL(testca.CRL{})}
			case revoked:
				crls = [][]byte{root.CRL(testca.CRL{Entries: []testca.Revoked{{Serial: leaf.Serial}}})}
			case expired:
				crls = [][]byte{root.CRL(testca.CRL{ThisUpdate: past, NextUpdate: past.Add(time.Hour)})}
			case expiredRevoked:
				crls = [][]byte{root.CRL(testca.CRL{ThisUpdate: past, NextUpdate: past.Add(time.Hour), Entries: []testca.Revoked{{Serial: leaf.Serial}}})}
			}
			if tt.crl != none {
				withCRLs(t, v, crls...)
			}
			_, err := v.Check(within(t, 20*time.Second), parsed(t, leaf), nil)
			if verify.ReasonOf(err) != tt.want || (err == nil) != (tt.want == "") {
				t.Errorf("got %v", err)
			}
		})
	}
}

func withCRLs(t testing.TB, v *verify.Verifier, crls ...[]byte) {
	t.Helper()
	source, err := crl.NewMemory(crls...)
	if err != nil {
		t.Fatal(err)
	}
	v.UseCRLs(source)
}

// TestResponders: whom is asked, in which order, and in which way.
func TestResponders(t *testing.T) {
	root := testca.NewRoot("Root")
	good := signs(&root.Cert, testca.OCSPGood)
	only := func(method string) *ocspServer {
		return serving(t, func(w http.ResponseWriter, r *http.Request, q testca.Question) {
			if r.Method != method {
				http.Error(w, "not this method", http.StatusMethodNotAllowed)
				return
			}
			_, _ = w.Write(good(q))
		})
	}
	check := func(t *testing.T, o verify.Options, urls ...string) error {
		t.Helper()
		leaf := root.Leaf("Alice", testca.InfoAccess(urls, nil))
		_, err := withOCSP(t, o, &root.Cert).Check(within(t, 20*time.Second), parsed(t, leaf), nil)
		return err
	}
	t.Run("the first that answers counts", func(t *testing.T) {
		first, second := responding(t, good), responding(t, good)
		if err := check(t, verify.Options{}, first.URL, second.URL); err != nil || first.asked() != 1 || second.asked() != 0 {
			t.Errorf("%v; asked %d and %d times", err, first.asked(), second.asked())
		}
	})
	t.Run("first dead, second good", func(t *testing.T) {
		if err := check(t, verify.Options{}, deadURL(t), responding(t, good).URL); err != nil {
			t.Error(err)
		}
	})
	t.Run("first mute, second good", func(t *testing.T) {
		started, allowed := time.Now(), slowtest.Allowance()
		if err := check(t, verify.Options{}, muteURL(t), responding(t, good).URL); err != nil {
			t.Error(err)
		}
		if took := time.Since(started); took < time.Second || took > 10*time.Second+allowed() {
			t.Errorf("took %v", took)
		}
	})
	t.Run("first says tryLater, second revoked", func(t *testing.T) {
		later := responding(t, func(testca.Question) []byte { return root.OCSP(testca.OCSP{Status: 3}) })
		err := check(t, verify.Options{Soft: true}, later.URL, responding(t, signs(&root.Cert, testca.OCSPRevoked)).URL)
		if verify.ReasonOf(err) != verify.ReasonRevoked || later.asked() != 1 {
			t.Errorf("%v; the first was asked %d times", err, later.asked())
		}
	})
	t.Run("GET where POST is not taken", func(t *testing.T) {
		s := only(http.MethodGet)
		if err := check(t, verify.Options{}, s.URL); err != nil || s.questions[len(s.questions)-1].Nonce != nil {
			t.Errorf("%v, %+v", err, s.questions)
		}
		if err := check(t, verify.Options{OCSP: verify.OCSPOptions{Nonce: verify.NonceRequired}}, s.URL); err != nil || s.questions[len(s.questions)-1].Nonce == nil {
			t.Errorf("%v, %+v", err, s.questions)
		}
	})
	t.Run("POST where GET is not taken", func(t *testing.T) {
		if err := check(t, verify.Options{OCSP: verify.OCSPOptions{Nonce: verify.NonceOff}}, only(http.MethodPost).URL); err != nil {
			t.Error(err)
		}
	})
	t.Run("ocsp_url before the certificate's", func(t *testing.T) {
		own, other := responding(t, good), responding(t, signs(&root.Cert, testca.OCSPRevoked))
		if err := check(t, verify.Options{OCSP: verify.OCSPOptions{URLs: []string{own.URL}}}, other.URL); err != nil || other.asked() != 0 {
			t.Errorf("%v; the other was asked %d times", err, other.asked())
		}
		if err := check(t, verify.Options{OCSP: verify.OCSPOptions{URLs: []string{deadURL(t)}}}, other.URL); verify.ReasonOf(err) != verify.ReasonRevoked {
			t.Error(err)
		}
	})
	t.Run("many URLs are not all asked", func(t *testing.T) {
		var urls []string
		for range 5 {
			urls = append(urls, deadURL(t))
		}
		s := responding(t, good)
		if err := check(t, verify.Options{}, append(urls, s.URL)...); verify.ReasonOf(err) != verify.ReasonRevocationUnknown || s.asked() != 0 {
			t.Error(err)
		}
	})
	t.Run("other schemes", func(t *testing.T) {
		err := check(t, verify.Options{}, "ldap://127.0.0.1/cn=x?certificateRevocationList", "file:///etc/passwd", "ftp://127.0.0.1/")
		if verify.ReasonOf(err) != verify.ReasonRevocationUnknown {
			t.Error(err)
		}
	})
}

// TestCertificatesDoNotLeadHere: URLs of a certificate, and redirects from them, never reach this machine or its link,
// and none is followed before the chain is known to be good.
func TestCertificatesDoNotLeadHere(t *testing.T) {
	root := testca.NewRoot("Root")
	s := responding(t, signs(&root.Cert, testca.OCSPGood))
	leaf := parsed(t, root.Leaf("Alice", testca.InfoAccess([]string{s.URL, "http://169.254.169.254/latest", "http://[::1]:1/", "http://0.0.0.0:1/", "http://localhost:1/"}, nil)))
	v := withOCSP(t, verify.Options{}, &root.Cert)
	v.OCSP().Local = false
	_, err := v.Check(within(t, 20*time.Second), leaf, nil)
	if verify.ReasonOf(err) != verify.ReasonRevocationUnknown || strings.Count(err.Error(), "not allowed") != 5 {
		t.Errorf("got %v", err)
	}
	for name, v := range map[string]*verify.Verifier{
		"unknown issuer":  withOCSP(t, verify.Options{}, &testca.NewRoot("Other").Cert),
		"same name":       withOCSP(t, verify.Options{}, &testca.NewRoot("Root").Cert),
		"required policy": withOCSP(t, verify.Options{RequiredPolicies: oids(t, "1.2.3")}, &root.Cert),
	} {
		if _, err := v.Check(within(t, 20*time.Second), leaf, nil); err == nil || verify.ReasonOf(err) == verify.ReasonRevocationUnknown {
			t.Errorf("%s: %v", name, err)
		}
	}
	if s.asked() != 0 {
		t.Errorf("the responder was asked %d times", s.asked())
	}
}

// TestConfiguredResponder: the certificate of ocsp_responder_cert may answer about every CA.
func TestConfiguredResponder(t *testing.T) {
	root, elsewhere := testca.NewRoot("Root"), testca.NewRoot("Elsewhere")
	tests := []struct {
		name      string
		responder *testca.Cert // signs
		file      *testca.Cert // is configured
		want      verify.Reason
	}{
		{"signs", elsewhere.Leaf("Trusted responder"), nil, ""},
		{"is expired", elsewhere.Leaf("Trusted responder", testca.Expired()), nil, verify.ReasonRevocationUnknown},
		{"is too weak", elsewhere.Leaf("Trusted responder", testca.WithKey(testca.RSA(1024, "responder"))), nil, verify.ReasonRevocationUnknown},
		{"is another of the name", elsewhere.Leaf("Trusted responder"), elsewhere.Leaf("Trusted responder"), verify.ReasonRevocationUnknown},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if tt.file == nil {
				tt.file = tt.responder
			}
			path := filepath.Join(t.TempDir(), "responder.pem")
			write(t, path, tt.file.PEM(), 0o644)
			o := verify.Options{OCSP: verify.OCSPOptions{ResponderCerts: []string{path}, URLs: []string{responding(t, signs(tt.responder, testca.OCSPGood)).URL}}}
			_, err := withOCSP(t, o, &root.Cert).Check(within(t, 20*time.Second), parsed(t, root.Leaf("Alice")), nil)
			if verify.ReasonOf(err) != tt.want || (err == nil) != (tt.want == "") {
				t.Errorf("got %v", err)
			}
		})
	}
	dir := t.TempDir()
	write(t, filepath.Join(dir, "bad"), []byte("\x30\x01x"), 0o644)
	write(t, filepath.Join(dir, "empty"), nil, 0o644)
	for _, name := range []string{"missing", "bad", "empty"} {
		if _, err := verify.New(verify.Options{Policy: verify.Policy{OCSP: true}, OCSP: verify.OCSPOptions{ResponderCerts: []string{filepath.Join(dir, name)}}}); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// TestDelegateStatus: the certificate of a delegate without no-check must itself be good, and cannot say so itself.
func TestDelegateStatus(t *testing.T) {
	root := testca.NewRoot("Root")
	signing := testca.ExtKeyUsage(false, testca.OCSPSigning)
	tests := []struct {
		name string
		// about answers what is asked of the delegate's certificate.
		about  func(delegate *testca.Cert) func(q testca.Question) []byte
		crl    func(delegate *testca.Cert) []byte // nil: no CRL word
		status byte                               // of the certificate
		want   verify.Reason
	}{
		{name: "the CA says good", about: func(*testca.Cert) func(testca.Question) []byte { return signs(&root.Cert, testca.OCSPGood) }, status: testca.OCSPGood},
		{
			name:   "the CA says revoked",
			about:  func(*testca.Cert) func(testca.Question) []byte { return signs(&root.Cert, testca.OCSPRevoked) },
			status: testca.OCSPGood, want: verify.ReasonRevocationUnknown,
		},
		{
			name:   "the CA does not know it",
			about:  func(*testca.Cert) func(testca.Question) []byte { return signs(&root.Cert, testca.OCSPUnknown) },
			status: testca.OCSPGood, want: verify.ReasonRevocationUnknown,
		},
		{
			name:   "it says good of itself",
			about:  func(d *testca.Cert) func(testca.Question) []byte { return signs(d, testca.OCSPGood, d) },
			status: testca.OCSPGood, want: verify.ReasonRevocationUnknown,
		},
		{name: "another without no-check vouches for it, and it for the other", about: func(d *testca.Cert) func(testca.Question) []byte {
			other := root.Leaf("Other responder", signing, testca.InfoAccess([]string{deadURL(t)}, nil))
			return signs(other, testca.OCSPGood, other)
		}, status: testca.OCSPGood, want: verify.ReasonRevocationUnknown},
		{name: "another with no-check vouches for it", about: func(*testca.Cert) func(testca.Question) []byte {
			other := root.Leaf("Other responder", signing, testca.OCSPNoCheck())
			return signs(other, testca.OCSPGood, other)
		}, status: testca.OCSPGood},
		{name: "a CRL is good", crl: func(*testca.Cert) []byte { return root.CRL(testca.CRL{}) }, status: testca.OCSPGood},
		{name: "a CRL lists it: its word counts for nothing, and the CRL decides", crl: func(d *testca.Cert) []byte {
			return root.CRL(testca.CRL{Entries: []testca.Revoked{{Serial: d.Serial}}})
		}, status: testca.OCSPRevoked},
		{name: "its status is not known, but it says revoked", status: testca.OCSPRevoked, want: verify.ReasonRevoked},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var delegate *testca.Cert
			s := responding(t, func(q testca.Question) []byte {
				if !bytes.Equal(q.Serial, delegate.Serial) {
					return signs(delegate, tt.status, delegate)(q)
				}
				if tt.about == nil {
					return root.OCSP(testca.OCSP{Status: 6})
				}
				return tt.about(delegate)(q)
			})
			access := testca.InfoAccess([]string{s.URL}, nil)
			delegate = root.Leaf("Responder", signing, access)
			v := withOCSP(t, verify.Options{}, &root.Cert)
			if tt.crl != nil {
				withCRLs(t, v, tt.crl(delegate))
			}
			_, err := v.Check(within(t, 20*time.Second), parsed(t, root.Leaf("Alice", access)), nil)
			if verify.ReasonOf(err) != tt.want || (err == nil) != (tt.want == "") {
				t.Errorf("got %v", err)
			}
		})
	}
}

// TestSlowDelegateLoses: while the status of a delegate is still being asked for, the next responder's answer counts, and
// the loser says nothing any more.
func TestSlowDelegateLoses(t *testing.T) {
	root := testca.NewRoot("Root")
	var delegate *testca.Cert
	slow := serving(t, func(w http.ResponseWriter, r *http.Request, q testca.Question) {
		if bytes.Equal(q.Serial, delegate.Serial) {
			<-r.Context().Done()
			return
		}
		_, _ = w.Write(signs(delegate, testca.OCSPGood, delegate)(q))
	})
	delegate = root.Leaf("Responder", testca.ExtKeyUsage(false, testca.OCSPSigning), testca.InfoAccess([]string{slow.URL}, nil))
	next := responding(t, signs(&root.Cert, testca.OCSPGood))
	v := withOCSP(t, verify.Options{}, &root.Cert)
	withCRLs(t, v, root.CRL(testca.CRL{}))
	started, allowed := time.Now(), slowtest.Allowance()
	result, err := v.Check(within(t, 20*time.Second), parsed(t, root.Leaf("Alice", testca.InfoAccess([]string{slow.URL, next.URL}, nil))), nil)
	if err != nil || time.Since(started) > 8*time.Second+allowed() {
		t.Errorf("%v after %v: %+v", err, time.Since(started), result.Decisions)
	}
}

// TestWholeChain: each certificate below the anchor is asked about, all at once, and the worst counts.
func TestWholeChain(t *testing.T) {
	root := testca.NewRoot("Root")
	build := func(t *testing.T, delay time.Duration, above, below byte) (world, []*certinfo.Certificate, *ocspServer) {
		var inter *testca.CA
		s := responding(t, func(q testca.Question) []byte {
			time.Sleep(delay) // of the responder, over real sockets
			if bytes.Equal(q.Serial, inter.Serial) {
				return signs(&root.Cert, above)(q)
			}
			return signs(&inter.Cert, below)(q)
		})
		access := testca.InfoAccess([]string{s.URL}, nil)
		inter = root.Intermediate("Inter", access)
		w := world{root, inter, inter.Leaf("Alice", access)}
		return w, []*certinfo.Certificate{parsed(t, &inter.Cert)}, s
	}
	tests := []struct {
		name         string
		above, below byte
		soft, leaf   bool
		want         verify.Reason
	}{
		{name: "good", above: testca.OCSPGood, below: testca.OCSPGood},
		{
			name: "leaf revoked", above: testca.OCSPGood, below: testca.OCSPRevoked,
			want: verify.ReasonRevoked,
		},
		{
			name: "intermediate revoked", above: testca.OCSPRevoked, below: testca.OCSPGood,
			want: verify.ReasonRevoked,
		},
		{
			name: "intermediate unknown, leaf revoked", above: testca.OCSPUnknown,
			below: testca.OCSPRevoked, soft: true, want: verify.ReasonRevoked,
		},
		{
			name: "intermediate unknown", above: testca.OCSPUnknown, below: testca.OCSPGood,
			want: verify.ReasonRevocationUnknown,
		},
		{
			name: "intermediate unknown, soft", above: testca.OCSPUnknown, below: testca.OCSPGood,
			soft: true, want: verify.ReasonRevocationUnknown,
		},
		{
			name: "intermediate revoked, scope is the leaf", above: testca.OCSPRevoked,
			below: testca.OCSPGood, leaf: true,
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w, card, _ := build(t, 0, tt.above, tt.below)
			v := withOCSP(t, verify.Options{Soft: tt.soft}, &root.Cert)
			v.AskLeafOnly(tt.leaf)
			_, err := v.Check(within(t, 20*time.Second), parsed(t, w.leaf), card)
			if verify.ReasonOf(err) != tt.want || (err == nil) != (tt.want == "") {
				t.Errorf("got %v", err)
			}
		})
	}
	t.Run("at once", func(t *testing.T) {
		w, card, _ := build(t, 700*time.Millisecond, testca.OCSPGood, testca.OCSPGood)
		started, allowed := time.Now(), slowtest.Allowance()
		if _, err := withOCSP(t, verify.Options{}, &root.Cert).Check(within(t, 20*time.Second), parsed(t, w.leaf), card); err != nil {
			t.Error(err)
		}
		if took := time.Since(started); took > 1350*time.Millisecond+allowed() {
			t.Errorf("took %v: one after the other", took)
		}
	})
}

// TestSoftIsNoWayRound: a certificate against which a signature spoke on one way to an anchor is not saved by silence on
// another. One that is revoked is not looked for on another way.
func TestSoftIsNoWayRound(t *testing.T) {
	root, other := testca.NewRoot("Root"), testca.NewRoot("Other")
	for _, tt := range []struct {
		status  byte
		answers int32 // of that status, one for each attempt on the first way
		want    verify.Reason
		ways    int
	}{
		{testca.OCSPRevoked, 1, verify.ReasonRevoked, 1},
		{testca.OCSPUnknown, 3, verify.ReasonRevocationUnknown, 2},
	} {
		inter := root.Intermediate("Inter")
		var said atomic.Int32
		s := responding(t, func(q testca.Question) []byte {
			if said.Add(1) > tt.answers {
				return root.OCSP(testca.OCSP{Status: 3})
			}
			return signs(&inter.Cert, tt.status)(q)
		})
		leaf := inter.Leaf("Alice", testca.InfoAccess([]string{s.URL}, nil))
		cross := other.Intermediate("Inter", testca.WithKey(inter.Key))
		v := withOCSP(t, verify.Options{Soft: true}, &root.Cert, &other.Cert)
		v.OCSP().Store = nil // nothing is kept
		card := []*certinfo.Certificate{parsed(t, &inter.Cert), parsed(t, &cross.Cert)}
		if _, err := v.Check(within(t, 20*time.Second), parsed(t, leaf), card); verify.ReasonOf(err) != tt.want {
			t.Errorf("status %d: %v", tt.status, err)
		}
		if asked := s.asked(); asked > int(tt.answers) != (tt.ways > 1) {
			t.Errorf("status %d: asked %d times", tt.status, asked)
		}
	}
}

// TestSoftIsLogged: each login that goes on without knowing says so.
func TestSoftIsLogged(t *testing.T) {
	var log bytes.Buffer
	root := testca.NewRoot("Root")
	o := verify.Options{Soft: true, Logger: slog.New(slog.NewTextHandler(&log, nil))}
	result, err := withOCSP(t, o, &root.Cert).Check(within(t, 20*time.Second), parsed(t, root.Leaf("Alice", testca.InfoAccess([]string{deadURL(t)}, nil))), nil)
	if err != nil || !strings.Contains(log.String(), "revocation = soft") || !strings.Contains(log.String(), "CN=Alice") {
		t.Errorf("%v, log: %s", err, log.String())
	}
	var soft, silent bool
	for _, d := range result.Decisions {
		soft = soft || d.Reason == verify.ReasonSoft && d.OK
		silent = silent || d.Reason == verify.ReasonNoAnswer && !d.OK && strings.Contains(d.Detail, "refused")
	}
	if !soft || !silent {
		t.Errorf("decisions %+v", result.Decisions)
	}
}
