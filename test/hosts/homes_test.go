//go:build hosts && linux && cgo

package hosts

import (
	"encoding/pem"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/crypto/ssh"

	"pam_pkcs11/internal/testca"
)

// TestFilesInHomes: alice's certificate and key stand in files of her own, which nobody else may read; the worker
// reads them with the few capabilities that it has, as alice.
func TestFilesInHomes(t *testing.T) {
	key := testca.RSA(2048, "homes")
	cert := stage.CA.Leaf("somebody", testca.WithKey(key))
	signer, err := ssh.NewSignerFromKey(key.Private)
	if err != nil {
		t.Fatal(err)
	}
	line := ssh.MarshalAuthorizedKey(signer.PublicKey())
	list := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.DER})
	card, err := stage.NewCard("homes", "homes", pin, cert, key)
	if err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		mapper, file string
		text         []byte
		owner        int
		enters       bool
	}{
		"opensc":                   {"opensc", ".eid/authorized_certificates", list, aliceID, true},
		"openssh":                  {"openssh", ".ssh/authorized_keys", line, aliceID, true},
		"openssh, a file of bob's": {"openssh", ".ssh/authorized_keys", line, bobID, false},
		"opensc, nothing there":    {"opensc", ".eid/other", list, aliceID, false},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(stage.Dir, "home-alice", tt.file)
			dir := filepath.Dir(path)
			err := errors.Join(os.Mkdir(dir, 0o700), os.Chown(dir, aliceID, aliceID), os.WriteFile(path, tt.text, 0o600), os.Chown(path, tt.owner, tt.owner))
			if err != nil {
				t.Fatal(err)
			}
			defer os.RemoveAll(dir)
			withCard(t, card, "use_mappers = "+tt.mapper+";")
			p := onTerminal(t, bobID, nil, "/bin/su", "alice", "-c", "id -un")
			if tt.enters {
				p.ExpectOne(prompts...)
				p.Enter(pin)
				p.Expect("alice")
			} else {
				p.Expect("Error 2358")
			}
			if code := p.Wait(); (code == 0) != tt.enters {
				t.Errorf("su ended with %d:\n%s", code, p.Text())
			}
		})
	}
}
