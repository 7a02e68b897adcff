package verify_test

import (
	"bytes"
	"encoding/binary"
	"encoding/pem"
	"log/slog"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode/utf16"

	"pam_pkcs11/internal/testca"
	"pam_pkcs11/verify"
	"pam_pkcs11/verify/path"
)

func pemBlock(label string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: label, Bytes: der})
}

// trusted writes a TRUSTED CERTIFICATE with the settings; nil for a list that is not there.
func trusted(c *testca.Cert, trust, reject []string) []byte {
	var parts [][]byte
	list := func(tag byte, purposes []string) {
		if purposes == nil {
			return
		}
		var oids [][]byte
		for _, p := range purposes {
			oids = append(oids, testca.OID(p))
		}
		parts = append(parts, testca.TLV(tag, oids...))
	}
	list(0x30, trust)
	list(0xa0, reject)
	return pemBlock("TRUSTED CERTIFICATE", slices.Concat(c.DER, testca.Sequence(append(parts, testca.TLV(12, []byte("alias")))...)))
}

// pkcs7 writes certificates as Windows and OpenSSL export them.
func pkcs7(certs ...*testca.Cert) []byte { return pkcs7With(testca.TLV(0x31), certs...) }

func pkcs7With(signers []byte, certs ...*testca.Cert) []byte {
	var ders [][]byte
	for _, c := range certs {
		ders = append(ders, c.DER)
	}
	signed := testca.Sequence(testca.Number(1), testca.TLV(0x31), testca.Sequence(testca.OID("1.2.840.113549.1.7.1")),
		testca.TLV(0xa0, ders...), signers)
	return testca.Sequence(testca.OID("1.2.840.113549.1.7.2"), testca.TLV(0xa0, signed))
}

func inUTF16(order binary.ByteOrder, text []byte, mark bool) []byte {
	var out []byte
	if mark {
		text = append([]byte("\ufeff"), text...)
	}
	for _, unit := range utf16.Encode([]rune(string(text))) {
		out = order.(binary.AppendByteOrder).AppendUint16(out, unit)
	}
	return out
}

// TestCAFormats: every form in which an authority's certificate is handed out is read, and a file that earlier releases
// did not read is named with its certificates.
// Names of forms, in findings.
const (
	trustedForm = "a TRUSTED CERTIFICATE of OpenSSL"
	pkcs7Form   = "PKCS#7"
	markForm    = "text with a byte order mark"
	utf16Form   = "text in UTF-16"
)

func TestCAFormats(t *testing.T) {
	root := testca.NewRoot("Root")
	inter := root.Intermediate("Inter")
	leaf := inter.Leaf("Alice")
	plain := slices.Concat(root.PEM(), inter.PEM())
	odd := testca.NewRoot("Root", testca.WithKey(root.Key), testca.WithExtension("2.5.29.18", false, []byte("malformed")))
	windows := bytes.ReplaceAll(plain, []byte("\n"), []byte("\r\n"))
	tests := []struct {
		name string
		data []byte
		form string // named as not read before; "" for none
		new  int    // certificates that are named
	}{
		{"PEM", plain, "", 0},
		{"TRUSTED CERTIFICATE", slices.Concat(trusted(&root.Cert, nil, nil), trusted(&inter.Cert, nil, nil)), trustedForm, 2},
		{"TRUSTED CERTIFICATE without settings", slices.Concat(pemBlock("TRUSTED CERTIFICATE", root.DER), inter.PEM()), trustedForm, 1},
		{"TRUSTED CERTIFICATE for clientAuth", slices.Concat(trusted(&root.Cert, []string{testca.ClientAuth}, []string{testca.EmailProtect}), inter.PEM()), trustedForm, 1},
		{"TRUSTED CERTIFICATE for any purpose", slices.Concat(trusted(&root.Cert, []string{testca.AnyExtKeyUsage}, nil), inter.PEM()), trustedForm, 1},
		{"PKCS#7 in DER", pkcs7(&root.Cert, &inter.Cert), pkcs7Form, 2},
		{"PKCS#7 in PEM", pemBlock("PKCS7", pkcs7(&root.Cert, &inter.Cert)), pkcs7Form, 2},
		{"PKCS#7 as CMS", pemBlock("CMS", pkcs7(&root.Cert, &inter.Cert)), pkcs7Form, 2},
		{"PKCS#7 labelled CERTIFICATE", pemBlock("CERTIFICATE", pkcs7(&root.Cert, &inter.Cert)), pkcs7Form, 2},
		{"PKCS#7 behind a certificate", slices.Concat(root.DER, pkcs7(&inter.Cert)), pkcs7Form, 1},
		{"a malformed extension", slices.Concat(odd.PEM(), inter.PEM()), "issuerAltName cannot be used", 1},
		{"byte order mark", append([]byte("\ufeff"), plain...), markForm, 1},
		{"byte order mark, CR LF", append([]byte("\ufeff"), windows...), markForm, 1},
		{"byte order mark between two files", slices.Concat(root.PEM(), []byte("\ufeff"), inter.PEM()), markForm, 1},
		{"UTF-16, little end first", inUTF16(binary.LittleEndian, windows, true), utf16Form, 2},
		{"UTF-16, big end first", inUTF16(binary.BigEndian, windows, true), utf16Form, 2},
		{"UTF-16 without a mark", inUTF16(binary.LittleEndian, plain, false), utf16Form, 2},
		{"UTF-16, an octet too many", append(inUTF16(binary.LittleEndian, plain, true), 0), utf16Form, 2},
		{"UTF-16, PKCS#7 labelled CERTIFICATE", inUTF16(binary.LittleEndian, pemBlock("CERTIFICATE", pkcs7(&root.Cert, &inter.Cert)), true), pkcs7Form, 2},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := privateDir(t)
			write(t, filepath.Join(dir, "ca"), tt.data, 0o644)
			v := caVerifier(t, dir, true)
			if _, err := v.Check(t.Context(), parsed(t, leaf), nil); err != nil {
				t.Errorf("%v, problems %v", err, v.Problems())
			}

			found := v.Findings()
			if len(v.Problems()) != 0 || len(found) != tt.new {
				t.Errorf("problems %v, findings %v", v.Problems(), found)
			}
			for _, f := range found {
				anchor := strings.Contains(f.Text, "CN=Root")
				if f.Path != filepath.Join(dir, "ca") || !strings.Contains(f.Text, tt.form) || strings.Contains(f.Text, "is an anchor") != anchor {
					t.Errorf("%+v", f)
				}
			}
		})
	}
}

