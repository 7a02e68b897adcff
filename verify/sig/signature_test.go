package sig

import (
	"crypto"
	"crypto/rsa"
	"math/big"
	"testing"

	"pam_pkcs11/internal/certinfo"
	"pam_pkcs11/internal/testca"
)

// TestBrainpoolConstants: each base point lies on its curve and has the order of the curve.
func TestBrainpoolConstants(t *testing.T) {
	for _, name := range []string{"brainpoolP256r1", "brainpoolP384r1", "brainpoolP512r1"} {
		c := brainpoolCurve(name)
		if !c.p.ProbablyPrime(20) || !c.n.ProbablyPrime(20) || !c.onCurve(c.gx, c.gy) {
			t.Errorf("%s: parameters", name)
		}
		if c.combine(c.n, new(big.Int), c.gx, c.gy).z.Sign() != 0 {
			t.Errorf("%s: order", name)
		}
		if sum := c.combine(new(big.Int).Sub(c.n, big.NewInt(1)), big.NewInt(1), c.gx, c.gy); sum.z.Sign() != 0 {
			t.Errorf("%s: (n-1)G + G", name)
		}
		if sum := c.combine(big.NewInt(2), big.NewInt(1), c.gx, c.gy); sum.z.Sign() == 0 {
			t.Errorf("%s: 3G", name)
		}
	}
	if brainpoolCurve("brainpoolP160r1") != nil {
		t.Error("unknown curve")
	}
}

// TestVerifyPSSAgrees holds our RSASSA-PSS against that of the standard library, where both can judge.
func TestVerifyPSSAgrees(t *testing.T) {
	key := testca.RSA(2048, "proof")
	cert, err := certinfo.Parse(testca.NewRoot("R").Leaf("Alice", testca.WithKey(key)).DER)
	if err != nil {
		t.Fatal(err)
	}
	digest := crypto.SHA256.New()
	digest.Write([]byte("message"))
	for _, salt := range []int{1, 20, 32, 222} {
		_, signature := key.Sign(testca.Scheme{PSS: true, Salt: salt}, []byte("message"))
		for _, said := range []int{salt, salt + 1, certinfo.SaltAny} {
			scheme := certinfo.SignatureScheme{Kind: certinfo.SchemeRSAPSS, Hash: crypto.SHA256, SaltLength: said}
			ours := verifyPSS(cert.PublicKey.(*rsa.PublicKey), scheme, digest.Sum(nil), signature)
			theirs := checkPSS(cert.PublicKey.(*rsa.PublicKey), scheme, digest.Sum(nil), signature) == nil
			if ours != theirs || ours != (said != salt+1) {
				t.Errorf("salt %d, said %d: ours %v, theirs %v", salt, said, ours, theirs)
			}
		}
	}
}
