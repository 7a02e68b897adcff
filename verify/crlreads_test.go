package verify_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"pam_pkcs11/internal/testca"
	"pam_pkcs11/verify"
)

// octetsRead is how many octets this process has read from files and sockets, as the kernel counts them.
func octetsRead(t *testing.T) int64 {
	t.Helper()
	text, err := os.ReadFile("/proc/self/io")
	if err != nil {
		t.Fatal(err)
	}
	var n int64
	if _, err := fmt.Sscanf(string(text), "rchar: %d", &n); err != nil {
		t.Fatalf("%q: %v", text, err)
	}
	return n
}

// TestEachCRLIsReadOnce counts what a login reads. It runs beside no other test.
func TestEachCRLIsReadOnce(t *testing.T) {
	w := newWorld()
	list := func(number int64, c testca.CRL) []byte {
		c.Number = number
		if number < 9 {
			c.ThisUpdate = time.Now().Add(time.Duration(number-10) * time.Hour)
		}
		c.RawEntries = testca.ManyRevoked(50000)
		return w.inter.CRL(c)
	}
	root := w.root.CRL(testca.CRL{Number: 1})
	newest := list(9, testca.CRL{})
	spaced := bytes.ReplaceAll(testca.PEMLines(newest, 64, "\n"), []byte("\n"), []byte(" \n"))
	indirect := list(9, testca.CRL{Entries: revoked(&w.inter.Cert, 1)})
	tests := []struct {
		name    string
		files   map[string][]byte
		indexed bool
		read    []string // the files that are read as a whole, each once
	}{
		{"DER", map[string][]byte{"i": newest}, false, []string{"i"}},
		{"PEM", map[string][]byte{"i": testca.PEMCRL(newest)}, false, []string{"i"}},
		{"PEM, lines that end in CR LF", map[string][]byte{"i": testca.PEMLines(newest, 76, "\r\n")}, false, []string{"i"}},
		{"PEM, lines of 65", map[string][]byte{"i": testca.PEMLines(newest, 65, "\n")}, false, []string{"i"}},
		{"PEM, one line", map[string][]byte{"i": testca.PEMLines(newest, 1<<30, "\n")}, false, []string{"i"}},
		{"PEM, blanks at the ends of lines", map[string][]byte{"i": spaced}, false, []string{"i"}},
		{"two in a file, the root's first", map[string][]byte{"i": append(bytes.Clone(root), newest...)}, false, []string{"i"}},
		{"several of one issuer: the newest is enough", map[string][]byte{"a": list(3, testca.CRL{}), "b": newest, "c": testca.PEMCRL(list(5, testca.CRL{}))}, false, []string{"b"}},
		{"several of one issuer, the newest forged", map[string][]byte{"a": list(3, testca.CRL{NextUpdate: time.Now().Add(time.Hour)}), "b": list(9, testca.CRL{CorruptSignature: true})}, false, []string{"a", "b"}},
		{"hash links", map[string][]byte{"i": newest, "1.r0": nil, "1.r1": nil}, false, []string{"i"}},
		{"another's", map[string][]byte{"i": newest, "z": testca.NewRoot("Stranger").CRL(testca.CRL{RawEntries: testca.ManyRevoked(50000)})}, false, []string{"i"}},
		{"lists a CA of its own", map[string][]byte{"i": indirect}, false, []string{"i"}},
		{"DER, indexed", map[string][]byte{"i": newest}, true, nil},
		{"PEM, indexed", map[string][]byte{"i": testca.PEMCRL(newest)}, true, nil},
		{"PEM of one line, indexed", map[string][]byte{"i": testca.PEMLines(newest, 1<<30, "\n")}, true, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			d := newOnDisk(t, w, map[string][]byte{"root": root})
			writeFile(t, filepath.Join(d.ca, "inter.pem"), w.inter.PEM())
			most := int64(64 << 10) // certificates, the ends of CRLs, indexes, /proc
			for name, data := range tt.files {
				if path := filepath.Join(d.crls, name); data != nil {
					writeFile(t, path, data)
				} else if err := os.Symlink("i", path); err != nil {
					t.Fatal(err)
				}
			}
			for _, name := range tt.read {
				most += int64(len(tt.files[name])) + int64(len(tt.files[name]))/40 // behind text of uneven lines its end is looked for
			}
			o := verify.Options{}
			if tt.indexed {
				o.StoreDir = storeDir(t)
				if _, err := d.verifier(t, o).UpdateCRLs(t.Context(), nil); err != nil {
					t.Fatal(err)
				}
			}
			v := d.verifier(t, o)
			before := octetsRead(t)
			if err := d.check(t, v); err != nil {
				t.Fatal(err)
			}
			if err := d.check(t, v); err != nil { // another certificate of the card has the same issuer
				t.Fatal(err)
			}
			if got := octetsRead(t) - before; got > most {
				t.Errorf("%d octets were read, expected at most %d", got, most)
			}
		})
	}
}

