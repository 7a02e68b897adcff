package verify

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"pam_pkcs11/internal/certinfo"
	"pam_pkcs11/internal/testca"
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

func (d onDisk) verifier(t testing.TB, o Options) *Verifier {
	t.Helper()
	o.CADir = d.ca
	if o.CRLDir == "" {
		o.CRLDir = d.crls
	}
	o.Policy.CA = true
	if o.Policy.CRL == "" {
		o.Policy.CRL = "offline"
	}
	v, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func (d onDisk) check(t testing.TB, v *Verifier) error {
	t.Helper()
	_, err := v.Check(t.Context(), parsed(t, d.leaf), []*certinfo.Certificate{parsed(t, &d.inter.Cert)})
	return err
}

// pemLines is PEM with lines of another length.
func pemLines(der []byte, width int, newline string) []byte {
	text := base64.StdEncoding.EncodeToString(der)
	var out bytes.Buffer
	out.WriteString(pemCRL + newline)
	for len(text) > 0 {
		n := min(width, len(text))
		out.WriteString(text[:n] + newline)
		text = text[n:]
	}
	out.WriteString("-----END X509 CRL-----" + newline)
	return out.Bytes()
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
	ragged := bytes.Replace(pemLines(good, 64, "\n"), []byte("\n"), []byte("\n\n  "), 40)
	type files = map[string][]byte
	tests := []struct {
		name  string
		files files
		path  string // of crl_dir below the directory
		want  Reason
		text  string // in the error
	}{
		{"plain directory, DER", files{"root.crl": rootCRL, "inter.crl": good}, "", "", ""},
		{"plain directory, DER, revoked", files{"root.crl": rootCRL, "inter.crl": bad}, "", ReasonRevoked, ""},
		{"hash links, PEM", files{"11223344.r0": testca.PEMCRL(rootCRL), "55667788.r0": testca.PEMCRL(good)}, "", "", ""},
		{"hash links, PEM, revoked", files{"11223344.r0": testca.PEMCRL(rootCRL), "55667788.r0": testca.PEMCRL(bad)}, "", ReasonRevoked, ""},
		{"newest of several", files{"r.r0": rootCRL, "i.r0": older, "i.r1": bad}, "", ReasonRevoked, ""},
		{"one file, PEM", files{"all.pem": append(testca.PEMCRL(rootCRL), testca.PEMCRL(good)...)}, "all.pem", "", ""},
		{"one file, PEM, revoked", files{"all.pem": append(testca.PEMCRL(rootCRL), testca.PEMCRL(bad)...)}, "all.pem", ReasonRevoked, ""},
		{"one file, DER", files{"all.crl": append(bytes.Clone(rootCRL), bad...)}, "all.crl", ReasonRevoked, ""},
		{"text before and between", files{"x": append(append(append(append(text, testca.PEMCRL(rootCRL)...), text...), testca.PEMCRL(bad)...), text...)}, "", ReasonRevoked, ""},
		{"carriage returns", files{"r": pemLines(rootCRL, 64, "\r\n"), "i": pemLines(bad, 64, "\r\n")}, "", ReasonRevoked, ""},
		{"lines of 76", files{"r": pemLines(rootCRL, 76, "\n"), "i": pemLines(bad, 76, "\n")}, "", ReasonRevoked, ""},
		{"lines of 65", files{"r": pemLines(rootCRL, 65, "\n"), "i": pemLines(bad, 65, "\n")}, "", ReasonRevoked, ""},
		{"one line", files{"r": pemLines(rootCRL, 1<<30, "\n"), "i": pemLines(bad, 1<<30, "\n")}, "", ReasonRevoked, ""},
		{"ragged lines", files{"r": rootCRL, "i": ragged}, "", "", ""},
		{"certificates beside them", files{"r.crl": rootCRL, "i.crl": good, "ca.pem": w.root.PEM(), "ca.der": w.inter.DER}, "", "", ""},
		{"junk beside them", files{"r.crl": rootCRL, "i.crl": good, "README": []byte("hello"), "empty": nil, "z": []byte("0")}, "", "", ""},
		{"none", nil, "", ReasonRevocationUnknown, "holds none of"},
		{"only another's", files{"x": stranger}, "", ReasonRevocationUnknown, "holds none of"},
		{"cut", files{"r": rootCRL, "i.crl": good[:len(good)-9]}, "", ReasonRevocationUnknown, "i.crl: ends in the middle"},
		{"PEM cut", files{"r": rootCRL, "i.pem": testca.PEMCRL(good)[:len(good)]}, "", ReasonRevocationUnknown, "i.pem: ends in the middle"},
		{"PEM with a wrong character", files{"r": rootCRL, "i.pem": bytes.Replace(testca.PEMCRL(good), []byte("A"), []byte("*"), 9)}, "", ReasonRevocationUnknown, "base64"},
		{"an entry spoiled", files{"r": rootCRL, "i.crl": bytes.Replace(good, []byte("250102030405Z"), []byte("251302030405Z"), 1)}, "", ReasonRevocationUnknown, "not a date"},
		{"not there", nil, "missing", ReasonRevocationUnknown, "no such file"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			d := newOnDisk(t, w, tt.files)
			o := Options{CRLDir: filepath.Join(d.crls, tt.path)}
			err := d.check(t, d.verifier(t, o))
			if ReasonOf(err) != tt.want || (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.text) {
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
	if err := d.check(t, d.verifier(t, Options{})); ReasonOf(err) != ReasonRevocationUnknown || !strings.Contains(err.Error(), "written by everybody") {
		t.Errorf("got %v", err)
	}
	if err := os.Chmod(filepath.Join(d.crls, "i"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := d.check(t, d.verifier(t, Options{MaxCRLSize: 100})); ReasonOf(err) != ReasonRevocationUnknown || !strings.Contains(err.Error(), "longer than 100") {
		t.Errorf("got %v", err)
	}
}

// A CRL is read once, however many certificates ask, and one that was not announced is looked for too.
func TestCRLIsReadOnce(t *testing.T) {
	w := newWorld()
	late := w.inter.Leaf("Late")
	der := w.inter.CRL(testca.CRL{Entries: revoked(late, 1), RawEntries: testca.ManyRevoked(100)})
	opened := 0
	c := &crlStream{wanted: &wanted{}, open: func() (io.ReadCloser, int64, error) {
		opened++
		return io.NopCloser(bytes.NewReader(der)), int64(len(der)), nil
	}}
	leaf := parsed(t, w.leaf)
	c.wanted.add(leaf, parsed(t, &w.inter.Cert))
	for range 3 {
		if _, found, err := c.lookup(leaf.Issuer, leaf.SerialBytes); found || err != nil {
			t.Fatal(found, err)
		}
	}
	if opened != 1 {
		t.Errorf("read %d times", opened)
	}
	if e, found, err := c.lookup(leaf.Issuer, parsed(t, late).SerialBytes); !found || err != nil || e.reason != 1 {
		t.Fatal(e, found, err)
	}
	if opened != 2 {
		t.Errorf("read %d times", opened)
	}
}

// The pass gives the same however the octets come, and its answers are those of every entry.
func TestScanInPieces(t *testing.T) {
	const n = 30000
	der := testca.NewRoot("Root").CRL(testca.CRL{Number: 9, RawEntries: testca.ManyRevoked(n)})
	var asked *serialSet
	for _, i := range []int{0, 1, 2, 777, n - 1} {
		serial := testca.Lottery(i)
		asked = asked.with(serial[:])
	}
	absent := testca.Lottery(n)
	asked = asked.with(absent[:])
	whole, err := scanBytes(der, asked, nil)
	if err != nil {
		t.Fatal(err)
	}
	if whole.count != n || len(whole.found) != 5 || len(whole.digest) != 32 {
		t.Errorf("%d entries, %d found", whole.count, len(whole.found))
	}
	for name, in := range map[string]io.Reader{
		"one by one": iotest.OneByteReader(bytes.NewReader(der)), "halves": iotest.HalfReader(bytes.NewReader(der)),
		"error with the data": iotest.DataErrReader(bytes.NewReader(der)), "PEM": newPEMReader(bytes.NewReader(pemLines(der, 70, "\n")[len(pemCRL)+1:len(pemLines(der, 70, "\n"))-23]), -1),
	} {
		for _, size := range []int64{-1, int64(len(der))} {
			if name != "one by one" && size >= 0 {
				continue
			}
			got, err := scanCRL(in, size, asked, nil)
			if err != nil {
				t.Errorf("%s: %v", name, err)
				break
			}
			if fmt.Sprint(got.found) != fmt.Sprint(whole.found) || !bytes.Equal(got.digest, whole.digest) || !bytes.Equal(got.signature, whole.signature) {
				t.Errorf("%s differs", name)
			}
			break
		}
	}
	if _, err := scanCRL(io.MultiReader(bytes.NewReader(der), strings.NewReader("x")), -1, nil, nil); err == nil || !strings.Contains(err.Error(), "trailing") {
		t.Errorf("trailing data: %v", err)
	}
	for _, cut := range []int{0, 1, 20, 300, 5000, windowChunk, windowChunk + 1, len(der) - 1} {
		if _, err := scanCRL(bytes.NewReader(der[:cut]), -1, nil, nil); err == nil {
			t.Errorf("cut at %d: no error", cut)
		}
		if _, err := scanCRL(io.MultiReader(bytes.NewReader(der[:cut]), iotest.ErrReader(io.ErrNoProgress)), -1, nil, nil); err == nil {
			t.Errorf("failed at %d: no error", cut)
		}
	}
}

// FuzzPEM: what is decoded is what the standard library decodes, a file of any octets is searched without a fault, and a
// file that is one CRL says the same when it comes from a server.
func FuzzPEM(f *testing.F) {
	for _, seed := range pemSeeds() {
		f.Add(seed, uint8(6))
		f.Add(seed, uint8(251))
	}
	base64Pairs() // once, before any run
	f.Fuzz(func(t *testing.T, data []byte, step uint8) {
		in := newPEMReader(&stepReader{data, int(step) + 1}, int64(len(data))) // without a goroutine: fuzzing wants the same way each time
		got, err := io.ReadAll(in)
		in.Close()
		if err == nil {
			text := bytes.Join(bytes.Fields(data), nil)
			want, err := base64.StdEncoding.Strict().DecodeString(string(text))
			if err != nil || !bytes.Equal(got, want) {
				t.Errorf("%q gives %x, the standard library has %x, %v", data, got, want, err)
			}
		}
		fetched, fetchErr := scanBody(&stepReader{data, int(step) + 1}, nil, nil)
		parts, _ := findCRLs(bytes.NewReader(data), int64(len(data)), step%2 == 0)
		for i, part := range parts {
			if part.at < 0 || part.size < 0 || part.at+part.size > int64(len(data)) || i > 0 && part.at < parts[i-1].at+parts[i-1].size {
				t.Fatalf("CRL %d is at %d, %d octets of %d", i, part.at, part.size, len(data))
			}
			head, peekErr := part.peek(bytes.NewReader(data))
			first, firstErr := part.begins(bytes.NewReader(data))
			body := part.body(bytes.NewReader(data))
			scan, err := scanCRL(body, max(part.der, int64(len(data))), nil, nil)
			body.Close()
			if err != nil {
				continue
			}
			if peekErr == nil && !sameHead(head, &scan.crlHead) {
				t.Errorf("the ends and the pass differ: %+v, %+v", head, scan.crlHead)
			}
			if firstErr != nil || !bytes.Equal(first.rawIssuer, scan.rawIssuer) || !first.nextUpdate.Equal(scan.nextUpdate) {
				t.Errorf("the beginning and the pass differ: %+v, %v, %+v", first, firstErr, scan.crlHead)
			}
			if i == 0 && fetchErr == nil && !sameList(fetched, scan) && bytes.HasPrefix(bytes.TrimLeft(data, " \t\r\n"), []byte(pemCRL)) {
				t.Errorf("from a server it is another")
			}
		}
	})
}

// pemSeeds are the forms that a file of CRLs has, good and spoiled.
func pemSeeds() [][]byte {
	ca := testca.NewRoot("Root")
	der := ca.CRL(testca.CRL{Number: 7, RawEntries: testca.ManyRevoked(8)})
	small := ca.CRL(testca.CRL{NoNextUpdate: true})
	join := func(parts ...[]byte) []byte { return bytes.Join(parts, nil) }
	lines := pemLines(der, 64, "\n")
	seeds := [][]byte{
		[]byte("QUJD\nRA==\n"), []byte("QUI=QUJD"), []byte("Q\nU\tJ\r\nD"), []byte("QUJD=\n==="), []byte("QQ=="), []byte("QR=="), []byte("QUJ-"),
		der, small, join(der, small, ca.DER, der), join([]byte("\n \r\n"), der, []byte("\n\n"), small), der[:len(der)-3],
		[]byte(pemCRL), []byte(pemCRL + "\n"), []byte(pemCRL + "\n-----END X509 CRL-----"), []byte("-----BEGIN "), []byte("text\n-----BEGIN X-----\n-----END X-----\n"),
		join(lines, ca.PEM(), pemLines(small, 64, "\n")), join([]byte("Issuer: x\n"), lines, []byte("text\n"), pemLines(small, 65, "\r\n")),
		join(lines[:len(lines)/2], lines), join(lines[:len(lines)/2], []byte("\n-----END X509 CRL-----\n"), lines), lines[:len(lines)-24],
		bytes.Replace(lines, []byte("\n"), []byte("\nProc-Type: 4,CRL\n\n"), 1), bytes.Replace(lines, []byte("\n"), []byte("\n\n  "), 4),
		bytes.ReplaceAll(lines, []byte("\n"), []byte(" \n")), bytes.ReplaceAll(lines, []byte("\n"), []byte("\r")), bytes.Replace(lines, []byte("-----END"), []byte("----END"), 1),
		join(bytes.TrimRight(lines, "\n"), lines), join(lines, []byte("-----END X509 CRL-----\n")), join(pemLines(der, 1<<20, "\n"), lines),
		join([]byte(pemCRL+"\n"), pemLines(nil, 4, "\n")), join([]byte(pemCRL+"\nMIX/////\n"), lines), join([]byte(pemCRL+"\nMIR/////////\n"), lines),
	}
	for _, width := range []int{1, 3, 4, 64, 65, 76, 1 << 20} {
		seeds = append(seeds, pemLines(der, width, "\n"), pemLines(small, width, "\r\n"))
	}
	return seeds
}

// stepReader gives a few octets at a time.
type stepReader struct {
	data []byte
	step int
}

func (s *stepReader) Read(p []byte) (int, error) {
	if len(s.data) == 0 {
		return 0, io.EOF
	}
	n := copy(p, s.data[:min(s.step, len(s.data))])
	s.data = s.data[n:]
	return n, nil
}

func TestUnixOf(t *testing.T) {
	for year := 0; year < 100; year++ {
		for month := 1; month <= 12; month++ {
			text := fmt.Sprintf("%02d%02d%02d061728Z", year, month, 1+(year+month)%28)
			if !plainTime([]byte(text)) {
				t.Fatalf("%s is not plain", text)
			}
			century := "19"
			if year < 50 {
				century = "20"
			}
			want, err := time.Parse("20060102150405Z", century+text)
			if err != nil {
				t.Fatal(err)
			}
			if got := unixOf([]byte(text)); got != want.Unix() {
				t.Errorf("%s: %d, want %d", text, got, want.Unix())
			}
		}
	}
	for _, text := range []string{"250001000000Z", "251301000000Z", "250100000000Z", "250101240000Z", "250101006000Z", "250101000060Z", "25010100000:Z", "2501010000/0Z", "2501 1000000Z", "250101000000z"} {
		if plainTime([]byte(text)) {
			t.Errorf("%s is plain", text)
		}
	}
}
