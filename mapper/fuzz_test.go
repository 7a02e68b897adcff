package mapper_test

import (
	"strings"
	"testing"

	"pam_pkcs11/internal/certinfo"
	"pam_pkcs11/internal/testca"
	"pam_pkcs11/mapper"
	"pam_pkcs11/mapper/internal/mappertest"
)

// FuzzAlternativeNames lets every mapper of names read any subjectAltName: none may name somebody whom no text of it
// spells, and with a mapfile nobody who is not listed.
func FuzzAlternativeNames(f *testing.F) {
	f.Add(testca.Sequence(testca.UPN("alice@example.com"), testca.Email("bob@example.com"), testca.Principal("EX", "alice")))
	f.Add(testca.Sequence(testca.UPN("alice\x00@example.com"), testca.Other("1.3.6.1.5.2.2", testca.UTF8("alice"))))
	f.Add(testca.Sequence(testca.Other("1.3.6.1.4.1.311.20.2.3", testca.TLV(0x1e, []byte{0, 'a', 0, '@', 0, 'b'}))))
	f.Add(testca.Sequence(testca.Email("a@b@c"), testca.Email("@"), testca.URI("x:"), testca.DNS("h")))
	free := []*mapper.Chain{
		chain(f, block(f, "mail", nil, set("ignorecase", "false"))), chain(f, block(f, "ms", nil, set("ignoredomain", "true"))),
		chain(f, block(f, "upn", nil, nil)), chain(f, block(f, "krb", nil, set("realm", "EX"))), chain(f, block(f, "generic", nil, set("cert_item", "email"))),
	}
	var bound []*mapper.Chain
	for _, typ := range []string{"mail", "upn", "krb"} {
		bound = append(bound, chain(f, block(f, typ, []string{"one@example.com -> alice", "two -> bob"}, set("ignorecase", "false"))))
	}
	f.Fuzz(func(t *testing.T, san []byte) {
		cert, err := certinfo.Parse(mappertest.CA.Bare("x", testca.WithKey(mappertest.CA.Key), testca.WithExtension("2.5.29.17", false, san)).DER)
		if err != nil {
			return
		}
		texts := goodTexts(cert)
		spelt := map[string]bool{}
		for _, text := range texts {
			spelt[text] = true
			spelt[strings.SplitN(text, "@", 2)[0]] = true
		}
		for _, user := range []string{"", "alice", "bob", "root"} {
			for _, c := range free {
				if r, err := match(c, cert, user); err == nil && !spelt[r.User] {
					t.Fatalf("%s named %q; the certificate spells %q", r.Mapper, r.User, texts)
				}
			}
			for _, c := range bound {
				r, err := match(c, cert, user)
				if err == nil && !spelt[map[string]string{"alice": "one@example.com", "bob": "two"}[r.User]] {
					t.Fatalf("%s named %q; the certificate spells %q", r.Mapper, r.User, texts)
				}
			}
		}
	})
}
