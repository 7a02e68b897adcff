package verify_test

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"pam_pkcs11/internal/testca"
	"pam_pkcs11/verify"
	"pam_pkcs11/verify/path"
)

func write(t *testing.T, path string, data []byte, mode os.FileMode) {
	t.Helper()
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil { // past the umask
		t.Fatal(err)
	}
}

// privateDir makes a directory that no umask leaves open to a group.
func privateDir(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

func caVerifier(t *testing.T, path string, strict bool) *verify.Verifier {
	t.Helper()
	v, err := verify.New(verify.Options{CADir: path, Policy: verify.Policy{CA: true, Signature: true}, StrictPermissions: strict})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestCADirForms(t *testing.T) {
	root := testca.NewRoot("Root")
	inter := root.Intermediate("Inter")
	leaf := inter.Leaf("Alice")
	bundle := slices.Concat([]byte("# our CAs\n"), root.PEM(), []byte("\nsome text\n"), inter.PEM(), testca.PEMCRL(root.CRL(testca.CRL{})))
	der := slices.Concat(root.DER, inter.DER, root.CRL(testca.CRL{}))
	tests := []struct {
		name  string
		files map[string][]byte
		path  string // below the directory; "" is the directory
	}{
		{"file in PEM", map[string][]byte{"ca.pem": bundle}, "ca.pem"},
		{"file in DER", map[string][]byte{"ca.der": der}, "ca.der"},
		{"plain directory, PEM and DER", map[string][]byte{"root.cer": root.DER, "inter": inter.PEM()}, ""},
		{"hash-link names, PEM", map[string][]byte{"0a1b2c3d.0": root.PEM(), "0a1b2c3d.1": inter.PEM(), "0a1b2c3d.r0": []byte("x")}, ""},
		{"hash-link names, DER", map[string][]byte{"0a1b2c3d.0": root.DER, "ffffffff.0": inter.DER}, ""},
		{"bundle in a directory", map[string][]byte{"all.pem": bundle, ".hidden": []byte("x")}, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := privateDir(t)
			for name, data := range tt.files {
				write(t, filepath.Join(dir, name), data, 0o644)
			}
			for _, prefix := range []string{"", "file://"} {
				v := caVerifier(t, prefix+filepath.Join(dir, tt.path), true)
				if result, err := v.Check(t.Context(), parsed(t, leaf), nil); err != nil || len(result.Chain) != 3 {
					t.Errorf("%v", err)
				}
				if len(v.Problems()) != 0 || len(v.Certificates()) != 2 {
					t.Errorf("problems %v, %d certificates", v.Problems(), len(v.Certificates()))
				}
			}
		})
	}
}

func TestHashLinks(t *testing.T) {
	root := testca.NewRoot("Root")
	dir := privateDir(t)
	write(t, filepath.Join(dir, "root.pem"), root.PEM(), 0o644)
	if err := os.Symlink("root.pem", filepath.Join(dir, "0a1b2c3d.0")); err != nil {
		t.Fatal(err)
	}
	v := caVerifier(t, dir, true)
	if len(v.Certificates()) != 1 || len(v.Problems()) != 0 {
		t.Errorf("%d certificates, problems %v", len(v.Certificates()), v.Problems())
	}
}

// TestCADirDamaged: what is wrong with one file is reported, and the others are used.
func TestCADirDamaged(t *testing.T) {
	root := testca.NewRoot("Root")
	leaf := parsed(t, root.Leaf("Alice"))
	dir := privateDir(t)
	good := root.PEM()
	write(t, filepath.Join(dir, "good.pem"), good, 0o644)
	damaged := map[string][]byte{
		"empty":         nil,
		"text":          []byte("hello\n"),
		"cut.der":       root.DER[:100],
		"cut.pem":       good[:200],
		"wrong.pem":     []byte("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"),
		"trailing.der":  append(slices.Clone(root.DER), 1, 2, 3),
		"long line.pem": []byte("-----BEGIN CERTIFICATE-----" + strings.Repeat("A", 100000)),
	}
	for name, data := range damaged {
		write(t, filepath.Join(dir, name), data, 0o644)
	}
	write(t, filepath.Join(dir, "everybody.pem"), testca.NewRoot("Mallory").PEM(), 0o666)
	if err := os.Mkdir(filepath.Join(dir, "directory"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("nowhere", filepath.Join(dir, "dangling")); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(filepath.Join(dir, "fifo"), 0o644); err != nil {
		t.Fatal(err)
	}
	v := caVerifier(t, dir, false)
	if _, err := v.Check(t.Context(), leaf, nil); err != nil {
		t.Error(err)
	}
	if len(v.Certificates()) != 1 {
		t.Errorf("%d certificates", len(v.Certificates()))
	}
	named := map[string]bool{}
	for _, p := range v.Problems() {
		named[filepath.Base(p.Path)] = true
	}
	for _, name := range []string{"empty", "text", "cut.der", "cut.pem", "wrong.pem", "trailing.der", "everybody.pem", "directory", "dangling", "fifo"} {
		if !named[name] {
			t.Errorf("%s is not reported: %v", name, v.Problems())
		}
	}
}

func TestCADirPermissions(t *testing.T) {
	root := testca.NewRoot("Root")
	dir := privateDir(t)
	write(t, filepath.Join(dir, "group.pem"), root.PEM(), 0o664)
	if v := caVerifier(t, dir, false); len(v.Certificates()) != 1 || len(v.Problems()) != 1 {
		t.Errorf("group-writable: %d certificates, problems %v", len(v.Certificates()), v.Problems())
	}
	if v := caVerifier(t, dir, true); len(v.Certificates()) != 0 || len(v.Problems()) != 1 {
		t.Errorf("group-writable, strict: %d certificates, problems %v", len(v.Certificates()), v.Problems())
	}
}

func TestCADirMissing(t *testing.T) {
	dir := privateDir(t)
	for _, path := range []string{"", filepath.Join(dir, "nowhere")} {
		if _, err := verify.New(verify.Options{CADir: path, Policy: verify.Policy{CA: true}}); err == nil || !strings.Contains(err.Error(), "ca_dir") {
			t.Errorf("%q: %v", path, err)
		}
	}
	_, err := caVerifier(t, dir, true).Check(t.Context(), parsed(t, testca.NewRoot("R").Leaf("a")), nil)
	if verify.ReasonOf(err) != verify.ReasonIssuerUnknown || !strings.Contains(err.Error(), "holds no certificate") {
		t.Errorf("empty directory: %v", err)
	}
}

func FuzzCAFile(f *testing.F) {
	root := testca.NewRoot("Root")
	f.Add(root.PEM())
	f.Add(slices.Concat(root.DER, root.CRL(testca.CRL{})))
	f.Add(trusted(&root.Cert, []string{testca.ClientAuth}, []string{testca.ServerAuth}))
	f.Add(pkcs7(&root.Cert))
	f.Add(pemBlock("CERTIFICATE", pkcs7(&root.Cert)))
	f.Add(inUTF16(binary.LittleEndian, root.PEM(), true))
	f.Add(append([]byte("\ufeff"), root.PEM()...))
	f.Fuzz(func(t *testing.T, data []byte) {
		s := path.NewStore()
		s.AddFile("f", data)
		if len(s.All) == 0 && len(s.Problems) == 0 {
			t.Error("nothing read and nothing said")
		}
	})
}
