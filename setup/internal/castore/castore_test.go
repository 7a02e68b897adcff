package castore

import (
	"crypto"
	"os"
	"path/filepath"
	"testing"
	"time"

	"pam_pkcs11/internal/certinfo"
	"pam_pkcs11/internal/testca"
)

func parse(t *testing.T, c *testca.Cert) *certinfo.Certificate {
	t.Helper()
	cert, err := certinfo.Parse(c.DER)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

// TestStore: the authority that has signed is found, once, in a file of its own before a bundle; one of the same name
// that has not signed is not.
func TestStore(t *testing.T) {
	ca, namesake, other := testca.NewRoot("Example CA"), testca.NewRoot("Example CA"), testca.NewRoot("Other CA")
	root := t.TempDir()
	for file, data := range map[string][]byte{
		"etc/ssl/certs/ca-certificates.crt":                 append(append(other.PEM(), namesake.PEM()...), ca.PEM()...),
		"etc/ssl/certs/Example.pem":                         ca.PEM(),
		"etc/ssl/certs/broken.pem":                          []byte("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"),
		"usr/local/share/ca-certificates/company/leaf.crt":  ca.Leaf("Example CA").PEM(),
		"etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem":  make([]byte, maxFile+1),
		"usr/local/share/ca-certificates/company/other.crt": other.PEM(),
	} {
		full := filepath.Join(root, file)
		if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(full, data, 0o644); err != nil {
			t.Fatal(err)
		}
	}

	now := time.Now()
	found := Issuers(root, parse(t, ca.Leaf("alice")), now)
	if len(found) != 1 || filepath.Base(found[0].File) != "Example.pem" || string(found[0].Cert.Raw) != string(ca.DER) {
		t.Errorf("%+v", found)
	}
	for name, none := range map[string][]Found{
		"self-signed":    Issuers(root, parse(t, testca.SelfSigned("alice")), now),
		"another's":      Issuers(root, parse(t, testca.NewRoot("Example CA").Leaf("alice")), now),
		"later":          Issuers(root, parse(t, ca.Leaf("alice")), now.AddDate(100, 0, 0)),
		"an empty store": Issuers(t.TempDir(), parse(t, ca.Leaf("alice")), now),
	} {
		if len(none) != 0 {
			t.Errorf("%s: %+v", name, none)
		}
	}

	sum := parse(t, &other.Cert).Fingerprint(crypto.SHA256)
	if found := ByFingerprint(root, sum, now); len(found) != 1 || filepath.Base(found[0].File) != "other.crt" {
		t.Errorf("%+v", found)
	}
	if found := ByFingerprint(root, sum[:31], now); len(found) != 0 {
		t.Errorf("%+v", found)
	}
}
