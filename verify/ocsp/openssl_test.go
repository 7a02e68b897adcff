package ocsp

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"pam_pkcs11/internal/testca"
)

// TestOpenSSLReadsOurRequests: what we ask is what it understands.
func TestOpenSSLReadsOurRequests(t *testing.T) {
	root := testca.NewRoot("Root")
	leaf := root.Leaf("Alice", testca.Serial(0x7f, 1, 2, 3))
	for hash := range hashOIDs {
		id, err := newCertID(hash, parsed(t, leaf), parsed(t, &root.Cert))
		if err != nil {
			t.Fatal(err)
		}
		request := request{id: id, nonce: bytes.Repeat([]byte{0xab}, nonceSize)}
		der, err := request.marshal()
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(t.TempDir(), "request.der")
		if err := os.WriteFile(path, der, 0o600); err != nil {
			t.Fatal(err)
		}
		out, err := exec.Command("openssl", "ocsp", "-reqin", path, "-req_text").CombinedOutput()
		for _, want := range []string{"Serial Number: 7F010203", fmt.Sprintf("Issuer Key Hash: %X", id.issuerKey), "OCSP Nonce", strings.Repeat("AB", nonceSize)} {
			if err != nil || !strings.Contains(string(out), want) {
				t.Errorf("%v: no %q in\n%s%v", hash, want, out, err)
			}
		}
	}
}
