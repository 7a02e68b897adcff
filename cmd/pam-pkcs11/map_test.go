//go:build cgo

package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"pam_pkcs11/internal/testca"
	"pam_pkcs11/pkcs11/pkcs11test"
)

// TestMapScripts runs the conversations of testdata/map: there is an authority, certificates of the account nobody
// and of others, configuration files, and cards. "nobody" is an account that every machine has.
func TestMapScripts(t *testing.T) {
	ca := testca.NewRoot("Example CA")
	nobody := ca.Leaf("nobody", testca.Serial(1, 0xaf), testca.SAN(testca.UPN("nobody@example.com"), testca.Email("nobody@example.com")))
	cards := map[string][]pkcs11test.Object{
		"good":    {{ID: []byte{1}, Cert: nobody.DER, Key: nobody.Key.Private}},
		"hidden":  {{ID: []byte{1}, Cert: nobody.DER, Key: nobody.Key.Private, Hidden: true}},
		"expired": {{ID: []byte{1}, Cert: ca.Leaf("nobody", testca.Expired()).DER}},
		"own":     {}, // whose PIN is changed
		"typed":   {}, // the same, by another script
		"empty":   {},
		"none":    nil,
	}
	stores := map[string]*pkcs11test.Store{} // SoftHSM fills them in this process, one after the other
	for name, objects := range cards {
		store, err := newStore(filepath.Join(t.TempDir(), name), name, objects)
		if err != nil {
			t.Fatal(err)
		}
		stores[name] = store
	}
	testscript.Run(t, testscript.Params{Dir: "testdata/map", RequireExplicitExec: true, Cmds: scriptCommands, Setup: func(env *testscript.Env) error {
		return furnish(env.WorkDir, ca, nobody, stores)
	}})
}

// furnish fills the directory of a script.
func furnish(dir string, ca *testca.CA, nobody *testca.Cert, stores map[string]*pkcs11test.Store) error {
	files := map[string][]byte{
		"cacerts/ca.pem": ca.PEM(), "nobody.pem": nobody.PEM(), "nobody.der": nobody.DER,
		"two.pem":      append(append([]byte("# two\n"), nobody.PEM()...), ca.Leaf("zoe").PEM()...),
		"root.pem":     ca.Leaf("root").PEM(),
		"escape.pem":   ca.Leaf("x", testca.Subject("CN=\x1b]0;x\a")).PEM(),
		"expired.pem":  ca.Leaf("nobody", testca.Expired()).PEM(),
		"other.pem":    testca.NewRoot("Another CA").Leaf("nobody").PEM(),
		"twice.pem":    ca.Leaf("nobody", testca.Serial(7), testca.AlsoExtension("2.5.29.15", true, nil)).PEM(),
		"usage.pem":    ca.Leaf("nobody", testca.WithExtension("2.5.29.15", true, []byte{4, 0})).PEM(),
		"policy.pem":   ca.Leaf("nobody", testca.Policies(false, "1.2.3", "1.2.3"), testca.SAN(testca.UPN("nobody@example.com"))).PEM(),
		"padded.der":   append(bytes.Clone(nobody.DER), make([]byte, 100)...),
		"broken.pem":   []byte("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"),
		"key.pem":      []byte("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"),
		"map":          []byte("nobody@example.com -> nobody\n"),
		"company":      []byte("nobody -> nobody\nnobody -> daemon\n"),
		"company.bad":  []byte("nobody -> nobody\nnobody->daemon\nnobody -> nobody\n"),
		"company.near": []byte("# people\nNobody\t-> nobody\n"),
		"near.conf": fmt.Appendf(nil, `pam_pkcs11 {
  use_mappers = cn;
  pkcs11_module default { module = /none; ca_dir = %s/cacerts; cert_policy = ca; }
  mapper cn { mapfile = "file://%s/company"; ignorecase = false; }
}
`, dir, dir),
		"company.conf": fmt.Appendf(nil, `pam_pkcs11 {
  use_mappers = cn, certmap;
  pkcs11_module default { module = /none; ca_dir = %s/cacerts; cert_policy = ca; }
  mapper cn { mapfile = "file://%s/company"; }
  mapper certmap { rule nobody { priority = 1; match = "<ISSUER>."; } rule x { match = "<ISSUER>."; map = "(nobody)"; } }
}
`, dir, dir),
	}
	for name, store := range stores {
		variables := `environment = "` + strings.Join(store.Environment(), `", "`) + `";`
		files[name+".conf"] = configuration(dir, store.Library, variables)
	}
	err := errors.Join(os.Chmod(dir, 0o755), os.Mkdir(filepath.Join(dir, "cacerts"), 0o755))
	for name, text := range files {
		err = errors.Join(err, os.WriteFile(filepath.Join(dir, name), text, 0o644))
	}
	return err
}

func newStore(dir, name string, objects []pkcs11test.Object) (*pkcs11test.Store, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	store, err := pkcs11test.NewStore(dir)
	if err != nil || objects == nil {
		return store, err
	}
	return store, store.Add(pkcs11test.Token{Label: name, PIN: "271828", Objects: objects})
}

func configuration(dir, library, variables string) []byte {
	return fmt.Appendf(nil, `pam_pkcs11 {
  use_pkcs11_module = softhsm;
  use_mappers = people, mail, null;
  pkcs11_module softhsm {
    module = %s;
    slot_description = "none";
    ca_dir = %s/cacerts;
    cert_policy = ca, signature;
    %s
  }
  mapper people { type = upn; mapfile = "file://%s/map"; }
}
`, library, dir, variables, dir)
}
