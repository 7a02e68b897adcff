package verify_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"pam_pkcs11/internal/certinfo"
	"pam_pkcs11/internal/testca"
	"pam_pkcs11/verify"
)

// onDisk writes a world's CA and CRLs to files and makes a verifier that reads them.
type onDisk struct {
	world
	ca, crls string
}

func newOnDisk(t testing.TB, w world, files map[string][]byte) onDisk {
	t.Helper()
	dir := t.TempDir()
	d := onDisk{w, filepath.Join(dir, "ca"), filepath.Join(dir, "crls")}
	for path, data := range files {
		writeFile(t, filepath.Join(d.crls, path), data)
	}
	writeFile(t, filepath.Join(d.ca, "root.pem"), w.root.PEM())
	if err := os.MkdirAll(d.crls, 0o755); err != nil {
		t.Fatal(err)
	}
	return d
}

func writeFile(t testing.TB, path string, data []byte) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
}

func (d onDisk) verifier(t testing.TB, o verify.Options) *verify.Verifier {
	t.Helper()
	o.CADir = d.ca
	if o.CRLDir == "" {
		o.CRLDir = d.crls
	}
	o.Policy.CA = true
	if o.Policy.CRL == "" {
		o.Policy.CRL = "offline"
	}
	v, err := verify.New(o)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func (d onDisk) check(t testing.TB, v *verify.Verifier) error {
	t.Helper()
	_, err := v.Check(t.Context(), parsed(t, d.leaf), []*certinfo.Certificate{parsed(t, &d.inter.Cert)})
	return err
}

func TestCRLDir(t *testing.T) {
	w := newWorld()
	many := testca.ManyRevoked(20000)
	rootCRL := w.root.CRL(testca.CRL{Number: 1})
	good := w.inter.CRL(testca.CRL{Number: 2, RawEntries: many})
	bad := w.inter.CRL(testca.CRL{Number: 2, Entries: revoked(w.leaf, 1), RawEntries: many})
	older := w.inter.CRL(testca.CRL{Number: 1, ThisUpdate: time.Now().Add(-3 * time.Hour)})
	stranger := testca.NewRoot("Stranger").CRL(testca.CRL{})
	text := []byte("Certificate Revocation List (CRL):\n    Version 2 (0x1)\n")
	ragged := bytes.Replace(testca.PEMLines(good, 64, "\n"), []byte("\n"), []byte("\n\n  "), 40)
	type files = map[string][]byte
	tests := []struct {
		name  string
		files files
		path  string // of crl_dir below the directory
		want  verify.Reason
		text  string // in the error
	}{
		{name: "plain directory, DER", files: files{"root.crl": rootCRL, "inter.crl": good}},
		{name: "plain directory, DER, revoked", files: files{"root.crl": rootCRL, "inter.crl": bad}, want: verify.ReasonRevoked},
		{name: "hash links, PEM", files: files{"11223344.r0": testca.PEMCRL(rootCRL), "55667788.r0": testca.PEMCRL(good)}},
		{name: "hash links, PEM, revoked", files: files{"11223344.r0": testca.PEMCRL(rootCRL), "55667788.r0": testca.PEMCRL(bad)}, want: verify.ReasonRevoked},
		{name: "newest of several", files: files{"r.r0": rootCRL, "i.r0": older, "i.r1": bad}, want: verify.ReasonRevoked},
		{name: "one file, PEM", files: files{"all.pem": append(testca.PEMCRL(rootCRL), testca.PEMCRL(good)...)}, path: "all.pem"},
		{
			name:  "one file, PEM, revoked",
			files: files{"all.pem": append(testca.PEMCRL(rootCRL), testca.PEMCRL(bad)...)},
			path:  "all.pem", want: verify.ReasonRevoked,
		},
		{
			name: "one file, DER", files: files{"all.crl": append(bytes.Clone(rootCRL), bad...)},
			path: "all.crl", want: verify.ReasonRevoked,
		},
		{name: "text before and between", files: files{"x": append(append(append(append(text, testca.PEMCRL(rootCRL)...), text...), testca.PEMCRL(bad)...), text...)}, want: verify.ReasonRevoked},
		{name: "carriage returns", files: files{"r": testca.PEMLines(rootCRL, 64, "\r\n"), "i": testca.PEMLines(bad, 64, "\r\n")}, want: verify.ReasonRevoked},
		{name: "lines of 76", files: files{"r": testca.PEMLines(rootCRL, 76, "\n"), "i": testca.PEMLines(bad, 76, "\n")}, want: verify.ReasonRevoked},
		{name: "lines of 65", files: files{"r": testca.PEMLines(rootCRL, 65, "\n"), "i": testca.PEMLines(bad, 65, "\n")}, want: verify.ReasonRevoked},
		{name: "one line", files: files{"r": testca.PEMLines(rootCRL, 1<<30, "\n"), "i": testca.PEMLines(bad, 1<<30, "\n")}, want: verify.ReasonRevoked},
		{name: "ragged lines", files: files{"r": rootCRL, "i": ragged}},
		{name: "certificates beside them", files: files{"r.crl": rootCRL, "i.crl": good, "ca.pem": w.root.PEM(), "ca.der": w.inter.DER}},
		{name: "junk beside them", files: files{"r.crl": rootCRL, "i.crl": good, "README": []byte("hello"), "empty": nil, "z": []byte("0")}},
		{name: "none", want: verify.ReasonRevocationUnknown, text: "holds none of"},
		{
			name: "only another's", files: files{"x": stranger},
			want: verify.ReasonRevocationUnknown, text: "holds none of",
		},
		{
			name: "cut", files: files{"r": rootCRL, "i.crl": good[:len(good)-9]},
			want: verify.ReasonRevocationUnknown, text: "i.crl: ends in the middle",
		},
		{
			name: "PEM cut", files: files{"r": rootCRL, "i.pem": testca.PEMCRL(good)[:len(good)]},
			want: verify.ReasonRevocationUnknown, text: "i.pem: ends in the middle",
		},
		{
			name:  "PEM with a wrong character",
			files: files{"r": rootCRL, "i.pem": bytes.Replace(testca.PEMCRL(good), []byte("A"), []byte("*"), 9)},
			want:  verify.ReasonRevocationUnknown, text: "base64",
		},
		{
			name:  "an entry spoiled",
			files: files{"r": rootCRL, "i.crl": bytes.Replace(good, []byte("250102030405Z"), []byte("251302030405Z"), 1)},
			want:  verify.ReasonRevocationUnknown, text: "not a date",
		},
		{
			name: "not there", path: "missing", want: verify.ReasonRevocationUnknown,
			text: "no such file",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			d := newOnDisk(t, w, tt.files)
			o := verify.Options{CRLDir: filepath.Join(d.crls, tt.path)}
			err := d.check(t, d.verifier(t, o))
			if verify.ReasonOf(err) != tt.want || (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.text) {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestCRLDirIsSafe(t *testing.T) {
	w := newWorld()
	d := newOnDisk(t, w, map[string][]byte{"r": w.root.CRL(testca.CRL{}), "i": w.inter.CRL(testca.CRL{})})
	if err := os.Chmod(filepath.Join(d.crls, "i"), 0o666); err != nil {
		t.Fatal(err)
	}
	if err := d.check(t, d.verifier(t, verify.Options{})); verify.ReasonOf(err) != verify.ReasonRevocationUnknown || !strings.Contains(err.Error(), "written by everybody") {
		t.Errorf("got %v", err)
	}
	if err := os.Chmod(filepath.Join(d.crls, "i"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := d.check(t, d.verifier(t, verify.Options{MaxCRLSize: 100})); verify.ReasonOf(err) != verify.ReasonRevocationUnknown || !strings.Contains(err.Error(), "longer than 100") {
		t.Errorf("got %v", err)
	}
}
