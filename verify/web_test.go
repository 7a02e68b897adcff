package verify_test

import (
	"fmt"
	"testing"
	"time"

	"pam_pkcs11/internal/certinfo"
	"pam_pkcs11/internal/testca"
	"pam_pkcs11/verify"
	"pam_pkcs11/verify/path"
)

// webOfCAs is CAs of which each has certified each other, and one of them by the root.
func webOfCAs(t testing.TB, root *testca.CA, n int) (cas []*testca.CA, certs []*testca.Cert) {
	t.Helper()
	for i := range n {
		cas = append(cas, testca.NewRoot(fmt.Sprintf("Web %d", i)))
	}
	for i, above := range cas {
		for k, below := range cas {
			if i != k {
				certs = append(certs, &above.Intermediate(fmt.Sprintf("Web %d", k), testca.WithKey(below.Key)).Cert)
			}
		}
		certs = append(certs, &root.Intermediate(fmt.Sprintf("Web %d", i), testca.WithKey(above.Key)).Cert)
	}
	return cas, certs
}

// TestRevokedEndsTheSearch: in a web of CAs a certificate is revoked on the first path, and no
// other is tried.
func TestRevokedEndsTheSearch(t *testing.T) {
	root := testca.NewRoot("Root")
	cas, certs := webOfCAs(t, root, 5)
	leaf := cas[0].Leaf("Alice")
	past := time.Now().Add(-48 * time.Hour)
	lists := func(own testca.CRL, others bool) [][]byte {
		crls := [][]byte{root.CRL(testca.CRL{}), cas[0].CRL(own)}
		for _, ca := range cas[1:] {
			if others {
				crls = append(crls, ca.CRL(testca.CRL{}))
			}
		}
		return crls
	}
	var revokedCAs []testca.Revoked
	for _, c := range certs {
		revokedCAs = append(revokedCAs, revoked(c, 2)...)
	}
	for name, tt := range map[string]struct {
		crls  [][]byte
		want  verify.Reason
		paths int
	}{
		"revoked":                      {lists(testca.CRL{Entries: revoked(leaf, 1)}, true), verify.ReasonRevoked, 1},
		"revoked, CAs not known":       {lists(testca.CRL{Entries: revoked(leaf, 1)}, false), verify.ReasonRevoked, 1},
		"revoked, and the CA":          {append(lists(testca.CRL{Entries: revoked(leaf, 1)}, true)[1:], root.CRL(testca.CRL{Entries: revokedCAs})), verify.ReasonRevoked, 1},
		"not known":                    {lists(testca.CRL{ThisUpdate: past, NextUpdate: past.Add(time.Hour)}, true), verify.ReasonRevocationUnknown, path.MaxPaths + 1},
		"each CA of the root: revoked": {append(lists(testca.CRL{}, true)[1:], root.CRL(testca.CRL{Entries: revokedCAs})), verify.ReasonRevoked, len(cas)},
		"good":                         {lists(testca.CRL{}, true), "", 1},
	} {
		v := withPolicy(t, verify.Options{}, append([]*testca.Cert{&root.Cert}, certs...)...)
		withCRLs(t, v, tt.crls...)
		s := v.Finder().Search(t.Context(), time.Now(), nil)
		_, err := s.Find(parsed(t, leaf))
		switch {
		case tt.want == "" && err != nil, tt.want != "" && (err == nil || err.Reason != tt.want):
			t.Errorf("%s: %v", name, err)
		case s.Paths() > tt.paths:
			t.Errorf("%s: %d paths were tried, expected %d", name, s.Paths(), tt.paths)
		}
	}
}

// withPolicy makes a verifier with the revocation of logins, and no source yet.
func withPolicy(t testing.TB, o verify.Options, certs ...*testca.Cert) *verify.Verifier {
	t.Helper()
	v := trusting(t, o, certs...)
	v.UseRevocation(o.Soft, o.CRLLeafOnly)
	return v
}

// TestRevokedCAIsNoWay: of two ways to the root, over two certificates of one CA, the one that is
// revoked is not tried again.
func TestRevokedCAIsNoWay(t *testing.T) {
	root := testca.NewRoot("Root")
	inter := root.Intermediate("Inter")
	again := root.Intermediate("Inter", testca.WithKey(inter.Key))
	v := withPolicy(t, verify.Options{}, &root.Cert)
	withCRLs(t, v, root.CRL(testca.CRL{Entries: revoked(&inter.Cert, 4)}), inter.CRL(testca.CRL{}))
	for _, card := range [][]*testca.Cert{{&inter.Cert, &again.Cert}, {&again.Cert, &inter.Cert}} {
		var certs []*certinfo.Certificate
		for _, c := range card {
			certs = append(certs, parsed(t, c))
		}
		if _, err := v.Check(t.Context(), parsed(t, inter.Leaf("Alice")), certs); err != nil {
			t.Error(err)
		}
	}
	if _, err := v.Check(t.Context(), parsed(t, inter.Leaf("Alice")), []*certinfo.Certificate{parsed(t, &inter.Cert)}); verify.ReasonOf(err) != verify.ReasonRevoked {
		t.Errorf("got %v", err)
	}
}
