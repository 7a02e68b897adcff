//go:build cgo

package pkcs11_test

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"errors"
	"slices"
	"testing"

	"pam_pkcs11/internal/testca"
	"pam_pkcs11/pkcs11"
	"pam_pkcs11/pkcs11/pkcs11test"
)

// TestKeyOfARenewedCertificate: a renewed certificate has a CKA_ID of its own, and the key that of the first one.
func TestKeyOfARenewedCertificate(t *testing.T) {
	for name, key := range map[string]*testca.Key{"RSA": testca.RSA(2048, "card"), "P-256": testca.P256(), "Ed25519": testca.Ed25519()} {
		other := testca.EC(p384)
		renewed := pkcs11test.Object{Label: "renewed", ID: []byte("new"), Cert: authority.Leaf("alice", testca.WithKey(key)).DER}
		private := pkcs11test.Object{Label: "key", ID: []byte("old"), Key: key.Private}
		public := private
		public.Key, public.Public = nil, publicOf(key.Private)
		old := private
		old.Cert = authority.Leaf("alice", testca.WithKey(key), testca.Serial(1), testca.Expired()).DER
		stranger := pkcs11test.Object{Label: "other", ID: []byte("other"), Key: other.Private, Public: publicOf(other.Private)}
		tests := map[string]struct {
			objects []pkcs11test.Object
			found   bool
		}{
			"by the public key":            {[]pkcs11test.Object{renewed, stranger, public, private}, true},
			"by the first certificate":     {[]pkcs11test.Object{renewed, stranger, old}, true},
			"by the key itself":            {[]pkcs11test.Object{renewed, stranger, private}, name == "RSA"}, // SoftHSM keeps no points
			"a key of somebody else's":     {[]pkcs11test.Object{renewed, stranger}, false},
			"a public key without private": {[]pkcs11test.Object{renewed, stranger, public}, false},
		}
		for way, tt := range tests {
			t.Run(name+" "+way, func(t *testing.T) {
				var calls []string
				s := open(t, load(t, card(t, tt.objects...), func(c string) { calls = append(calls, c) }), false)
				if err := s.Login(pinOf(t, rightPIN)); err != nil {
					t.Fatal(err)
				}
				objects, err := s.Certificates()
				if err != nil {
					t.Fatal(err)
				}
				cert := objects[slices.IndexFunc(objects, func(o pkcs11.Object) bool { return string(o.ID) == "new" })]
				k, err := s.SigningKey(cert)
				if tt.found != (err == nil) || err != nil && !errors.Is(err, pkcs11.ErrNoKey) {
					t.Fatalf("%v", err)
				}
				if err != nil {
					return
				}
				sig, err := s.Sign(k, cert.Cert, []byte("m"), nil)
				if err != nil || !verify(cert.Cert, []byte("m"), sig) {
					t.Errorf("the key found is another's: %v", err)
				}
			})
		}
	}
}

func publicOf(private any) any {
	switch k := private.(type) {
	case *rsa.PrivateKey:
		return &k.PublicKey
	case *ecdsa.PrivateKey:
		return &k.PublicKey
	case ed25519.PrivateKey:
		return k.Public()
	}
	return nil
}
