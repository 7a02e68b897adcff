package path

import (
	"testing"

	"pam_pkcs11/internal/certinfo"
	"pam_pkcs11/internal/testca"
)

func parsed(t testing.TB, c *testca.Cert) *certinfo.Certificate {
	t.Helper()
	cert, err := certinfo.Parse(c.DER)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}
