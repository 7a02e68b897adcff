package ocsp

import (
	"crypto"
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"pam_pkcs11/internal/testca"
	"pam_pkcs11/verify/internal/rules"
)

// TestStoreRace: a "good" that was fetched before another process wrote "revoked" does not replace it.
func TestStoreRace(t *testing.T) {
	root := testca.NewRoot("Root")
	issuer := parsed(t, &root.Cert)
	leaf := parsed(t, root.Leaf("Alice"))
	target := &Target{Cert: leaf, Issuer: issuer, Key: issuer.PublicKey}
	verdict := func(status byte) *Verdict {
		a, err := parseAnswer(root.OCSP(testca.OCSP{Singles: []testca.Single{{CertID: root.CertID(crypto.SHA256, leaf.SerialBytes), Status: status}}}))
		if err != nil {
			t.Fatal(err)
		}
		return &Verdict{answer: a, single: a.singles[0]}
	}
	dir := filepath.Join(t.TempDir(), "state", "ocsp")
	store := NewStore(dir)
	if err := store.keep(target, nil, verdict(testca.OCSPRevoked)); err != nil {
		t.Fatal(err)
	}
	if err := store.keep(target, nil, verdict(testca.OCSPGood)); err != nil {
		t.Fatal(err)
	}

	next := &Checker{ // the certificate names no responder: nobody is asked
		Rules:  rules.Rules{MinRSABits: 2048},
		Now:    time.Now,
		Logger: slog.New(slog.DiscardHandler),
		Store:  NewStore(dir),
	}
	if out := next.Ask(t.Context(), target, nil); out.Verdict == nil || !out.Verdict.Revoked() || out.From != "the store" {
		t.Errorf("revoked stays: %+v", out)
	}
}