// TestNewFormIsLogged: a login's log has one line for a file that earlier releases did not read, with its anchors.
func TestNewFormIsLogged(t *testing.T) {
	root := testca.NewRoot("Root")
	dir := privateDir(t)
	write(t, filepath.Join(dir, "ca.p7b"), pkcs7(&root.Cert, &root.Intermediate("Inter").Cert), 0o644)
	var log bytes.Buffer
	if _, err := verify.New(verify.Options{CADir: dir, Policy: verify.Policy{CA: true}, Logger: slog.New(slog.NewTextHandler(&log, nil))}); err != nil {
		t.Fatal(err)
	}
	if got := log.String(); strings.Count(got, "\n") != 1 || !strings.Contains(got, "ca.p7b certificates=2") ||
		!strings.Contains(got, `anchors="CN=Root,O=Example,C=IT"`) {
		t.Error(got)
	}
}

// TestTrustSettings: what a file says of the purposes of its certificate counts, whatever other files hold.
func TestTrustSettings(t *testing.T) {
	root := testca.NewRoot("Root")
	leaf := root.Leaf("Alice")
	malformed := pemBlock("TRUSTED CERTIFICATE", slices.Concat(root.DER, testca.Sequence(testca.TLV(0xa0, testca.TLV(5)))))
	behind := pemBlock("TRUSTED CERTIFICATE", slices.Concat(root.DER, testca.Sequence(), []byte{0}))
	required := verify.EKU{Required: oids(t, "1.2.3")}
	tests := []struct {
		name    string
		data    []byte
		eku     verify.EKU
		problem string
		want    verify.Reason
	}{
		{
			name: "rejected for clientAuth",
			data: trusted(&root.Cert, nil, []string{testca.ClientAuth}), eku: verify.EKU{},
			problem: "is rejected for logins", want: verify.ReasonIssuerUnknown,
		},
		{
			name: "rejected for smartcardLogon",
			data: trusted(&root.Cert, nil, []string{testca.SmartcardLogon}), eku: verify.EKU{},
			problem: "is rejected for logins", want: verify.ReasonIssuerUnknown,
		},
		{
			name: "rejected for any purpose",
			data: trusted(&root.Cert, nil, []string{testca.AnyExtKeyUsage}), eku: verify.EKU{},
			problem: "is rejected for logins", want: verify.ReasonIssuerUnknown,
		},
		{
			name: "trusted and rejected for clientAuth",
			data: trusted(&root.Cert, []string{testca.ClientAuth}, []string{testca.ClientAuth}),
			eku:  verify.EKU{}, problem: "is rejected for logins", want: verify.ReasonIssuerUnknown,
		},
		{
			name: "rejected for what eku requires",
			data: trusted(&root.Cert, nil, []string{"1.2.3"}), eku: required,
			problem: "is rejected for logins", want: verify.ReasonEKU,
		},
		{
			name: "rejected, eku = ignore",
			data: trusted(&root.Cert, nil, []string{testca.ClientAuth}),
			eku:  verify.EKU{Ignore: true}, problem: "is rejected for logins",
			want: verify.ReasonIssuerUnknown,
		},
		{
			name: "trusted for serverAuth",
			data: trusted(&root.Cert, []string{testca.ServerAuth}, nil), eku: verify.EKU{},
			problem: "for other purposes", want: verify.ReasonIssuerUnknown,
		},
		{
			name: "trusted for nothing", data: trusted(&root.Cert, []string{}, nil),
			eku: verify.EKU{}, problem: "for other purposes", want: verify.ReasonIssuerUnknown,
		},
		{
			name: "not trusted for what eku requires",
			data: trusted(&root.Cert, []string{testca.ClientAuth}, nil), eku: required,
			problem: "for other purposes", want: verify.ReasonEKU,
		},
		{
			name: "settings malformed", data: malformed, eku: verify.EKU{},
			problem: "settings cannot be read", want: verify.ReasonIssuerUnknown,
		},
		{
			name: "octets behind the settings", data: behind, eku: verify.EKU{},
			problem: "settings cannot be read", want: verify.ReasonIssuerUnknown,
		},
		{
			name: "certificate malformed", data: pemBlock("TRUSTED CERTIFICATE", []byte{1, 2}),
			eku: verify.EKU{}, problem: "not a DER sequence", want: verify.ReasonIssuerUnknown,
		},
		{name: "rejected for serverAuth", data: trusted(&root.Cert, nil, []string{testca.ServerAuth}), eku: verify.EKU{}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := privateDir(t)
			write(t, filepath.Join(dir, "ca"), tt.data, 0o644)
			v, err := verify.New(verify.Options{CADir: dir, Policy: verify.Policy{CA: true}, EKU: tt.eku})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := v.Check(t.Context(), parsed(t, leaf), nil); verify.ReasonOf(err) != tt.want {
				t.Errorf("got %v", err)
			}
			if p := v.Problems(); len(p) != min(len(tt.problem), 1) || len(p) == 1 && !strings.Contains(p[0].Text, tt.problem) {
				t.Errorf("problems %v", p)
			}
		})
	}

	for _, order := range [][2]string{{"1", "2"}, {"2", "1"}} {
		dir := privateDir(t)
		write(t, filepath.Join(dir, order[0]), root.PEM(), 0o644)
		write(t, filepath.Join(dir, order[1]), trusted(&root.Cert, nil, []string{testca.ClientAuth}), 0o644)
		if _, err := caVerifier(t, dir, true).Check(t.Context(), parsed(t, leaf), nil); verify.ReasonOf(err) != verify.ReasonRejected {
			t.Errorf("rejected by another file: %v", err)
		}
	}
}

