package verify_test

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"pam_pkcs11/internal/testca"
	"pam_pkcs11/verify"
)

// TestSeveralConfiguredResponders: files with several certificates, directories, and certificates of one name.
func TestSeveralConfiguredResponders(t *testing.T) {
	root, elsewhere := testca.NewRoot("Root"), testca.NewRoot("Elsewhere")
	one, two := elsewhere.Leaf("Responder"), elsewhere.Leaf("Responder") // renewed, with another key
	three, stranger := elsewhere.Leaf("Third"), elsewhere.Leaf("Responder")
	dir := t.TempDir()
	write(t, filepath.Join(dir, "pair"), append(one.PEM(), two.PEM()...), 0o644)
	sub := filepath.Join(dir, "dir")
	if err := os.Mkdir(sub, 0o755); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(sub, "three.crt"), three.DER, 0o644)
	write(t, filepath.Join(sub, "again.pem"), one.PEM(), 0o644)
	write(t, filepath.Join(sub, "README"), []byte("hello"), 0o644)
	paths := []string{filepath.Join(dir, "pair"), sub, filepath.Join(sub, "again.pem")}
	for name, tt := range map[string]struct {
		signer *testca.Cert
		want   verify.Reason
	}{
		"the first of a file": {one, ""}, "the second of a file": {two, ""}, "of the directory": {three, ""},
		"another of the name": {stranger, verify.ReasonRevocationUnknown},
	} {
		o := verify.Options{OCSP: verify.OCSPOptions{ResponderCerts: paths, URLs: []string{responding(t, signs(tt.signer, testca.OCSPGood)).URL}}}
		v := withOCSP(t, o, &root.Cert)
		_, err := v.Check(within(t, 20*time.Second), parsed(t, root.Leaf("Alice")), nil)
		if verify.ReasonOf(err) != tt.want || (err == nil) != (tt.want == "") {
			t.Errorf("%s: %v", name, err)
		}
		if p := v.Problems(); len(p) != 1 || p[0].Path != filepath.Join(sub, "README") {
			t.Errorf("problems %v", p)
		}
	}
}

// TestDelegateWithoutStatus: neither nocheck nor an address in the responder's certificate.
func TestDelegateWithoutStatus(t *testing.T) {
	root := testca.NewRoot("Root")
	signing := testca.ExtKeyUsage(false, testca.OCSPSigning)
	bare := root.Leaf("Responder", signing)
	pointed := root.Leaf("Responder", signing, testca.CRLDistribution("http://pki.example.org/x.crl"))
	none := []byte(nil)
	for _, tt := range []struct {
		name     string
		delegate *testca.Cert
		accept   bool
		crl      []byte // of the CA; nil: no CRL word
		status   byte
		want     verify.Reason
		named    bool // the key, in the error or in the log
	}{
		{
			name: "refused", delegate: bare, crl: none, status: testca.OCSPGood,
			want: verify.ReasonRevocationUnknown, named: true,
		},
		{
			name: "accepted", delegate: bare, accept: true, crl: none, status: testca.OCSPGood,
			named: true,
		},
		{
			name: "accepted, and says revoked", delegate: bare, accept: true, crl: none,
			status: testca.OCSPRevoked, want: verify.ReasonRevoked,
		},
		{
			name: "its status could be asked", delegate: pointed, accept: true, crl: none,
			status: testca.OCSPGood, want: verify.ReasonRevocationUnknown,
		},
		{
			name: "a list has it", delegate: bare, accept: true,
			crl: root.CRL(testca.CRL{Entries: revoked(bare, 1)}), status: testca.OCSPGood,
		}, // the list decides about Alice
		{
			name: "a list does not have it", delegate: bare, crl: root.CRL(testca.CRL{}),
			status: testca.OCSPGood,
		},
	} {
		var log bytes.Buffer
		s := responding(t, func(q testca.Question) []byte {
			if bytes.Equal(q.Serial, tt.delegate.Serial) {
				return root.OCSP(testca.OCSP{Status: 6})
			}
			return signs(tt.delegate, tt.status, tt.delegate)(q)
		})
		o := verify.Options{OCSP: verify.OCSPOptions{DelegateWithoutStatus: tt.accept}, Logger: slog.New(slog.NewTextHandler(&log, nil))}
		v := withOCSP(t, o, &root.Cert)
		if tt.crl != nil {
			withCRLs(t, v, tt.crl)
		}
		result, err := v.Check(within(t, 20*time.Second), parsed(t, root.Leaf("Alice", testca.InfoAccess([]string{s.URL}, nil))), nil)
		if verify.ReasonOf(err) != tt.want || (err == nil) != (tt.want == "") {
			t.Errorf("%s: %v", tt.name, err)
		}
		said := log.String()
		if err != nil {
			said += err.Error()
			if e := err.(*verify.Error); (e.Restore == "ocsp_delegate_without_status = accept") != tt.named {
				t.Errorf("%s: restore %q", tt.name, e.Restore)
			}
		}
		if strings.Contains(said, "ocsp_delegate_without_status") != tt.named {
			t.Errorf("%s: %s", tt.name, said)
		}
		if strings.Contains(tt.name, "a list has it") {
			for _, d := range result.Decisions {
				if d.Reason == verify.ReasonOCSPGood {
					t.Errorf("%s: %+v", tt.name, d)
				}
			}
		}
	}
}
