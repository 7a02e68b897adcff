package path

import (
	"testing"

	"pam_pkcs11/internal/certinfo"
	"pam_pkcs11/internal/testca"
	"pam_pkcs11/verify/internal/rules"
)

// FuzzValidate walks paths of certificates whose signatures are taken as good, so that names, policies and constraints
// of any form are reached.
func FuzzValidate(f *testing.F) {
	root := testca.NewRoot("Root", testca.NameConstraints([][]byte{testca.DNS("example.com"), testca.UPN("example.com")}, [][]byte{testca.Email("x")}))
	inter := root.Intermediate("Inter", testca.Policies(false, "1.2.1", testca.AnyPolicy), testca.PolicyMappings("1.2.1", "1.2.2"),
		testca.PolicyConstraints(1, 1), testca.InhibitAnyPolicy(0), testca.NameConstraints(nil, [][]byte{testca.IP(1, 2, 3, 4, 255, 255, 0, 0)}))
	leaf := inter.Leaf("Alice", testca.Policies(false, "1.2.2"), testca.SAN(testca.UPN("a@example.com"), testca.DNS("a.example.com"),
		testca.URI("http://h/"), testca.IP(1, 2, 3, 4), testca.Directory(testca.DN("CN=x"))))
	f.Add(inter.DER, leaf.DER)
	f.Add(leaf.DER, inter.DER)
	anchor := parsed(f, &root.Cert)
	f.Fuzz(func(t *testing.T, interDER, leafDER []byte) {
		inter, err := certinfo.Parse(interDER)
		if err != nil {
			return
		}
		leaf, err := certinfo.Parse(leafDER)
		if err != nil {
			return
		}
		s := (&Finder{Rules: rules.Rules{MinRSABits: 2048}, Store: NewStore()}).Search(t.Context(), inter.NotBefore, nil)
		s.verified[pair{inter, anchor}], s.verified[pair{leaf, inter}] = nil, nil
		_ = s.validateChain(&Path{certs: []*certinfo.Certificate{anchor, inter, leaf}})
		var names nameState
		for _, c := range []*certinfo.Certificate{inter, leaf} {
			_ = names.add(c)
			_ = names.check(c)
		}
	})
}
