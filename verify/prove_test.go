package verify_test

import (
	"crypto"
	"crypto/elliptic"
	"math/big"
	"testing"

	"pam_pkcs11/internal/certinfo"
	"pam_pkcs11/internal/testca"
	"pam_pkcs11/verify"
)

func TestCheckSignature(t *testing.T) {
	rsaKey := testca.RSA(2048, "proof")
	pssKey := testca.OpenSSL("rsa-pss", "rsa_keygen_bits:2048")
	limited := testca.OpenSSL("rsa-pss", "rsa_keygen_bits:2048", "rsa_pss_keygen_md:sha256", "rsa_pss_keygen_mgf1_md:sha256", "rsa_pss_keygen_saltlen:32")
	pss := func(hash crypto.Hash, salt int) certinfo.SignatureScheme {
		return certinfo.SignatureScheme{Kind: certinfo.SchemeRSAPSS, Hash: hash, SaltLength: salt}
	}
	mixed := func(salt int) certinfo.SignatureScheme {
		return certinfo.SignatureScheme{Kind: certinfo.SchemeRSAPSS, Hash: crypto.SHA256, MGFHash: crypto.SHA1, SaltLength: salt}
	}
	odd := testca.OpenSSL("rsa", "rsa_keygen_bits:2049") // its encoded message is an octet shorter than its modulus
	ecdsa := func(hash crypto.Hash) certinfo.SignatureScheme {
		return certinfo.SignatureScheme{Kind: certinfo.SchemeECDSA, Hash: hash}
	}
	pkcs1 := func(hash crypto.Hash) certinfo.SignatureScheme {
		return certinfo.SignatureScheme{Kind: certinfo.SchemeRSAPKCS1v15, Hash: hash}
	}
	tests := []struct {
		name   string
		key    *testca.Key
		with   testca.Scheme
		scheme certinfo.SignatureScheme
		want   verify.Reason
	}{
		{"RSA PKCS #1 v1.5", rsaKey, testca.Scheme{}, pkcs1(crypto.SHA256), ""},
		{"RSA PKCS #1 v1.5 SHA-512", rsaKey, testca.Scheme{Hash: crypto.SHA512}, pkcs1(crypto.SHA512), ""},
		{"RSA SHA-1", rsaKey, testca.Scheme{Hash: crypto.SHA1}, pkcs1(crypto.SHA1), verify.ReasonWeakSignature},
		{"RSA other hash than said", rsaKey, testca.Scheme{Hash: crypto.SHA512}, pkcs1(crypto.SHA256), verify.ReasonBadSignature},
		{"RSA-PSS salt as the hash", rsaKey, testca.Scheme{PSS: true, Salt: -1}, pss(crypto.SHA256, 32), ""},
		{"RSA-PSS salt of 20", rsaKey, testca.Scheme{PSS: true, Salt: 20}, pss(crypto.SHA256, 20), ""},
		{"RSA-PSS any salt", rsaKey, testca.Scheme{PSS: true, Salt: 11}, pss(crypto.SHA256, certinfo.SaltAny), ""},
		{"RSA-PSS other salt than said", rsaKey, testca.Scheme{PSS: true, Salt: 20}, pss(crypto.SHA256, 32), verify.ReasonBadSignature},
		{"RSA-PSS salt where none is said", rsaKey, testca.Scheme{PSS: true, Salt: 20}, pss(crypto.SHA256, 0), verify.ReasonBadSignature},
		{"RSA-PSS key", pssKey, testca.Scheme{PSS: true, Salt: 32}, pss(crypto.SHA256, 32), ""},
		{"RSA-PSS key without salt", pssKey, testca.Scheme{PSS: true, Salt: 0}, pss(crypto.SHA256, 0), ""},
		{"RSA-PSS key, mask by SHA-1", pssKey, testca.Scheme{PSS: true, Salt: 32, MGF: crypto.SHA1}, mixed(32), ""},
		{"RSA-PSS key, mask by SHA-1, any salt", pssKey, testca.Scheme{PSS: true, Salt: 20, MGF: crypto.SHA1}, mixed(certinfo.SaltAny), ""},
		{"RSA-PSS key, mask by SHA-1, other salt", pssKey, testca.Scheme{PSS: true, Salt: 20, MGF: crypto.SHA1}, mixed(21), verify.ReasonBadSignature},
		{"RSA-PSS key, other mask than said", pssKey, testca.Scheme{PSS: true, Salt: 32, MGF: crypto.SHA1}, pss(crypto.SHA256, 32), verify.ReasonBadSignature},
		{"RSA-PSS of 2049 bits", odd, testca.Scheme{PSS: true, Salt: 0}, pss(crypto.SHA256, 0), ""},
		{"RSA-PSS key may not sign with PKCS #1 v1.5", pssKey, testca.Scheme{PSS: true, Salt: 32}, pkcs1(crypto.SHA256), verify.ReasonKeyUnsupported},
		{"RSA-PSS key with parameters", limited, testca.Scheme{PSS: true, Salt: 32}, pss(crypto.SHA256, 32), ""},
		{"RSA-PSS key with parameters, other hash", limited, testca.Scheme{PSS: true, Salt: 32}, pss(crypto.SHA512, 32), verify.ReasonKeyUnsupported},
		{"P-256", testca.P256(), testca.Scheme{}, ecdsa(crypto.SHA256), ""},
		{"P-384", testca.EC(elliptic.P384()), testca.Scheme{}, ecdsa(crypto.SHA384), ""},
		{"P-521", testca.EC(elliptic.P521()), testca.Scheme{}, ecdsa(crypto.SHA512), ""},
		{"Ed25519", testca.Ed25519(), testca.Scheme{}, certinfo.SignatureScheme{Kind: certinfo.SchemeEd25519}, ""},
		{"Ed25519 key and ECDSA", testca.Ed25519(), testca.Scheme{}, ecdsa(crypto.SHA256), verify.ReasonKeyUnsupported},
		{"Ed448", testca.OpenSSL("ed448"), testca.Scheme{}, certinfo.SignatureScheme{Kind: certinfo.SchemeEd448}, ""},
		{"brainpoolP256r1", testca.OpenSSL("ec", "ec_paramgen_curve:brainpoolP256r1"), testca.Scheme{}, ecdsa(crypto.SHA256), ""},
		{"brainpoolP256r1 SHA-512", testca.OpenSSL("ec", "ec_paramgen_curve:brainpoolP256r1"), testca.Scheme{Hash: crypto.SHA512}, ecdsa(crypto.SHA512), ""},
		{"brainpoolP384r1", testca.OpenSSL("ec", "ec_paramgen_curve:brainpoolP384r1"), testca.Scheme{Hash: crypto.SHA384}, ecdsa(crypto.SHA384), ""},
		{"brainpoolP512r1", testca.OpenSSL("ec", "ec_paramgen_curve:brainpoolP512r1"), testca.Scheme{Hash: crypto.SHA512}, ecdsa(crypto.SHA512), ""},
		{"no scheme", testca.P256(), testca.Scheme{}, certinfo.SignatureScheme{}, verify.ReasonKeyUnsupported},
		{"no hash", testca.P256(), testca.Scheme{}, ecdsa(0), verify.ReasonKeyUnsupported},
	}
	message := []byte("a fresh challenge")
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			cert := parsed(t, testca.NewRoot("R").Leaf("Alice", testca.WithKey(tt.key)))
			_, signature := tt.key.Sign(tt.with, message)
			if err := verify.CheckSignature(cert, tt.scheme, message, signature); verify.ReasonOf(err) != tt.want || (err == nil) != (tt.want == "") {
				t.Fatalf("got %v", err)
			}
			if tt.want != "" {
				return
			}
			for what, bad := range map[string][2][]byte{
				"other message":      {[]byte("another challenge"), signature},
				"no signature":       {message, nil},
				"cut signature":      {message, signature[:len(signature)-1]},
				"one bit":            {message, append(append([]byte(nil), signature[:len(signature)-1]...), signature[len(signature)-1]^1)},
				"octet more":         {message, append(append([]byte(nil), signature...), 0)},
				"all zero":           {message, make([]byte, len(signature))},
				"64 KiB of nonsense": {message, make([]byte, 1<<16)},
			} {
				if err := verify.CheckSignature(cert, tt.scheme, bad[0], bad[1]); verify.ReasonOf(err) != verify.ReasonBadSignature {
					t.Errorf("%s: %v", what, err)
				}
			}
		})
	}
}

