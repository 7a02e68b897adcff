package verify

import (
	"bytes"
	"context"
	"crypto"
	"testing"
	"time"

	"pam_pkcs11/internal/certinfo"
	"pam_pkcs11/internal/testca"
	"pam_pkcs11/verify/crl"
	"pam_pkcs11/verify/path"
)

// judgeWithCRLs checks the leaf of a world with these CRLs for the whole chain.
func (w world) judgeWithCRLs(t *testing.T, o Options, leafOnly bool, card []*testca.Cert, crls ...[]byte) error {
	t.Helper()
	source, err := crl.NewMemory(crls...)
	if err != nil {
		t.Logf("CRL not used: %v", err)
	}
	v := trusting(t, o, &w.root.Cert)
	v.options.Policy.CRL = "offline"
	v.revoked = crlsAlone{&crl.Checker{Source: source, Rules: v.rules, LeafOnly: leafOnly}}
	extra := []*certinfo.Certificate{parsed(t, &w.inter.Cert)}
	for _, c := range card {
		extra = append(extra, parsed(t, c))
	}
	_, err = v.Check(t.Context(), parsed(t, w.leaf), extra)
	return err
}

// crlsAlone asks about revocation without OCSP and without `revocation`.
type crlsAlone struct{ *crl.Checker }

