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
		return certinfo.SignatureScheme{
			Kind: certinfo.SchemeRSAPSS, Hash: crypto.SHA256, MGFHash: crypto.SHA1,
			SaltLength: salt,
		}
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
		{
			name: "RSA PKCS #1 v1.5", key: rsaKey, with: testca.Scheme{},
			scheme: pkcs1(crypto.SHA256),
		},
		{
			name: "RSA PKCS #1 v1.5 SHA-512", key: rsaKey, with: testca.Scheme{Hash: crypto.SHA512},
			scheme: pkcs1(crypto.SHA512),
		},
		{
			name: "RSA SHA-1", key: rsaKey, with: testca.Scheme{Hash: crypto.SHA1},
			scheme: pkcs1(crypto.SHA1), want: verify.ReasonWeakSignature,
		},
		{
			name: "RSA other hash than said", key: rsaKey, with: testca.Scheme{Hash: crypto.SHA512},
			scheme: pkcs1(crypto.SHA256), want: verify.ReasonBadSignature,
		},
		{
			name: "RSA-PSS salt as the hash", key: rsaKey, with: testca.Scheme{PSS: true, Salt: -1},
			scheme: pss(crypto.SHA256, 32),
		},
		{
			name: "RSA-PSS salt of 20", key: rsaKey, with: testca.Scheme{PSS: true, Salt: 20},
			scheme: pss(crypto.SHA256, 20),
		},
		{
			name: "RSA-PSS any salt", key: rsaKey, with: testca.Scheme{PSS: true, Salt: 11},
			scheme: pss(crypto.SHA256, certinfo.SaltAny),
		},
		{
			name: "RSA-PSS other salt than said", key: rsaKey,
			with: testca.Scheme{PSS: true, Salt: 20}, scheme: pss(crypto.SHA256, 32),
			want: verify.ReasonBadSignature,
		},
		{
			name: "RSA-PSS salt where none is said", key: rsaKey,
			with: testca.Scheme{PSS: true, Salt: 20}, scheme: pss(crypto.SHA256, 0),
			want: verify.ReasonBadSignature,
		},
		{
			name: "RSA-PSS key", key: pssKey, with: testca.Scheme{PSS: true, Salt: 32},
			scheme: pss(crypto.SHA256, 32),
		},
		{
			name: "RSA-PSS key without salt", key: pssKey, with: testca.Scheme{PSS: true, Salt: 0},
			scheme: pss(crypto.SHA256, 0),
		},
		{
			name: "RSA-PSS key, mask by SHA-1", key: pssKey,
			with: testca.Scheme{PSS: true, Salt: 32, MGF: crypto.SHA1}, scheme: mixed(32),
		},
		{
			name: "RSA-PSS key, mask by SHA-1, any salt", key: pssKey,
			with:   testca.Scheme{PSS: true, Salt: 20, MGF: crypto.SHA1},
			scheme: mixed(certinfo.SaltAny),
		},
		{
			name: "RSA-PSS key, mask by SHA-1, other salt", key: pssKey,
			with: testca.Scheme{PSS: true, Salt: 20, MGF: crypto.SHA1}, scheme: mixed(21),
			want: verify.ReasonBadSignature,
		},
		{
			name: "RSA-PSS key, other mask than said", key: pssKey,
			with:   testca.Scheme{PSS: true, Salt: 32, MGF: crypto.SHA1},
			scheme: pss(crypto.SHA256, 32), want: verify.ReasonBadSignature,
		},
		{
			name: "RSA-PSS of 2049 bits", key: odd, with: testca.Scheme{PSS: true, Salt: 0},
			scheme: pss(crypto.SHA256, 0),
		},
		{
			name: "RSA-PSS key may not sign with PKCS #1 v1.5", key: pssKey,
			with: testca.Scheme{PSS: true, Salt: 32}, scheme: pkcs1(crypto.SHA256),
			want: verify.ReasonKeyUnsupported,
		},
		{
			name: "RSA-PSS key with parameters", key: limited,
			with: testca.Scheme{PSS: true, Salt: 32}, scheme: pss(crypto.SHA256, 32),
		},
		{
			name: "RSA-PSS key with parameters, other hash", key: limited,
			with: testca.Scheme{PSS: true, Salt: 32}, scheme: pss(crypto.SHA512, 32),
			want: verify.ReasonKeyUnsupported,
		},
		{name: "P-256", key: testca.P256(), with: testca.Scheme{}, scheme: ecdsa(crypto.SHA256)},
		{
			name: "P-384", key: testca.EC(elliptic.P384()), with: testca.Scheme{},
			scheme: ecdsa(crypto.SHA384),
		},
		{
			name: "P-521", key: testca.EC(elliptic.P521()), with: testca.Scheme{},
			scheme: ecdsa(crypto.SHA512),
		},
		{
			name: "Ed25519", key: testca.Ed25519(), with: testca.Scheme{},
			scheme: certinfo.SignatureScheme{Kind: certinfo.SchemeEd25519},
		},
		{
			name: "Ed25519 key and ECDSA", key: testca.Ed25519(), with: testca.Scheme{},
			scheme: ecdsa(crypto.SHA256), want: verify.ReasonKeyUnsupported,
		},
		{
			name: "Ed448", key: testca.OpenSSL("ed448"), with: testca.Scheme{},
			scheme: certinfo.SignatureScheme{Kind: certinfo.SchemeEd448},
		},
		{
			name: "brainpoolP256r1", key: testca.OpenSSL("ec", "ec_paramgen_curve:brainpoolP256r1"),
			with: testca.Scheme{}, scheme: ecdsa(crypto.SHA256),
		},
		{
			name: "brainpoolP256r1 SHA-512",
			key:  testca.OpenSSL("ec", "ec_paramgen_curve:brainpoolP256r1"),
			with: testca.Scheme{Hash: crypto.SHA512}, scheme: ecdsa(crypto.SHA512),
		},
		{
			name: "brainpoolP384r1", key: testca.OpenSSL("ec", "ec_paramgen_curve:brainpoolP384r1"),
			with: testca.Scheme{Hash: crypto.SHA384}, scheme: ecdsa(crypto.SHA384),
		},
		{
			name: "brainpoolP512r1", key: testca.OpenSSL("ec", "ec_paramgen_curve:brainpoolP512r1"),
			with: testca.Scheme{Hash: crypto.SHA512}, scheme: ecdsa(crypto.SHA512),
		},
		{
			name: "no scheme", key: testca.P256(), with: testca.Scheme{},
			scheme: certinfo.SignatureScheme{}, want: verify.ReasonKeyUnsupported,
		},
		{
			name: "no hash", key: testca.P256(), with: testca.Scheme{}, scheme: ecdsa(0),
			want: verify.ReasonKeyUnsupported,
		},
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
