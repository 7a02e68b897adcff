package ldap

import (
	"testing"

	"pam_pkcs11/config/mappers"
	"pam_pkcs11/internal/ldapconn"
	"pam_pkcs11/mapper/internal/mappertest"
)

func FuzzAttributeMap(f *testing.F) {
	certs := mappertest.CertmapCertificates(f)
	for _, seed := range []string{"mail=email", "mail=email&cn=cn", "userCertificate;binary=cert", "a=altsecid&b=sid", "a=", "mail=em", "a=&b=cn", "1.2.3;x-y=c"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		conditions, err := mappers.ParseConditions(text)
		if err != nil {
			return
		}
		e := Element{text: text, Clauses: conditions}
		for _, c := range certs {
			filter, err := e.Filter(c, true)
			if err != nil || filter == "" {
				continue
			}
			if _, err := ldapconn.ParseFilter(filter); err != nil {
				t.Fatalf("%q: %v", text, err)
			}
		}
	})
}