// TestCRLChangesBetweenPasses: a certificate that was not announced needs a second pass. What the file says by then was
// signed by nobody: another process has written to it in place, within one tick of the file system's clock.
func TestCRLChangesBetweenPasses(t *testing.T) {
	w := newWorld()
	late := w.inter.Leaf("Late")
	last := func(serial []byte) []byte {
		return testca.Sequence(testca.TLV(2, serial), testca.Time(time.Now().Truncate(time.Minute)))
	}
	entry := last(late.Serial)
	signed := w.inter.CRL(testca.CRL{Number: 1, RawEntries: append(testca.ManyRevoked(20000), entry...)})
	forged := bytes.Replace(signed, entry, last(bytes.Repeat([]byte{0x55}, len(late.Serial))), 1)
	if len(forged) != len(signed) || bytes.Equal(forged, signed) {
		t.Fatal("the entry was not found")
	}
	for name, encode := range map[string]func([]byte) []byte{"DER": func(b []byte) []byte { return b }, "PEM": testca.PEMCRL} {
		t.Run(name, func(t *testing.T) {
			d := newOnDisk(t, w, map[string][]byte{"r": w.root.CRL(testca.CRL{}), "i": encode(signed)})
			path := filepath.Join(d.crls, "i")
			changes := false
			var options verify.Options
			options.Hooks().Opened = func(opened string) {
				if changes && opened == path { // the file was looked at
					if err := os.WriteFile(path, encode(forged), 0o644); err != nil {
						t.Error(err)
					}
				}
			}
			v := d.verifier(t, options)
			if err := d.check(t, v); err != nil {
				t.Fatal(err)
			}
			changes = true
			d.leaf = late
			if err := d.check(t, v); verify.ReasonOf(err) != verify.ReasonRevocationUnknown || !strings.Contains(err.Error(), "has changed") {
				t.Errorf("got %v", err)
			}
			if err := d.check(t, v); verify.ReasonOf(err) != verify.ReasonRevocationUnknown {
				t.Errorf("once more: %v", err)
			}
		})
	}
}

// TestCutPEMBeforeAnother: where a CRL in uneven lines ends is guessed from its length; one that is cut hides no other.
func TestCutPEMBeforeAnother(t *testing.T) {
	w := newWorld()
	list := w.inter.CRL(testca.CRL{Number: 2, Entries: revoked(w.leaf, 1), RawEntries: testca.ManyRevoked(500)})
	for _, width := range []int{65, 1 << 30} {
		whole := testca.PEMLines(w.inter.CRL(testca.CRL{Number: 1, RawEntries: testca.ManyRevoked(800)}), width, "\n")
		short := append(bytes.Clone(whole[:len(whole)/3]), "\n-----END X509 CRL-----\n"...)
		for name, behind := range map[string][]byte{"PEM": testca.PEMCRL(list), "uneven": testca.PEMLines(list, width, "\n")} {
			d := newOnDisk(t, w, map[string][]byte{"r": w.root.CRL(testca.CRL{}), "i": append(bytes.Clone(short), behind...)})
			if err := d.check(t, d.verifier(t, verify.Options{})); verify.ReasonOf(err) != verify.ReasonRevoked {
				t.Errorf("%d, %s: %v", width, name, err)
			}
		}
	}
}

// TestStoredPEMIsUsed: what a server gave in text with uneven lines is held like any other.
func TestStoredPEMIsUsed(t *testing.T) {
	o := newOnline(t)
	list := o.world.inter.CRL(testca.CRL{Number: 5, RawEntries: testca.ManyRevoked(3000)})
	for _, width := range []int{64, 65, 1 << 30} {
		o.inter.Store(serveCRL(testca.PEMLines(list, width, "\r\n")))
		dir, before := storeDir(t), o.asked.Load()
		for range 3 {
			if err := o.login(t, dir, verify.Options{}); err != nil {
				t.Errorf("lines of %d: %v", width, err)
			}
		}
		if n := o.asked.Load() - before; n != 1 {
			t.Errorf("lines of %d: %d requests", width, n)
		}
	}
}
