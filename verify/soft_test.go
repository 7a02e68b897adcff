package verify_test

import (
	"bytes"
	"log/slog"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"pam_pkcs11/internal/certinfo"
	"pam_pkcs11/internal/testca"
	"pam_pkcs11/verify"
)

// `revocation = soft` is for silence alone: what is said with a signature counts, and so does a
// signature that is wrong.

func TestSoftHearsResponders(t *testing.T) {
	root, twin, elsewhere := testca.NewRoot("Root"), testca.NewRoot("Root"), testca.NewRoot("Elsewhere")
	now := time.Now()
	signing := testca.ExtKeyUsage(false, testca.OCSPSigning)
	delegate := root.Leaf("Responder", signing, testca.OCSPNoCheck())
	over := root.Leaf("Responder", signing, testca.OCSPNoCheck(), testca.Expired())
	plain := root.Leaf("Colleague")
	foreign := elsewhere.Leaf("Trusted responder")
	says := func(s testca.Single) func(testca.Question) []byte {
		return func(q testca.Question) []byte { return root.OCSP(saying(q, s)) }
	}
	body := func(text string) func(testca.Question) []byte {
		return func(testca.Question) []byte { return []byte(text) }
	}
	tests := []struct {
		name   string
		answer func(q testca.Question) []byte
		refuse bool
		text   string
	}{
		{"unknown, of the CA", signs(&root.Cert, testca.OCSPUnknown), true, "does not know"},
		{"unknown, of its delegate", signs(delegate, testca.OCSPUnknown, delegate), true, "does not know"},
		{"unknown, of a responder of the configuration that is not the CA's", signs(foreign, testca.OCSPUnknown), false, "does not know"},
		{"good, of another key of the name", signs(&twin.Cert, testca.OCSPGood), true, "not signed"},
		{"good, of somebody whom the CA did not name", signs(plain, testca.OCSPGood, plain), true, "OCSPSigning"},
		{"unknown, of another key of the name", signs(&twin.Cert, testca.OCSPUnknown), true, "not signed"},
		{"good, of a delegate whose certificate is over", signs(over, testca.OCSPGood, over), false, "not valid after"},
		{"good, whose time is over", says(testca.Single{ThisUpdate: now.Add(-48 * time.Hour), NextUpdate: now.Add(-24 * time.Hour)}), false, "after its nextUpdate"},
		{"a page", body("<html><body>Log in to this network"), false, "not an OCSPResponse"},
		{"nothing", body(""), false, ""},
		{"try later", func(testca.Question) []byte { return root.OCSP(testca.OCSP{Status: 3}) }, false, ""},
		{"unauthorized", func(testca.Question) []byte { return root.OCSP(testca.OCSP{Status: 6}) }, false, ""},
	}
	file := filepath.Join(t.TempDir(), "responder.pem")
	write(t, file, foreign.PEM(), 0o644)
	for _, tt := range tests {
		for _, crl := range []bool{false, true} {
			url := responding(t, tt.answer).URL
			leaf := root.Leaf("Alice", testca.InfoAccess([]string{url}, nil))
			var log bytes.Buffer
			o := verify.Options{Soft: true, OCSP: verify.OCSPOptions{ResponderCerts: []string{file}}, Logger: slog.New(slog.NewTextHandler(&log, nil))}
			v := withOCSP(t, o, &root.Cert)
			if crl {
				withCRLs(t, v)
			}
			_, err := v.Check(within(t, 20*time.Second), parsed(t, leaf), nil)
			switch {
			case tt.refuse && (verify.ReasonOf(err) != verify.ReasonRevocationUnknown || !strings.Contains(err.Error(), tt.text)):
				t.Errorf("%s, CRLs too %v: %v", tt.name, crl, err)
			case !tt.refuse && (err != nil || !strings.Contains(log.String(), tt.text) || !strings.Contains(log.String(), url)):
				t.Errorf("%s, CRLs too %v: %v, log: %s", tt.name, crl, err, log.String())
			}
		}
	}
}