// TestRejectedFromCard: a certificate that ca_dir rejects does not come back with the card.
func TestRejectedFromCard(t *testing.T) {
	root := testca.NewRoot("Root")
	inter := root.Intermediate("Inter")
	dir := privateDir(t)
	write(t, filepath.Join(dir, "root"), root.PEM(), 0o644)
	write(t, filepath.Join(dir, "inter"), trusted(&inter.Cert, nil, []string{testca.ClientAuth}), 0o644)
	_, err := caVerifier(t, dir, true).Check(t.Context(), parsed(t, inter.Leaf("Alice")), parsedAll(t, &inter.Cert))
	if verify.ReasonOf(err) != verify.ReasonRejected || !strings.Contains(err.Error(), filepath.Join(dir, "inter")) {
		t.Errorf("got %v", err)
	}
}

// TestNothingUsed: a file of which nothing is used is one problem, which says what is in it.
func TestNothingUsed(t *testing.T) {
	root := testca.NewRoot("Root")
	crl := root.CRL(testca.CRL{})
	tests := []struct {
		name string
		data []byte
		want string
	}{
		{"a key", pemBlock("PRIVATE KEY", []byte{1}), "no certificate in it, but a PEM block PRIVATE KEY"},
		{"a CRL", crl, "no certificate in it, but a CRL"},
		{"a CRL in PEM", testca.PEMCRL(crl), "no certificate in it, but a PEM block X509 CRL"},
		{"text in UTF-16", inUTF16(binary.LittleEndian, []byte("hello"), true), "no certificate in it"},
		{"PKCS#7 without certificates", pkcs7(), "PKCS#7: no certificate in it"},
		{"PKCS#7 that is signed", pkcs7With(testca.TLV(0x31, testca.Sequence()), &root.Cert), "PKCS#7: is a signed message"},
		{"PKCS#7 cut in PEM", pemBlock("PKCS7", pkcs7(&root.Cert)[:100]), "PKCS#7: malformed"},
		{"PKCS#7 with octets behind", pemBlock("PKCS7", append(pkcs7(&root.Cert), 0)), "PKCS#7: malformed"},
		{"PKCS#7 of another kind", pemBlock("PKCS7", testca.Sequence(testca.OID("1.2.840.113549.1.7.1"))), "PKCS#7: holds no certificates"},
		{"PKCS#12", testca.Sequence(testca.Number(3), testca.Sequence()), "certificate: "},
		{"nothing", nil, "no certificate in it"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := privateDir(t)
			write(t, filepath.Join(dir, "file"), tt.data, 0o644)
			v := caVerifier(t, dir, true)
			if p := v.Problems(); len(p) != 1 || !strings.Contains(p[0].Text, tt.want) || len(v.Certificates()) != 0 {
				t.Errorf("problems %v, %d certificates", p, len(v.Certificates()))
			}
		})
	}
}

