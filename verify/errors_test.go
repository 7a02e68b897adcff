package verify_test

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"pam_pkcs11/internal/certinfo"
	"pam_pkcs11/internal/testca"
	"pam_pkcs11/verify"
)

// TestReasonsAreDocumented: the table in the manual page is that of the code.
func TestReasonsAreDocumented(t *testing.T) {
	page, err := os.ReadFile("../doc/pam_pkcs11.8")
	if err != nil {
		t.Fatal(err)
	}
	var table strings.Builder
	table.WriteString(".Bl -tag -width Ds\n")
	for _, r := range verify.Reasons() {
		fmt.Fprintf(&table, ".It Li %s\n%s.\n", r, r.Meaning())
	}
	table.WriteString(".El\n")
	if !strings.Contains(string(page), table.String()) {
		t.Errorf("the reason codes of pam_pkcs11(8) are not those of the code:\n%s", table.String())
	}
}

// TestDecisions: what was found out comes back as data, certificate by certificate.
func TestDecisions(t *testing.T) {
	root := testca.NewRoot("Root")
	inter := root.Intermediate("Inter")
	good := responding(t, signs(&inter.Cert, testca.OCSPGood))
	dead := deadURL(t)
	tests := []struct {
		name string
		leaf *testca.Cert
		crls [][]byte
		want string // certificate: reason, with ! before what speaks against it
	}{
		{"good by both sources", inter.Leaf("Alice", testca.InfoAccess([]string{dead, good.URL}, nil)), [][]byte{root.CRL(testca.CRL{})},
			"Alice usable, Inter !ocsp-no-answer, Inter crl-good, Alice !ocsp-no-answer, Alice ocsp-good, Root anchored"},
		{"nothing known", inter.Leaf("Alice", testca.InfoAccess([]string{dead}, nil)), nil,
			"Alice usable, Inter !ocsp-no-answer, Alice !ocsp-no-answer, Inter !revocation-unknown, Inter !revocation-unknown"},
		{"expired", inter.Leaf("Alice", testca.Expired()), nil, "Alice !expired"},
		{"of nobody", testca.NewRoot("Other").Leaf("Alice"), nil, "Alice usable, Alice !issuer-unknown, Alice !issuer-unknown"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			v := withOCSP(t, verify.Options{}, &root.Cert)
			withCRLs(t, v, tt.crls...)
			result, _ := v.Check(within(t, 20*time.Second), parsed(t, tt.leaf), []*certinfo.Certificate{parsed(t, &inter.Cert)})
			var got []string
			for _, d := range result.Decisions {
				against := "!"
				if d.OK {
					against = ""
				}
				name := d.Cert.Subject.RFC4514()
				name = strings.TrimPrefix(name[:strings.IndexByte(name, ',')], "CN=")
				got = append(got, name+" "+against+string(d.Reason))
				if d.Reason.Meaning() == "" || d.Detail == "" {
					t.Errorf("%+v", d)
				}
			}
			if s := strings.Join(got, ", "); s != tt.want {
				t.Errorf("got  %s\nwant %s", s, tt.want)
			}
		})
	}
}