// TestSignedUnknownIsNotForgotten: that the responder is mute when it is asked in another way takes
// nothing back.
func TestSignedUnknownIsNotForgotten(t *testing.T) {
	root := testca.NewRoot("Root")
	first := true
	s := serving(t, func(w http.ResponseWriter, r *http.Request, q testca.Question) {
		if !first {
			panic(http.ErrAbortHandler)
		}
		first = false
		_, _ = w.Write(signs(&root.Cert, testca.OCSPUnknown)(q))
	})
	leaf := root.Leaf("Alice", testca.InfoAccess([]string{s.URL}, nil))
	_, err := withOCSP(t, verify.Options{Soft: true}, &root.Cert).Check(within(t, 20*time.Second), parsed(t, leaf), nil)
	if verify.ReasonOf(err) != verify.ReasonRevocationUnknown {
		t.Errorf("got %v", err)
	}
	// A list that the CA signed later outweighs it.
	v := withOCSP(t, verify.Options{Soft: true}, &root.Cert)
	withCRLs(t, v, root.CRL(testca.CRL{}))
	if _, err := v.Check(within(t, 20*time.Second), parsed(t, leaf), nil); err != nil {
		t.Errorf("with a list: %v", err)
	}
}

func TestSoftHearsLists(t *testing.T) {
	w := newWorld()
	now := time.Now()
	past := testca.CRL{ThisUpdate: now.Add(-48 * time.Hour), NextUpdate: now.Add(-24 * time.Hour)}
	pastRevoked := past
	pastRevoked.Entries = revoked(w.leaf, 1)
	whole := w.inter.CRL(testca.CRL{})
	tests := []struct {
		name string
		list []byte
		want verify.Reason
		text string
	}{
		{"none", nil, "", "holds none of"},
		{"time is over", w.inter.CRL(past), "", "has expired"},
		{"time is over, names it", w.inter.CRL(pastRevoked), verify.ReasonRevoked, ""},
		{"not signed by the CA", w.inter.CRL(testca.CRL{CorruptSignature: true}), verify.ReasonRevocationUnknown, "not signed"},
		{"signed by another of the name", testca.NewRoot("Inter").CRL(testca.CRL{}), verify.ReasonRevocationUnknown, "not signed"},
		{"cut short", whole[:len(whole)-5], "", ""},
		{"a page", []byte("<html>"), "", ""},
	}
	for _, tt := range tests {
		var log bytes.Buffer
		files := map[string][]byte{"root": w.root.CRL(testca.CRL{})}
		if tt.list != nil {
			files["inter"] = tt.list
		}
		d := newOnDisk(t, w, files)
		err := d.check(t, d.verifier(t, verify.Options{Soft: true, Logger: slog.New(slog.NewTextHandler(&log, nil))}))
		if verify.ReasonOf(err) != tt.want || tt.want == "" && err != nil {
			t.Errorf("%s: %v", tt.name, err)
		}
		said := log.String()
		if err != nil {
			said = err.Error()
		}
		if !strings.Contains(said, tt.text) {
			t.Errorf("%s: %s", tt.name, said)
		}
	}
}

// TestSoftHearsPoints: a network's page in the place of a list is silence and named, a list that
// nobody signed is not.
func TestSoftHearsPoints(t *testing.T) {
	o := newOnline(t)
	check := func(body []byte) (log string, err error) {
		o.inter.Store(serveCRL(body))
		var lines bytes.Buffer
		err = o.login(t, storeDir(t), verify.Options{Soft: true, Logger: slog.New(slog.NewTextHandler(&lines, nil))})
		return lines.String(), err
	}
	if log, err := check([]byte("<html><body>Log in to this network")); err != nil || !strings.Contains(log, o.interURL) {
		t.Errorf("a page: %v, %s", err, log)
	}
	if _, err := check(o.world.inter.CRL(testca.CRL{CorruptSignature: true})); verify.ReasonOf(err) != verify.ReasonRevocationUnknown {
		t.Errorf("not signed: %v", err)
	}
	other := testca.NewRoot("Inter").CRL(testca.CRL{Extensions: []testca.Extension{{OID: certinfo.OIDAuthorityKeyIdentifier.String(), Value: testca.Sequence(testca.TLV(0x80, []byte{9}))}}})
	if _, err := check(other); verify.ReasonOf(err) != verify.ReasonRevocationUnknown {
		t.Errorf("not signed, and says so: %v", err)
	}
}