// TestProofWithAnotherKey: a copied certificate with a key of one's own (CVE-2025-24032).
func TestProofWithAnotherKey(t *testing.T) {
	cert := parsed(t, testca.NewRoot("R").Leaf("Alice"))
	_, signature := testca.P256().Sign(testca.Scheme{}, []byte("challenge"))
	err := verify.CheckSignature(cert, certinfo.SignatureScheme{Kind: certinfo.SchemeECDSA, Hash: crypto.SHA256}, []byte("challenge"), signature)
	if verify.ReasonOf(err) != verify.ReasonBadSignature {
		t.Errorf("got %v", err)
	}
}

func TestECDSABorders(t *testing.T) {
	key := testca.OpenSSL("ec", "ec_paramgen_curve:brainpoolP256r1")
	cert := parsed(t, testca.NewRoot("R").Leaf("Alice", testca.WithKey(key)))
	n, _ := new(big.Int).SetString("A9FB57DBA1EEA9BC3E660A909D838D718C397AA3B561A6F7901E0E82974856A7", 16) // RFC 5639, 3.4
	zero, one := new(big.Int), big.NewInt(1)
	for name, rs := range map[string][2]*big.Int{"r = 0": {zero, one}, "s = 0": {one, zero}, "r = n": {n, one}, "s = n": {one, n},
		"negative": {big.NewInt(-1), one}, "huge": {new(big.Int).Lsh(one, 5000), one}} {
		signature := testca.Sequence(testca.Integer(rs[0]), testca.Integer(rs[1]))
		if err := verify.CheckSignature(cert, certinfo.SignatureScheme{Kind: certinfo.SchemeECDSA, Hash: crypto.SHA256}, []byte("m"), signature); verify.ReasonOf(err) != verify.ReasonBadSignature {
			t.Errorf("%s: %v", name, err)
		}
	}
	spki := append([]byte(nil), key.SPKI...)
	spki[len(spki)-1] ^= 1
	off := parsed(t, testca.NewRoot("R").Leaf("Alice", testca.WithKey(key), testca.WithSPKI(spki)))
	_, signature := key.Sign(testca.Scheme{}, []byte("m"))
	if err := verify.CheckSignature(off, certinfo.SignatureScheme{Kind: certinfo.SchemeECDSA, Hash: crypto.SHA256}, []byte("m"), signature); err == nil {
		t.Error("a point that is not on the curve")
	}
}