func (c crlsAlone) Check(ctx context.Context, s *path.Search, certs []*certinfo.Certificate) *Error {
	return c.Run(s.Now, certs, s).Path(ctx, certs)
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
		o    Options
		crls [][]byte
		want Reason
	}{
		{"good", Options{}, [][]byte{rootCRL, inter.CRL(testca.CRL{})}, ""},
		{"none at all", Options{}, nil, ReasonRevocationUnknown},
		{"none for the leaf", Options{}, [][]byte{rootCRL}, ReasonRevocationUnknown},
		{"none for the intermediate", Options{}, [][]byte{inter.CRL(testca.CRL{})}, ReasonRevocationUnknown},
		{"revoked", Options{}, [][]byte{rootCRL, inter.CRL(testca.CRL{Entries: revoked(leaf, 1)})}, ReasonRevoked},
		{"revoked without a reason", Options{}, [][]byte{rootCRL, inter.CRL(testca.CRL{Entries: revoked(leaf, -1)})}, ReasonRevoked},
		{"on hold", Options{}, [][]byte{rootCRL, inter.CRL(testca.CRL{Entries: revoked(leaf, 6)})}, ReasonRevoked},
		{"removed", Options{}, [][]byte{rootCRL, inter.CRL(testca.CRL{Entries: revoked(leaf, 8)})}, ""},
		{"removed and listed again", Options{}, [][]byte{rootCRL, inter.CRL(testca.CRL{Entries: append(revoked(leaf, 8), revoked(leaf, 1)...)})}, ReasonRevoked},
		{"listed twice", Options{}, [][]byte{rootCRL, inter.CRL(testca.CRL{Entries: append(revoked(leaf, 1), revoked(leaf, 4)...)})}, ReasonRevoked},
		{"intermediate revoked", Options{}, [][]byte{root.CRL(testca.CRL{Entries: revoked(&inter.Cert, 2)}), inter.CRL(testca.CRL{})}, ReasonRevoked},
		{"another serial", Options{}, [][]byte{rootCRL, inter.CRL(testca.CRL{Entries: []testca.Revoked{{Serial: append([]byte{1}, leaf.Serial...)}}})}, ""},
		{"version 1, revoked", Options{}, [][]byte{rootCRL, inter.CRL(testca.CRL{V1: true, Entries: revoked(leaf, -1)})}, ReasonRevoked},
		{"version 1, good", Options{}, [][]byte{rootCRL, inter.CRL(testca.CRL{V1: true})}, ""},
		{"other issuer", Options{}, [][]byte{rootCRL, stranger.CRL(testca.CRL{})}, ReasonRevocationUnknown},
		{"other key of the same name", Options{}, [][]byte{rootCRL, other.CRL(testca.CRL{})}, ReasonRevocationUnknown},
		{"other key first, then the right one", Options{}, [][]byte{rootCRL, other.CRL(testca.CRL{}), inter.CRL(testca.CRL{Entries: revoked(leaf, 1)})}, ReasonRevoked},
		{"bad signature", Options{}, [][]byte{rootCRL, inter.CRL(testca.CRL{CorruptSignature: true})}, ReasonRevocationUnknown},
		{"expired", Options{}, [][]byte{rootCRL, inter.CRL(testca.CRL{ThisUpdate: now.Add(-3 * time.Hour), NextUpdate: now.Add(-time.Hour)})}, ReasonRevocationUnknown},
		{"expired, revoked", Options{}, [][]byte{rootCRL, inter.CRL(testca.CRL{ThisUpdate: now.Add(-3 * time.Hour), NextUpdate: now.Add(-time.Hour), Entries: revoked(leaf, 1)})}, ReasonRevoked},
		{"expired, revoked, and released in a newer one", Options{}, [][]byte{rootCRL, inter.CRL(testca.CRL{ThisUpdate: now.Add(-3 * time.Hour), NextUpdate: now.Add(-2 * time.Hour), Entries: revoked(leaf, 6)}), inter.CRL(testca.CRL{})}, ""},
		{"expired within the skew", Options{ClockSkew: 2 * time.Hour}, [][]byte{rootCRL, inter.CRL(testca.CRL{ThisUpdate: now.Add(-3 * time.Hour), NextUpdate: now.Add(-time.Hour)})}, ""},
		{"future", Options{}, [][]byte{rootCRL, inter.CRL(testca.CRL{ThisUpdate: now.Add(time.Hour)})}, ReasonRevocationUnknown},
		{"no nextUpdate", Options{}, [][]byte{rootCRL, inter.CRL(testca.CRL{NoNextUpdate: true})}, ""},
		{"no nextUpdate, old", Options{}, [][]byte{rootCRL, inter.CRL(testca.CRL{NoNextUpdate: true, ThisUpdate: now.AddDate(0, -2, 0)})}, ReasonRevocationUnknown},
		{"the newest counts", Options{}, [][]byte{rootCRL, inter.CRL(testca.CRL{ThisUpdate: now.Add(-2 * time.Hour)}), inter.CRL(testca.CRL{Entries: revoked(leaf, 1)})}, ReasonRevoked},
		{"released in the newest", Options{}, [][]byte{rootCRL, inter.CRL(testca.CRL{ThisUpdate: now.Add(-2 * time.Hour), Entries: revoked(leaf, 6)}), inter.CRL(testca.CRL{})}, ""},
		{"truncated", Options{}, [][]byte{rootCRL, rootCRL[:50]}, ReasonRevocationUnknown},
		{"23 octets", Options{}, [][]byte{rootCRL, bytes.Repeat([]byte("x"), 23)}, ReasonRevocationUnknown},
		{"critical unknown", Options{}, [][]byte{rootCRL, inter.CRL(testca.CRL{Extensions: []testca.Extension{critical}})}, ReasonRevocationUnknown},
		{"unknown", Options{}, [][]byte{rootCRL, inter.CRL(testca.CRL{Extensions: []testca.Extension{ignored}})}, ""},
		{"critical unknown in an entry", Options{}, [][]byte{rootCRL, inter.CRL(testca.CRL{Entries: []testca.Revoked{{Serial: []byte{9}, Extensions: []testca.Extension{critical}}}})}, ReasonRevocationUnknown},
		{"SHA-1", Options{}, [][]byte{rootCRL, inter.CRL(testca.CRL{Scheme: &testca.Scheme{Hash: crypto.SHA1}})}, ReasonRevocationUnknown},
		{"SHA-1 allowed", Options{AllowSHA1: true}, [][]byte{rootCRL, inter.CRL(testca.CRL{Scheme: &testca.Scheme{Hash: crypto.SHA1}})}, ""},
		{"only CA certificates", Options{}, [][]byte{rootCRL, inter.CRL(testca.CRL{IDP: testca.IDP{OnlyCA: true}.DER()})}, ReasonRevocationUnknown},
		{"only end-entity certificates", Options{}, [][]byte{rootCRL, inter.CRL(testca.CRL{IDP: testca.IDP{OnlyUser: true}.DER()})}, ""},
		{"only attribute certificates", Options{}, [][]byte{rootCRL, inter.CRL(testca.CRL{IDP: testca.IDP{OnlyAttribs: true}.DER()})}, ReasonRevocationUnknown},
		{"another partition", Options{}, [][]byte{rootCRL, inter.CRL(testca.CRL{IDP: testca.IDP{Name: testca.FullName(testca.URI("http://x"))}.DER()})}, ReasonRevocationUnknown},
		{"some reasons", Options{}, [][]byte{rootCRL, inter.CRL(testca.CRL{IDP: reason(0x2)})}, ReasonRevocationUnknown},
		{"all reasons in two parts", Options{}, [][]byte{rootCRL, inter.CRL(testca.CRL{IDP: reason(0x2)}), inter.CRL(testca.CRL{IDP: reason(0x1fc)})}, ""},
		{"revoked in the second part", Options{}, [][]byte{rootCRL, inter.CRL(testca.CRL{IDP: reason(0x2)}), inter.CRL(testca.CRL{IDP: reason(0x1fc), Entries: revoked(leaf, 4)})}, ReasonRevoked},
		{"delta without a base", Options{}, [][]byte{rootCRL, inter.CRL(testca.CRL{Number: 5, DeltaBase: 1})}, ReasonRevocationUnknown},
		{"delta revokes", Options{}, [][]byte{rootCRL, inter.CRL(testca.CRL{Number: 1}), inter.CRL(testca.CRL{Number: 5, DeltaBase: 1, Entries: revoked(leaf, 1)})}, ReasonRevoked},
		{"delta removes", Options{}, [][]byte{rootCRL, inter.CRL(testca.CRL{Number: 1, Entries: revoked(leaf, 6)}), inter.CRL(testca.CRL{Number: 5, DeltaBase: 1, Entries: revoked(leaf, 8)})}, ""},
		{"delta of a later base is not used", Options{}, [][]byte{rootCRL, inter.CRL(testca.CRL{Number: 1, Entries: revoked(leaf, 6)}), inter.CRL(testca.CRL{Number: 5, DeltaBase: 2, Entries: revoked(leaf, 8)})}, ReasonRevoked},
		{"delta of another key is not used", Options{}, [][]byte{rootCRL, inter.CRL(testca.CRL{Number: 1, Entries: revoked(leaf, 6)}), other.CRL(testca.CRL{Number: 5, DeltaBase: 1, Entries: revoked(leaf, 8)})}, ReasonRevoked},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if err := w.judgeWithCRLs(t, tt.o, false, nil, tt.crls...); ReasonOf(err) != tt.want || (err == nil) != (tt.want == "") {
				t.Errorf("got %v", err)
			}
		})
	}
	t.Run("leaf only", func(t *testing.T) {
		if err := w.judgeWithCRLs(t, Options{}, true, nil, inter.CRL(testca.CRL{})); err != nil {
			t.Error(err)
		}
	})
	t.Run("a CA that may not sign CRLs", func(t *testing.T) {
		inter := root.Intermediate("Inter", testca.KeyUsage(true, testca.KeyCertSign))
		w := world{root, inter, inter.Leaf("Alice")}
		if err := w.judgeWithCRLs(t, Options{}, false, nil, rootCRL, inter.CRL(testca.CRL{})); ReasonOf(err) != ReasonRevocationUnknown {
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
		want  Reason
	}{
		{"its partition", testca.DistributionPoints(testca.Point(part, 0, nil)), func(*testca.Cert) []byte { return inter.CRL(testca.CRL{IDP: testca.IDP{Name: part}.DER()}) }, ""},
		{"its partition, revoked", testca.DistributionPoints(testca.Point(part, 0, nil)), func(l *testca.Cert) []byte {
			return inter.CRL(testca.CRL{IDP: testca.IDP{Name: part}.DER(), Entries: revoked(l, 1)})
		}, ReasonRevoked},
		{"relative name in both", testca.DistributionPoints(testca.Point(relative, 0, nil)), func(*testca.Cert) []byte { return inter.CRL(testca.CRL{IDP: testca.IDP{Name: relative}.DER()}) }, ""},
		{"relative name against the whole name", testca.DistributionPoints(testca.Point(relative, 0, nil)), func(*testca.Cert) []byte {
			return inter.CRL(testca.CRL{IDP: testca.IDP{Name: testca.FullName(testca.Directory(testca.DN("C=IT", "O=Example", "CN=Inter", "CN=part 1")))}.DER()})
		}, ""},
		{"full CRL of the issuer instead", testca.DistributionPoints(testca.Point(part, 0, nil)), func(*testca.Cert) []byte { return inter.CRL(testca.CRL{}) }, ""},
		{"indirect", byOther, func(*testca.Cert) []byte { return indirect() }, ""},
		{"indirect, revoked", byOther, func(l *testca.Cert) []byte {
			return indirect(testca.Revoked{Serial: l.Serial, Issuer: inter.Subject})
		}, ReasonRevoked},
		{"indirect, entry of the CRL issuer's own", byOther, func(l *testca.Cert) []byte { return indirect(testca.Revoked{Serial: l.Serial}) }, ""},
		{"indirect, issuer kept from the entry before", byOther, func(l *testca.Cert) []byte {
			return indirect(testca.Revoked{Serial: []byte{1}, Issuer: inter.Subject}, testca.Revoked{Serial: l.Serial})
		}, ReasonRevoked},
		{"indirect, not said to be", byOther, func(*testca.Cert) []byte { return issuer.CRL(testca.CRL{}) }, ReasonRevocationUnknown},
		{"indirect, not named by the certificate", testca.CRLDistribution("http://h"), func(*testca.Cert) []byte { return indirect() }, ReasonRevocationUnknown},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			leaf := inter.Leaf("Alice", tt.point)
			w := world{root, inter, leaf}
			err := w.judgeWithCRLs(t, Options{}, false, []*testca.Cert{&issuer.Cert}, rootCRL, tt.crl(leaf))
			if ReasonOf(err) != tt.want || (err == nil) != (tt.want == "") {
				t.Errorf("got %v", err)
			}
		})
	}
	t.Run("the CRL issuer is revoked", func(t *testing.T) {
		w := world{root, inter, inter.Leaf("Alice", byOther)}
		err := w.judgeWithCRLs(t, Options{}, false, []*testca.Cert{&issuer.Cert}, root.CRL(testca.CRL{Entries: revoked(&issuer.Cert, 1)}), indirect())
		if ReasonOf(err) != ReasonRevocationUnknown {
			t.Errorf("got %v", err)
		}
	})
	t.Run("the CRL issuer belongs to another root", func(t *testing.T) {
		elsewhere := testca.NewRoot("Elsewhere")
		forged := elsewhere.Intermediate("CRL Issuer", testca.KeyUsage(true, testca.CRLSign))
		w := world{root, inter, inter.Leaf("Alice", byOther)}
		crl := forged.CRL(testca.CRL{IDP: testca.IDP{Indirect: true}.DER()})
		if err := w.judgeWithCRLs(t, Options{}, false, []*testca.Cert{&forged.Cert, &elsewhere.Cert}, rootCRL, crl); ReasonOf(err) != ReasonRevocationUnknown {
			t.Errorf("got %v", err)
		}
	})
}
