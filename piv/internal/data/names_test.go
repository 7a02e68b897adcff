package data

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"pam_pkcs11/internal/certinfo"
	"pam_pkcs11/internal/testca"
)

// certificateOf has these attributes in its subject, or no name.
func certificateOf(t testing.TB, subject ...string) *certinfo.Certificate {
	t.Helper()
	return parsed(t, testca.SelfSigned("", testca.Subject(subject...)).DER)
}

func parsed(t testing.TB, der []byte) *certinfo.Certificate {
	t.Helper()
	c, err := certinfo.Parse(der)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestLabel(t *testing.T) {
	long := strings.Repeat("Ü", 20)
	exactly := strings.Repeat("x", 32)
	for _, tt := range []struct {
		name    string
		subject [][]string
		global  bool
		want023 string
		want    string
	}{
		{"short", [][]string{{"O=Example", "CN=Alice Example"}}, false, "Alice Example", "Alice Example"},
		{"no certificate", nil, false, "PIV_II", "PIV_II"},
		{"no name", [][]string{{"O=Example"}}, false, "PIV_II", "PIV_II"},
		{"the next one has a name", [][]string{{"O=Example"}, {"CN=Alice"}}, false, "Alice", "Alice"},
		{"two names", [][]string{{"CN=Alice", "CN=Bob"}}, false, "Alice", "Alice"},
		{"two certificates", [][]string{{"CN=Alice"}, {"CN=Bob"}}, false, "Alice", "Alice"},
		{"exactly 32", [][]string{{"CN=" + exactly}}, false, exactly, exactly},
		{"33", [][]string{{"CN=" + exactly + "x"}}, false, exactly[:29] + "...", exactly[:29] + "..."},
		{"a character is cut", [][]string{{"CN=" + long}}, false, long[:29] + "...", long[:29] + "..."},
		{"blanks at the end", [][]string{{"CN=Alice  "}}, false, "Alice", "Alice"},
		{"a NUL", [][]string{{"CN=Ali\x00ce"}}, false, "Ali", "Ali"},
		{"an empty name", [][]string{{"CN="}, {"CN=Bob"}}, false, "", ""},
		{"a colon", [][]string{{"CN=a:b:c"}}, false, "a:b:c", "a.b.c"},
		{"global PIN", [][]string{{"CN=Alice Example"}}, true, "Alice Example (Global PIN)", "Alice Example"},
		{"global PIN, as much as fits", [][]string{{"CN=" + exactly[:19]}}, true, exactly[:19] + " (Global PIN)", exactly[:19]},
		{"global PIN, one more", [][]string{{"CN=" + exactly[:20]}}, true, exactly[:16] + "... (Global PIN)", exactly[:20]},
	} {
		var certs []*certinfo.Certificate
		for _, subject := range tt.subject {
			certs = append(certs, certificateOf(t, subject...))
		}
		for mode, want := range map[LabelMode]string{LabelOpenSC023: tt.want023, LabelOpenSC: tt.want} {
			if got := Label(slices.Values(certs), tt.global, mode); string(got) != want {
				t.Errorf("%s, mode %d: %q, want %q", tt.name, mode, got, want)
			}
		}
	}
}

// TestLabelReadsNoMoreThanNeeded: each certificate costs commands.
func TestLabelReadsNoMoreThanNeeded(t *testing.T) {
	read := 0
	list := []*certinfo.Certificate{certificateOf(t, "O=Example"), certificateOf(t, "CN=Alice"), certificateOf(t, "CN=Bob")}
	certs := func(yield func(*certinfo.Certificate) bool) {
		for _, c := range list {
			if read++; !yield(c) {
				return
			}
		}
	}
	if got := Label(certs, false, LabelOpenSC); string(got) != "Alice" || read != 2 {
		t.Errorf("%q after %d certificates", got, read)
	}
	if cn := list[1].Subject.Values(certinfo.OIDCommonName)[0].Raw; string(cn) != "Alice" {
		t.Errorf("the certificate was changed: %q", cn)
	}
}

func TestKeys(t *testing.T) {
	for _, tt := range []struct {
		ref   byte
		id    byte
		tag   uint32
		label string
	}{
		{0x9A, 0x01, 0x5FC105, "Certificate for PIV Authentication"},
		{0x9C, 0x02, 0x5FC10A, "Certificate for Digital Signature"},
		{0x9D, 0x03, 0x5FC10B, "Certificate for Key Management"},
		{0x9E, 0x04, 0x5FC101, "Certificate for Card Authentication"},
		{0x82, 0x05, 0x5FC10D, "Retired Certificate for Key Management 1"},
		{0x86, 0x09, 0x5FC111, "Retired Certificate for Key Management 5"},
		{0x87, 0x10, 0x5FC112, "Retired Certificate for Key Management 6"},
		{0x90, 0x19, 0x5FC11B, "Retired Certificate for Key Management 15"},
		{0x91, 0x20, 0x5FC11C, "Retired Certificate for Key Management 16"},
		{0x95, 0x24, 0x5FC120, "Retired Certificate for Key Management 20"},
	} {
		if id := IDOf(tt.ref); !bytes.Equal(id, []byte{tt.id}) {
			t.Errorf("%X: CKA_ID %X, want %X", tt.ref, id, tt.id)
		}
		if TagOf(tt.ref) != tt.tag || ObjectLabel(tt.ref) != tt.label {
			t.Errorf("%X: %X, %q", tt.ref, TagOf(tt.ref), ObjectLabel(tt.ref))
		}
	}

	keys := 0
	for ref := range 0x100 {
		b := byte(ref)
		if known := IDOf(b) != nil; known != (TagOf(b) != 0) || known != (ObjectLabel(b) != "") || known != slices.Contains(LabelOrder(), b) {
			t.Errorf("%X is a key in some places only", ref)
		} else if known {
			keys++
		}
	}
	if keys != 24 {
		t.Error(keys, "keys")
	}
}
