package doctor

import (
	"strings"
	"testing"
	"time"

	"pam_pkcs11/internal/certinfo"
	"pam_pkcs11/internal/diagnosis"
	"pam_pkcs11/internal/probe"
	"pam_pkcs11/internal/testca"
	"pam_pkcs11/login"
	"pam_pkcs11/token"
)

// TestCertificates: a certificate that a login would refuse is named by the verifier's reason, in one
// line with its cure.
func TestCertificates(t *testing.T) {
	root := testca.NewRoot("Root")
	now := time.Now()
	later := testca.Validity(now.Add(48*time.Hour), now.Add(96*time.Hour))
	soon := testca.Validity(now.Add(-time.Hour), now.Add(72*time.Hour))
	leaf := root.Leaf("alice")
	revoked := root.CRL(testca.CRL{Entries: []testca.Revoked{{Serial: leaf.Serial, When: now.Add(-time.Hour)}}})
	const offline = "cert_policy = ca, signature, crl_offline; crl_dir = DIR/crls;"

	for _, row := range []struct {
		name, more string
		cert       *testca.Cert
		crl        []byte
		want       want
	}{
		{"ends soon", "", root.Leaf("alice", soon), nil, want{"certificate-ends-soon", diagnosis.Warning, "ends on", "renew"}},
		{"expired", "", root.Leaf("alice", testca.Expired()), nil, want{"certificate-expired", diagnosis.Refusal, "is refused", "renew"}},
		{"not yet", "", root.Leaf("alice", later), nil, want{"certificate-not-yet-valid", diagnosis.Refusal, "is refused", "timedatectl"}},
		{"issuer", "", testca.NewRoot("Other").Leaf("alice"), nil,
			want{"certificate-issuer-unknown", diagnosis.Refusal, "is refused", "ca_dir"}},
		{"intermediate", "", root.Intermediate("Issuing").Leaf("alice"), nil,
			want{"certificate-issuer-unknown", diagnosis.Refusal, "is refused", "ca_dir"}},
		{"signature", "", root.Leaf("alice", testca.BadSignature()), nil,
			want{"certificate-bad-signature", diagnosis.Refusal, "is refused", "issued again"}},
		{"weak key", "", root.Leaf("alice", testca.WithKey(testca.RSA(1024, "short"))), nil,
			want{"certificate-weak-key", diagnosis.Refusal, "is refused", "issued again"}},
		{"key usage", "", root.Leaf("alice", testca.KeyUsage(true, 1<<2)), nil,
			want{"certificate-key-usage", diagnosis.Refusal, "is refused", "certificate for logins"}},
		{"extended key usage", "", root.Leaf("alice", testca.ExtKeyUsage(false, testca.ServerAuth)), nil,
			want{"certificate-extended-key-usage", diagnosis.Refusal, "is refused", "eku"}},
		{"policy", `required_policies = "1.2.3.4";`, leaf, nil,
			want{"certificate-policy", diagnosis.Refusal, "is refused", "required_policies"}},
		{"revoked", offline, leaf, revoked, want{"certificate-revoked", diagnosis.Refusal, "is refused", "another certificate"}},
		{"no list", offline, leaf, nil, want{"certificate-revocation-unknown", diagnosis.Refusal, "is refused", "crl update"}},
	} {
		t.Run(row.name, func(t *testing.T) {
			tr := newTree(t)
			tr.put("/ca/root.pem", string(root.PEM()))
			tr.mkdir("/crls")
			if row.crl != nil {
				tr.put("/crls/root.crl", string(row.crl))
			}
			policy := row.more
			if !strings.Contains(policy, "cert_policy") {
				policy += " cert_policy = ca, signature;"
			}
			tr.module("module = builtin; ca_dir = DIR/ca; "+policy, "pwent", "")

			m := tr.machine()
			checker, err := (&login.Authenticator{}).NewChecker(m.Config.Block(0))
			if err != nil {
				t.Fatal(err)
			}
			cert, err := certinfo.ParsePadded(row.cert.DER)
			if err != nil {
				t.Fatal(err)
			}
			found := judgeAll(t.Context(), checker, "card", []*certinfo.Certificate{cert}, nil)
			f := row.want.in(t, found)
			if len(found) != 1 || strings.Contains(f.Fact.String(), "\n") {
				t.Errorf("%d findings: %q", len(found), f.Fact)
			}
		})
	}
}

// TestPINToBeChanged: what a card says of its PIN beside the tries.
func TestPINToBeChanged(t *testing.T) {
	s := &probe.Slot{Card: &probe.Card{Label: "alice", PIN: token.PIN{Set: true, ToBeChanged: true}}}
	want{"pin-to-be-changed", diagnosis.Warning, "must be changed", "pam-pkcs11 pin change"}.in(t, pinFindings(s))
}

// TestCRLDirectory: it is not there.
func TestCRLDirectory(t *testing.T) {
	tr := site(t)
	tr.module("module = builtin; ca_dir = DIR/ca; cert_policy = ca, signature, crl_offline; crl_dir = DIR/none;", "pwent", "")
	want{"crl-dir", diagnosis.Refusal, "crl_dir", "crl update"}.in(t, run(t, tr.machine(), "configuration-files"))
}
