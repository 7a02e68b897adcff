package verify_test

import (
	"bytes"
	"crypto"
	"testing"
	"time"

	"pam_pkcs11/internal/certinfo"
	"pam_pkcs11/internal/testca"
	"pam_pkcs11/verify"
	"pam_pkcs11/verify/crl"
)

// judgeWithCRLs checks the leaf of a world with these CRLs for the whole chain.
func (w world) judgeWithCRLs(t *testing.T, o verify.Options, leafOnly bool, card []*testca.Cert, crls ...[]byte) error {
	t.Helper()
	source, err := crl.NewMemory(crls...)
	if err != nil {
		t.Logf("CRL not used: %v", err)
	}
	v := trusting(t, o, &w.root.Cert)
	v.UseCRLsAlone(source, leafOnly)
	extra := []*certinfo.Certificate{parsed(t, &w.inter.Cert)}
	for _, c := range card {
		extra = append(extra, parsed(t, c))
	}
	_, err = v.Check(t.Context(), parsed(t, w.leaf), extra)
	return err
}

func revoked(c *testca.Cert, reason int) []testca.Revoked {
	return []testca.Revoked{{Serial: c.Serial, Reason: reason}}
}

func TestCRL(t *testing.T) {
	root := testca.NewRoot("Root")
	inter := root.Intermediate("Inter")
	leaf := inter.Leaf("Alice")
	w := world{root, inter, leaf}
	other := testca.NewRoot("Inter") // same name, other key
	stranger := testca.NewRoot("Stranger")
	rootCRL := root.CRL(testca.CRL{})
	now := time.Now()
	critical := testca.Extension{OID: "1.2.3.4", Critical: true, Value: []byte{5, 0}}
	ignored := testca.Extension{OID: "1.2.3.4", Value: []byte{5, 0}}
	reason := func(flags uint32) []byte { return testca.IDP{Reasons: flags}.DER() }
	tests := []struct {
		name string
		o    verify.Options
		crls [][]byte
		want verify.Reason
	}{
		{"good", verify.Options{}, [][]byte{rootCRL, inter.CRL(testca.CRL{})}, ""},
		{"none at all", verify.Options{}, nil, verify.ReasonRevocationUnknown},
		{"none for the leaf", verify.Options{}, [][]byte{rootCRL}, verify.ReasonRevocationUnknown},
		{"none for the intermediate", verify.Options{}, [][]byte{inter.CRL(testca.CRL{})}, verify.ReasonRevocationUnknown},
		{"revoked", verify.Options{}, [][]byte{rootCRL, inter.CRL(testca.CRL{Entries: revoked(leaf, 1)})}, verify.ReasonRevoked},
		{"revoked without a reason", verify.Options{}, [][]byte{rootCRL, inter.CRL(testca.CRL{Entries: revoked(leaf, -1)})}, verify.ReasonRevoked},
		{"on hold", verify.Options{}, [][]byte{rootCRL, inter.CRL(testca.CRL{Entries: revoked(leaf, 6)})}, verify.ReasonRevoked},
		{"removed", verify.Options{}, [][]byte{rootCRL, inter.CRL(testca.CRL{Entries: revoked(leaf, 8)})}, ""},
		{"removed and listed again", verify.Options{}, [][]byte{rootCRL, inter.CRL(testca.CRL{Entries: append(revoked(leaf, 8), revoked(leaf, 1)...)})}, verify.ReasonRevoked},
		{"listed twice", verify.Options{}, [][]byte{rootCRL, inter.CRL(testca.CRL{Entries: append(revoked(leaf, 1), revoked(leaf, 4)...)})}, verify.ReasonRevoked},
		{"intermediate revoked", verify.Options{}, [][]byte{root.CRL(testca.CRL{Entries: revoked(&inter.Cert, 2)}), inter.CRL(testca.CRL{})}, verify.ReasonRevoked},
		{"another serial", verify.Options{}, [][]byte{rootCRL, inter.CRL(testca.CRL{Entries: []testca.Revoked{{Serial: append([]byte{1}, leaf.Serial...)}}})}, ""},
		{"version 1, revoked", verify.Options{}, [][]byte{rootCRL, inter.CRL(testca.CRL{V1: true, Entries: revoked(leaf, -1)})}, verify.ReasonRevoked},
		{"version 1, good", verify.Options{}, [][]byte{rootCRL, inter.CRL(testca.CRL{V1: true})}, ""},
		{"other issuer", verify.Options{}, [][]byte{rootCRL, stranger.CRL(testca.CRL{})}, verify.ReasonRevocationUnknown},
		{"other key of the same name", verify.Options{}, [][]byte{rootCRL, other.CRL(testca.CRL{})}, verify.ReasonRevocationUnknown},
		{"other key first, then the right one", verify.Options{}, [][]byte{rootCRL, other.CRL(testca.CRL{}), inter.CRL(testca.CRL{Entries: revoked(leaf, 1)})}, verify.ReasonRevoked},
		{"bad signature", verify.Options{}, [][]byte{rootCRL, inter.CRL(testca.CRL{CorruptSignature: true})}, verify.ReasonRevocationUnknown},
		{"expired", verify.Options{}, [][]byte{rootCRL, inter.CRL(testca.CRL{ThisUpdate: now.Add(-3 * time.Hour), NextUpdate: now.Add(-time.Hour)})}, verify.ReasonRevocationUnknown},
		{"expired, revoked", verify.Options{}, [][]byte{rootCRL, inter.CRL(testca.CRL{ThisUpdate: now.Add(-3 * time.Hour), NextUpdate: now.Add(-time.Hour), Entries: revoked(leaf, 1)})}, verify.ReasonRevoked},
		{"expired, revoked, and released in a newer one", verify.Options{}, [][]byte{rootCRL, inter.CRL(testca.CRL{ThisUpdate: now.Add(-3 * time.Hour), NextUpdate: now.Add(-2 * time.Hour), Entries: revoked(leaf, 6)}), inter.CRL(testca.CRL{})}, ""},
		{"expired within the skew", verify.Options{ClockSkew: 2 * time.Hour}, [][]byte{rootCRL, inter.CRL(testca.CRL{ThisUpdate: now.Add(-3 * time.Hour), NextUpdate: now.Add(-time.Hour)})}, ""},
		{"future", verify.Options{}, [][]byte{rootCRL, inter.CRL(testca.CRL{ThisUpdate: now.Add(time.Hour)})}, verify.ReasonRevocationUnknown},
		{"no nextUpdate", verify.Options{}, [][]byte{rootCRL, inter.CRL(testca.CRL{NoNextUpdate: true})}, ""},
		{"no nextUpdate, old", verify.Options{}, [][]byte{rootCRL, inter.CRL(testca.CRL{NoNextUpdate: true, ThisUpdate: now.AddDate(0, -2, 0)})}, verify.ReasonRevocationUnknown},
		{"the newest counts", verify.Options{}, [][]byte{rootCRL, inter.CRL(testca.CRL{ThisUpdate: now.Add(-2 * time.Hour)}), inter.CRL(testca.CRL{Entries: revoked(leaf, 1)})}, verify.ReasonRevoked},
		{"released in the newest", verify.Options{}, [][]byte{rootCRL, inter.CRL(testca.CRL{ThisUpdate: now.Add(-2 * time.Hour), Entries: revoked(leaf, 6)}), inter.CRL(testca.CRL{})}, ""},
		{"truncated", verify.Options{}, [][]byte{rootCRL, rootCRL[:50]}, verify.ReasonRevocationUnknown},
		{"23 octets", verify.Options{}, [][]byte{rootCRL, bytes.Repeat([]byte("x"), 23)}, verify.ReasonRevocationUnknown},
		{"critical unknown", verify.Options{}, [][]byte{rootCRL, inter.CRL(testca.CRL{Extensions: []testca.Extension{critical}})}, verify.ReasonRevocationUnknown},
		{"unknown", verify.Options{}, [][]byte{rootCRL, inter.CRL(testca.CRL{Extensions: []testca.Extension{ignored}})}, ""},
		{"critical unknown in an entry", verify.Options{}, [][]byte{rootCRL, inter.CRL(testca.CRL{Entries: []testca.Revoked{{Serial: []byte{9}, Extensions: []testca.Extension{critical}}}})}, verify.ReasonRevocationUnknown},
		{"SHA-1", verify.Options{}, [][]byte{rootCRL, inter.CRL(testca.CRL{Scheme: &testca.Scheme{Hash: crypto.SHA1}})}, verify.ReasonRevocationUnknown},
		{"SHA-1 allowed", verify.Options{AllowSHA1: true}, [][]byte{rootCRL, inter.CRL(testca.CRL{Scheme: &testca.Scheme{Hash: crypto.SHA1}})}, ""},
		{"only CA certificates", verify.Options{}, [][]byte{rootCRL, inter.CRL(testca.CRL{IDP: testca.IDP{OnlyCA: true}.DER()})}, verify.ReasonRevocationUnknown},
		{"only end-entity certificates", verify.Options{}, [][]byte{rootCRL, inter.CRL(testca.CRL{IDP: testca.IDP{OnlyUser: true}.DER()})}, ""},
		{"only attribute certificates", verify.Options{}, [][]byte{rootCRL, inter.CRL(testca.CRL{IDP: testca.IDP{OnlyAttribs: true}.DER()})}, verify.ReasonRevocationUnknown},
		{"another partition", verify.Options{}, [][]byte{rootCRL, inter.CRL(testca.CRL{IDP: testca.IDP{Name: testca.FullName(testca.URI("http://x"))}.DER()})}, verify.ReasonRevocationUnknown},
		{"some reasons", verify.Options{}, [][]byte{rootCRL, inter.CRL(testca.CRL{IDP: reason(0x2)})}, verify.ReasonRevocationUnknown},
		{"all reasons in two parts", verify.Options{}, [][]byte{rootCRL, inter.CRL(testca.CRL{IDP: reason(0x2)}), inter.CRL(testca.CRL{IDP: reason(0x1fc)})}, ""},
		{"revoked in the second part", verify.Options{}, [][]byte{rootCRL, inter.CRL(testca.CRL{IDP: reason(0x2)}), inter.CRL(testca.CRL{IDP: reason(0x1fc), Entries: revoked(leaf, 4)})}, verify.ReasonRevoked},
		{"delta without a base", verify.Options{}, [][]byte{rootCRL, inter.CRL(testca.CRL{Number: 5, DeltaBase: 1})}, verify.ReasonRevocationUnknown},
		{"delta revokes", verify.Options{}, [][]byte{rootCRL, inter.CRL(testca.CRL{Number: 1}), inter.CRL(testca.CRL{Number: 5, DeltaBase: 1, Entries: revoked(leaf, 1)})}, verify.ReasonRevoked},
		{"delta removes", verify.Options{}, [][]byte{rootCRL, inter.CRL(testca.CRL{Number: 1, Entries: revoked(leaf, 6)}), inter.CRL(testca.CRL{Number: 5, DeltaBase: 1, Entries: revoked(leaf, 8)})}, ""},
		{"delta of a later base is not used", verify.Options{}, [][]byte{rootCRL, inter.CRL(testca.CRL{Number: 1, Entries: revoked(leaf, 6)}), inter.CRL(testca.CRL{Number: 5, DeltaBase: 2, Entries: revoked(leaf, 8)})}, verify.ReasonRevoked},
		{"delta of another key is not used", verify.Options{}, [][]byte{rootCRL, inter.CRL(testca.CRL{Number: 1, Entries: revoked(leaf, 6)}), other.CRL(testca.CRL{Number: 5, DeltaBase: 1, Entries: revoked(leaf, 8)})}, verify.ReasonRevoked},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if err := w.judgeWithCRLs(t, tt.o, false, nil, tt.crls...); verify.ReasonOf(err) != tt.want || (err == nil) != (tt.want == "") {
				t.Errorf("got %v", err)
			}
		})
	}
	t.Run("leaf only", func(t *testing.T) {
		if err := w.judgeWithCRLs(t, verify.Options{}, true, nil, inter.CRL(testca.CRL{})); err != nil {
			t.Error(err)
		}
	})
	t.Run("a CA that may not sign CRLs", func(t *testing.T) {
		inter := root.Intermediate("Inter", testca.KeyUsage(true, testca.KeyCertSign))
		w := world{root, inter, inter.Leaf("Alice")}
		if err := w.judgeWithCRLs(t, verify.Options{}, false, nil, rootCRL, inter.CRL(testca.CRL{})); verify.ReasonOf(err) != verify.ReasonRevocationUnknown {
			t.Errorf("got %v", err)
		}
	})
}

