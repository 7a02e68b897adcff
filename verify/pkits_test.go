package verify_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"pam_pkcs11/internal/certinfo"
	"pam_pkcs11/verify"
	"pam_pkcs11/verify/crl"
	"pam_pkcs11/verify/path"
)

// The NIST Public Key Interoperability Test Suite: every case with the revocation of the whole path by the CRLs of the
// case only. The certificates beside the end entity and the anchor are given as those of the card would be.

type pkitsCase struct {
	Name                        string
	CertPath                    []string
	CRLPath                     []string
	ShouldValidate              bool
	InitialPolicySet            []string
	InitialPolicyMappingInhibit bool
	InitialExplicitPolicy       bool
	InitialAnyPolicyInhibit     bool
}

const pkitsCases = 249

// pkitsDir finds the certificates and CRLs of Debian's package python3-cryptography-vectors.
func pkitsDir(t *testing.T) string {
	t.Helper()
	const usual = "/usr/lib/python3/dist-packages/cryptography_vectors/x509/PKITS_data"
	if _, err := os.Stat(usual); err == nil {
		return usual
	}
	out, err := exec.Command("dpkg", "-L", "python3-cryptography-vectors").Output()
	if err == nil {
		for line := range strings.Lines(string(out)) {
			if line = strings.TrimSpace(line); strings.HasSuffix(line, "/PKITS_data") {
				return line
			}
		}
	}
	t.Fatal("the PKITS certificates are missing: install the Debian package python3-cryptography-vectors")
	return ""
}

// pkitsVectors finds the cases in the source of the Go toolchain.
func pkitsVectors(t *testing.T) []pkitsCase {
	t.Helper()
	root, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		t.Fatalf("where is the Go toolchain? %v", err)
	}
	data, err := os.ReadFile(filepath.Join(strings.TrimSpace(string(root)), "src/crypto/x509/testdata/nist-pkits/vectors.json"))
	if err != nil {
		t.Fatalf("the PKITS cases come with the source of the Go toolchain: %v", err)
	}
	var cases []pkitsCase
	if err := json.Unmarshal(data, &cases); err != nil {
		t.Fatal(err)
	}
	return cases
}

func TestPKITS(t *testing.T) {
	dir := pkitsDir(t)
	cases := pkitsVectors(t)
	passed := 0
	for _, c := range cases {
		t.Run(c.Name, func(t *testing.T) {
			_, err := c.run(t, dir)
			if (err == nil) != c.ShouldValidate {
				t.Errorf("should validate: %v, got: %v", c.ShouldValidate, err)
				return
			}
			if r := verify.ReasonOf(err); r != "" && !slices.Contains(c.reasons(), r) {
				t.Errorf("right for a wrong reason: %v", err)
				return
			}
			passed++
		})
	}
	t.Logf("PKITS %d of %d", passed, pkitsCases)
	if len(cases) != pkitsCases || passed != pkitsCases {
		t.Errorf("PKITS %d of %d, %d cases found", passed, pkitsCases, len(cases))
	}
}

// reasons gives the reasons that a refusal may have, by the section of the suite.
func (c *pkitsCase) reasons() []verify.Reason {
	for _, row := range []struct {
		section string
		reasons []verify.Reason
	}{
		{"4.1.", []verify.Reason{verify.ReasonBadSignature, verify.ReasonIssuerUnknown}}, // a CA that cannot be read is not there
		{"4.2.", []verify.Reason{verify.ReasonExpired, verify.ReasonNotYetValid}},
		{"4.3.", []verify.Reason{verify.ReasonIssuerUnknown}},
		{"4.4.", []verify.Reason{verify.ReasonRevoked, verify.ReasonRevocationUnknown}},
		{"4.5.", []verify.Reason{verify.ReasonRevoked, verify.ReasonNotCA}},
		{"4.6.", []verify.Reason{verify.ReasonNotCA, verify.ReasonPathLen}},
		{"4.7.", []verify.Reason{verify.ReasonKeyUsage, verify.ReasonRevocationUnknown}},
		{"4.8.", []verify.Reason{verify.ReasonPolicy}}, {"4.9.", []verify.Reason{verify.ReasonPolicy}}, {"4.10.", []verify.Reason{verify.ReasonPolicy}},
		{"4.11.", []verify.Reason{verify.ReasonPolicy}}, {"4.12.", []verify.Reason{verify.ReasonPolicy}},
		{"4.13.", []verify.Reason{verify.ReasonNameConstraint}},
		{"4.14.", []verify.Reason{verify.ReasonRevoked, verify.ReasonRevocationUnknown}}, {"4.15.", []verify.Reason{verify.ReasonRevoked, verify.ReasonRevocationUnknown}},
		{"4.16.", []verify.Reason{verify.ReasonCriticalExtension}},
	} {
		if strings.HasPrefix(c.Name, row.section) {
			return row.reasons
		}
	}
	return nil
}

// run gives the answer of one case. A certificate that does not parse is a refusal when the case lists it.
func (c *pkitsCase) run(t *testing.T, dir string) (*verify.Result, error) {
	read := func(sub, name string) []byte {
		data, err := os.ReadFile(filepath.Join(dir, sub, name))
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	var certs []*certinfo.Certificate
	for _, name := range c.CertPath {
		cert, err := certinfo.Parse(read("certs", name))
		if err != nil {
			t.Logf("%s: %v", name, err)
			continue
		}
		certs = append(certs, cert)
	}
	if last := c.CertPath[len(c.CertPath)-1]; len(certs) < len(c.CertPath) {
		if cert, err := certinfo.Parse(read("certs", last)); err != nil || cert == nil {
			return nil, err
		}
	}
	var crls [][]byte
	for _, name := range c.CRLPath {
		crls = append(crls, read("crls", name))
	}
	source, err := crl.NewMemory(crls...)
	if err != nil {
		t.Logf("CRL not used: %v", err)
	}
	v, err := verify.New(verify.Options{
		EKU: verify.EKU{Ignore: true}, AllowSHA1: true, MinRSABits: 1024,
		Now: func() time.Time { return time.Date(2024, 6, 1, 12, 0, 0, 0, time.UTC) },
	})
	if err != nil {
		t.Fatal(err)
	}
	v.Options().Policy.CA = true
	v.UseCRLsAlone(source, false)
	v.CAs().Add(certs[0])
	*v.Initial() = path.Policies{Explicit: c.InitialExplicitPolicy, InhibitMapping: c.InitialPolicyMappingInhibit,
		InhibitAny: c.InitialAnyPolicyInhibit}
	for _, p := range c.InitialPolicySet {
		if p == "anyPolicy" {
			continue
		}
		oid, err := certinfo.ParseOID("2.16.840.1.101.3.2.1.48." + p[strings.LastIndexByte(p, '-')+1:])
		if err != nil {
			t.Fatal(err)
		}
		key, err := path.PolicyKey(oid)
		if err != nil {
			t.Fatal(err)
		}
		v.Initial().Set = append(v.Initial().Set, key)
	}
	return v.Check(t.Context(), certs[len(certs)-1], certs[1:len(certs)-1])
}
