package login

import (
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"pam_pkcs11/config"
	"pam_pkcs11/internal/certinfo"
	"pam_pkcs11/internal/testca"
	"pam_pkcs11/verify"
)

func parse(t *testing.T, module string) *config.Config {
	t.Helper()
	conf, err := config.Parse("f.conf", []byte("pam_pkcs11 { use_mappers = cn; pkcs11_module default { module = /x.so; "+module+" } }"), nil)
	if err != nil {
		t.Fatal(err)
	}
	return conf
}

// TestVerifyOptions: what the file says of OCSP reaches the verifier.
func TestVerifyOptions(t *testing.T) {
	tests := []struct {
		module string
		soft   bool
		want   verify.OCSPOptions
	}{
		{"", false, verify.OCSPOptions{Nonce: verify.NonceOptional}},
		{"revocation = soft; ocsp_url = http://a/x, https://b/; ocsp_responder_cert = /r.pem, /d; ocsp_nonce = required; ocsp_max_age = 60;", true,
			verify.OCSPOptions{URLs: []string{"http://a/x", "https://b/"}, ResponderCerts: []string{"/r.pem", "/d"}, Nonce: verify.NonceRequired, MaxAge: time.Minute}},
		{"ocsp_nonce = off; revocation = hard;", false, verify.OCSPOptions{Nonce: verify.NonceOff}},
	}
	for _, tt := range tests {
		o, err := VerifyOptions(parse(t, "cert_policy = ca, ocsp_on; "+tt.module))
		if err != nil || o.Soft != tt.soft || !o.Policy.OCSP || o.StoreDir != verify.DefaultStore || !reflect.DeepEqual(o.OCSP, tt.want) {
			t.Errorf("%q: %+v, %v", tt.module, o.OCSP, err)
		}
	}
}

// TestV1AnchorsReachTheVerifier: who may issue is what the file says.
func TestV1AnchorsReachTheVerifier(t *testing.T) {
	for module, want := range map[string]bool{"": false, "v1_anchors = false;": false, "v1_anchors = true;": true} {
		if o, err := VerifyOptions(parse(t, module)); err != nil || o.V1Anchors != want {
			t.Errorf("%q: %v, %v", module, o.V1Anchors, err)
		}
	}
}

// TestVerifyRefusal: what the user is told, and which key the log names.
func TestVerifyRefusal(t *testing.T) {
	root := testca.NewRoot("Root")
	leaf, err := certinfo.Parse(root.Leaf("Alice").DER)
	if err != nil {
		t.Fatal(err)
	}
	ca, err := certinfo.Parse(root.DER)
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name    string
		module  string
		err     error
		late    bool
		want    Outcome
		restore []string // in what the log names; none: nothing is named
	}{
		{"no OCSP answer", "cert_policy = ca, ocsp_on;", &verify.Error{Cert: leaf, Reason: verify.ReasonRevocationUnknown}, false, RevocationUnknown, []string{"ocsp_url"}},
		{"no list", "cert_policy = ca, crl_offline;", &verify.Error{Cert: leaf, Reason: verify.ReasonRevocationUnknown}, false, RevocationUnknown, []string{"crl_url"}},
		{"signed: not known", "cert_policy = ca, ocsp_on;", &verify.Error{Cert: leaf, Reason: verify.ReasonRevocationUnknown, Spoken: true}, false, RevocationUnknown, nil},
		{"revoked", "cert_policy = ca, ocsp_on;", &verify.Error{Cert: leaf, Reason: verify.ReasonRevoked}, false, CertificateRevoked, nil},
		{"its CA is revoked", "cert_policy = ca, ocsp_on;", &verify.Error{Cert: ca, Reason: verify.ReasonRevoked}, false, CertificateInvalid, nil},
		{"other purpose", "", &verify.Error{Cert: leaf, Reason: verify.ReasonEKU}, false, CertificateInvalid, []string{"eku = 1.3.6.1.5.5.7.3.2"}},
		{"an anchor without basicConstraints", "", &verify.Error{Cert: ca, Reason: verify.ReasonNotCA, Restore: "v1_anchors = true"}, false, CertificateInvalid, []string{"v1_anchors = true"}},
		{"no OCSP answer in time", "cert_policy = ca, ocsp_on;", &verify.Error{Cert: leaf, Reason: verify.ReasonRevocationUnknown}, true, RevocationUnknown, []string{"ocsp_url"}},
		{"no time for the chain", "", &verify.Error{Cert: leaf, Reason: verify.ReasonWork}, true, DeadlinePassed, nil},
		{"a web of CAs", "", &verify.Error{Cert: leaf, Reason: verify.ReasonWork}, false, CertificateInvalid, nil},
		{"a fault", "", errors.New("x"), false, CertificateInvalid, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := verifyRefusal(parse(t, tt.module), leaf, tt.err, tt.late)
			if r.Outcome != tt.want || (r.Restore == "") != (len(tt.restore) == 0) {
				t.Errorf("%v, restore %q", r.Outcome, r.Restore)
			}
			if strings.Contains(r.Restore, "soft") || strings.Contains(r.Restore, "unverified_names") {
				t.Errorf("restore %q names a weakening", r.Restore)
			}
			for _, key := range tt.restore {
				if !strings.Contains(r.Restore, key) {
					t.Errorf("restore %q does not name %q", r.Restore, key)
				}
			}
		})
	}
}