// TestListsBesideAuthorities: where crl_dir is ca_dir, a file of CRLs is not one of which nothing is used.
func TestListsBesideAuthorities(t *testing.T) {
	root := testca.NewRoot("Root")
	dir := privateDir(t)
	write(t, filepath.Join(dir, "root.pem"), root.PEM(), 0o644)
	write(t, filepath.Join(dir, "root.crl"), root.CRL(testca.CRL{}), 0o644)
	v, err := verify.New(verify.Options{CADir: dir, CRLDir: dir, Policy: verify.Policy{CA: true}})
	if err != nil || len(v.Problems()) != 0 {
		t.Errorf("%v, %v", v.Problems(), err)
	}
}

// TestDamagedBlock: a block that is damaged among good ones is said.
func TestDamagedBlock(t *testing.T) {
	root := testca.NewRoot("Root")
	dir := privateDir(t)
	write(t, filepath.Join(dir, "both.pem"), slices.Concat(root.PEM(), root.PEM()[:200], []byte("\n")), 0o644)
	v := caVerifier(t, dir, true)
	if p := v.Problems(); len(p) != 1 || !strings.Contains(p[0].Text, "1 of 2 PEM blocks") || len(v.Certificates()) != 1 {
		t.Errorf("problems %v, %d certificates", p, len(v.Certificates()))
	}
}

// TestOpenSSLForms: what OpenSSL writes is read as it is meant.
func TestOpenSSLForms(t *testing.T) {
	if _, err := exec.LookPath("openssl"); err != nil {
		t.Fatalf("the Debian package openssl is missing: %v", err)
	}
	root := testca.NewRoot("Root")
	run := func(args ...string) []byte {
		t.Helper()
		command := exec.Command("openssl", args...)
		command.Stdin = bytes.NewReader(root.PEM())
		out, err := command.Output()
		if err != nil {
			t.Fatalf("openssl %v: %v", args, err)
		}
		return out
	}
	for name, tt := range map[string]struct {
		data []byte
		want int
	}{
		"-trustout":              {run("x509", "-trustout"), 1},
		"-addtrust clientAuth":   {run("x509", "-addtrust", "clientAuth", "-setalias", "our CA"), 1},
		"-addtrust serverAuth":   {run("x509", "-addtrust", "serverAuth"), 0},
		"-addreject clientAuth":  {run("x509", "-addtrust", "clientAuth", "-addreject", "clientAuth"), 0},
		"-addreject emailProtec": {run("x509", "-addreject", "emailProtection"), 1},
		"crl2pkcs7":              {run("crl2pkcs7", "-nocrl", "-certfile", "/dev/stdin"), 1},
		"crl2pkcs7 in DER":       {run("crl2pkcs7", "-nocrl", "-certfile", "/dev/stdin", "-outform", "DER"), 1},
	} {
		s := path.NewStore()
		s.AddFile(name, tt.data)
		if len(s.All) != tt.want || len(s.Problems) != 1-tt.want {
			t.Errorf("%s: %d certificates, problems %v", name, len(s.All), s.Problems)
		}
	}
}