func TestCRLDistributionPoints(t *testing.T) {
	root := testca.NewRoot("Root")
	inter := root.Intermediate("Inter")
	issuer := root.Intermediate("CRL Issuer", testca.BasicConstraints(true, false, -1), testca.KeyUsage(true, testca.CRLSign))
	part := testca.FullName(testca.URI("http://h/part1.crl"))
	relative := testca.RelativeName(testca.ParseAttribute("CN=part 1"))
	rootCRL := root.CRL(testca.CRL{})
	indirect := func(entries ...testca.Revoked) []byte {
		return issuer.CRL(testca.CRL{IDP: testca.IDP{Indirect: true}.DER(), Entries: entries})
	}
	byOther := testca.DistributionPoints(testca.Point(nil, 0, testca.Directory(issuer.Subject)))
	tests := []struct {
		name  string
		point testca.Option
		crl   func(leaf *testca.Cert) []byte
		want  verify.Reason
	}{
		{"its partition", testca.DistributionPoints(testca.Point(part, 0, nil)), func(*testca.Cert) []byte { return inter.CRL(testca.CRL{IDP: testca.IDP{Name: part}.DER()}) }, ""},
		{"its partition, revoked", testca.DistributionPoints(testca.Point(part, 0, nil)), func(l *testca.Cert) []byte {
			return inter.CRL(testca.CRL{IDP: testca.IDP{Name: part}.DER(), Entries: revoked(l, 1)})
		}, verify.ReasonRevoked},
		{"relative name in both", testca.DistributionPoints(testca.Point(relative, 0, nil)), func(*testca.Cert) []byte { return inter.CRL(testca.CRL{IDP: testca.IDP{Name: relative}.DER()}) }, ""},
		{"relative name against the whole name", testca.DistributionPoints(testca.Point(relative, 0, nil)), func(*testca.Cert) []byte {
			return inter.CRL(testca.CRL{IDP: testca.IDP{Name: testca.FullName(testca.Directory(testca.DN("C=IT", "O=Example", "CN=Inter", "CN=part 1")))}.DER()})
		}, ""},
		{"full CRL of the issuer instead", testca.DistributionPoints(testca.Point(part, 0, nil)), func(*testca.Cert) []byte { return inter.CRL(testca.CRL{}) }, ""},
		{"indirect", byOther, func(*testca.Cert) []byte { return indirect() }, ""},
		{"indirect, revoked", byOther, func(l *testca.Cert) []byte {
			return indirect(testca.Revoked{Serial: l.Serial, Issuer: inter.Subject})
		}, verify.ReasonRevoked},
		{"indirect, entry of the CRL issuer's own", byOther, func(l *testca.Cert) []byte { return indirect(testca.Revoked{Serial: l.Serial}) }, ""},
		{"indirect, issuer kept from the entry before", byOther, func(l *testca.Cert) []byte {
			return indirect(testca.Revoked{Serial: []byte{1}, Issuer: inter.Subject}, testca.Revoked{Serial: l.Serial})
		}, verify.ReasonRevoked},
		{"indirect, not said to be", byOther, func(*testca.Cert) []byte { return issuer.CRL(testca.CRL{}) }, verify.ReasonRevocationUnknown},
		{"indirect, not named by the certificate", testca.CRLDistribution("http://h"), func(*testca.Cert) []byte { return indirect() }, verify.ReasonRevocationUnknown},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			leaf := inter.Leaf("Alice", tt.point)
			w := world{root, inter, leaf}
			err := w.judgeWithCRLs(t, verify.Options{}, false, []*testca.Cert{&issuer.Cert}, rootCRL, tt.crl(leaf))
			if verify.ReasonOf(err) != tt.want || (err == nil) != (tt.want == "") {
				t.Errorf("got %v", err)
			}
		})
	}
	t.Run("the CRL issuer is revoked", func(t *testing.T) {
		w := world{root, inter, inter.Leaf("Alice", byOther)}
		err := w.judgeWithCRLs(t, verify.Options{}, false, []*testca.Cert{&issuer.Cert}, root.CRL(testca.CRL{Entries: revoked(&issuer.Cert, 1)}), indirect())
		if verify.ReasonOf(err) != verify.ReasonRevocationUnknown {
			t.Errorf("got %v", err)
		}
	})
	t.Run("the CRL issuer belongs to another root", func(t *testing.T) {
		elsewhere := testca.NewRoot("Elsewhere")
		forged := elsewhere.Intermediate("CRL Issuer", testca.KeyUsage(true, testca.CRLSign))
		w := world{root, inter, inter.Leaf("Alice", byOther)}
		crl := forged.CRL(testca.CRL{IDP: testca.IDP{Indirect: true}.DER()})
		if err := w.judgeWithCRLs(t, verify.Options{}, false, []*testca.Cert{&forged.Cert, &elsewhere.Cert}, rootCRL, crl); verify.ReasonOf(err) != verify.ReasonRevocationUnknown {
			t.Errorf("got %v", err)
		}
	})
}
