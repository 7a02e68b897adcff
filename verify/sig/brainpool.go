package sig

import (
	"errors"
	"math/big"

	"pam_pkcs11/internal/certinfo"
)

// ECDSA over the brainpool curves of RFC 5639, which German and other national cards have and Go
// does not. Only verification: no secret passes through here, so the arithmetic need not hide its
// timing.

// weierstrass is a curve y^2 = x^3 + ax + b over the field of p, with a base point of prime order n
// (cofactor 1).
type weierstrass struct{ p, a, b, gx, gy, n *big.Int }

// fromHex reads a constant of a curve.
func fromHex(s string) *big.Int {
	n, ok := new(big.Int).SetString(s, 16)
	if !ok {
		panic("verify: curve constant " + s)
	}
	return n
}

// brainpoolCurve returns the domain parameters of RFC 5639, 3.4, 3.6 and 3.7; nil for any other
// name.
func brainpoolCurve(name string) *weierstrass {
	constants, ok := map[string][6]string{
		"brainpoolP256r1": {
			"A9FB57DBA1EEA9BC3E660A909D838D726E3BF623D52620282013481D1F6E5377",
			"7D5A0975FC2C3057EEF67530417AFFE7FB8055C126DC5C6CE94A4B44F330B5D9",
			"26DC5C6CE94A4B44F330B5D9BBD77CBF958416295CF7E1CE6BCCDC18FF8C07B6",
			"8BD2AEB9CB7E57CB2C4B482FFC81B7AFB9DE27E1E3BD23C23A4453BD9ACE3262",
			"547EF835C3DAC4FD97F8461A14611DC9C27745132DED8E545C1D54C72F046997",
			"A9FB57DBA1EEA9BC3E660A909D838D718C397AA3B561A6F7901E0E82974856A7",
		},
		"brainpoolP384r1": {
			"8CB91E82A3386D280F5D6F7E50E641DF152F7109ED5456B412B1DA197FB71123ACD3A729901D1A71874700133107EC53",
			"7BC382C63D8C150C3C72080ACE05AFA0C2BEA28E4FB22787139165EFBA91F90F8AA5814A503AD4EB04A8C7DD22CE2826",
			"04A8C7DD22CE28268B39B55416F0447C2FB77DE107DCD2A62E880EA53EEB62D57CB4390295DBC9943AB78696FA504C11",
			"1D1C64F068CF45FFA2A63A81B7C13F6B8847A3E77EF14FE3DB7FCAFE0CBD10E8E826E03436D646AAEF87B2E247D4AF1E",
			"8ABE1D7520F9C2A45CB1EB8E95CFD55262B70B29FEEC5864E19C054FF99129280E4646217791811142820341263C5315",
			"8CB91E82A3386D280F5D6F7E50E641DF152F7109ED5456B31F166E6CAC0425A7CF3AB6AF6B7FC3103B883202E9046565",
		},
		"brainpoolP512r1": {
			"AADD9DB8DBE9C48B3FD4E6AE33C9FC07CB308DB3B3C9D20ED6639CCA703308717D4D9B009BC66842AECDA12AE6A380E62881FF2F2D82C68528AA6056583A48F3",
			"7830A3318B603B89E2327145AC234CC594CBDD8D3DF91610A83441CAEA9863BC2DED5D5AA8253AA10A2EF1C98B9AC8B57F1117A72BF2C7B9E7C1AC4D77FC94CA",
			"3DF91610A83441CAEA9863BC2DED5D5AA8253AA10A2EF1C98B9AC8B57F1117A72BF2C7B9E7C1AC4D77FC94CADC083E67984050B75EBAE5DD2809BD638016F723",
			"81AEE4BDD82ED9645A21322E9C4C6A9385ED9F70B5D916C1B43B62EEF4D0098EFF3B1F78E2D0D48D50D1687B93B97D5F7C6D5047406A5E688B352209BCB9F822",
			"7DDE385D566332ECC0EABFA9CF7822FDF209F70024A57B1AA000C55B881F8111B2DCDE494A5F485E5BCA4BD88A2763AED1CA2B2FA8F0540678CD1E0F3AD80892",
			"AADD9DB8DBE9C48B3FD4E6AE33C9FC07CB308DB3B3C9D20ED6639CCA70330870553E5C414CA92619418661197FAC10471DB1D381085DDADDB58796829CA90069",
		},
	}[name]
	if !ok {
		return nil
	}

	numbers := [6]*big.Int{}
	for i, hex := range constants {
		numbers[i] = fromHex(hex)
	}
	return &weierstrass{
		p:  numbers[0],
		a:  numbers[1],
		b:  numbers[2],
		gx: numbers[3],
		gy: numbers[4],
		n:  numbers[5],
	}
}

// onCurve reports whether the affine point lies on the curve.
func (c *weierstrass) onCurve(x, y *big.Int) bool {
	negative := x.Sign() < 0 || y.Sign() < 0
	if negative || x.Cmp(c.p) >= 0 || y.Cmp(c.p) >= 0 {
		return false
	}

	right := new(big.Int).Mul(x, x)
	right.Add(right, c.a).Mul(right, x).Add(right, c.b)
	right.Sub(right, new(big.Int).Mul(y, y))
	return right.Mod(right, c.p).Sign() == 0
}

// jacobian is a point (X/Z^2, Y/Z^3); Z = 0 is the point at infinity.
type jacobian struct{ x, y, z *big.Int }

// mul returns a*b in the field.
func (c *weierstrass) mul(a, b *big.Int) *big.Int {
	m := new(big.Int).Mul(a, b)
	return m.Mod(m, c.p)
}

// sub returns a-b in the field.
func (c *weierstrass) sub(a, b *big.Int) *big.Int {
	m := new(big.Int).Sub(a, b)
	return m.Mod(m, c.p)
}

// double returns 2q (the general doubling formulas for Jacobian coordinates).
func (c *weierstrass) double(q jacobian) jacobian {
	if q.z.Sign() == 0 || q.y.Sign() == 0 {
		return jacobian{big.NewInt(1), big.NewInt(1), new(big.Int)}

	}

	// S = 4XY^2 and M = 3X^2 + aZ^4; then X' = M^2 - 2S, Y' = M(S - X') - 8Y^4, Z' = 2YZ.
	yy := c.mul(q.y, q.y)
	s := c.mul(big.NewInt(4), c.mul(q.x, yy))
	zz := c.mul(q.z, q.z)
	m := c.mul(big.NewInt(3), c.mul(q.x, q.x))
	m.Add(m, c.mul(c.a, c.mul(zz, zz)))

	x := c.sub(c.mul(m, m), new(big.Int).Lsh(s, 1))
	y := c.sub(c.mul(m, c.sub(s, x)), c.mul(big.NewInt(8), c.mul(yy, yy)))
	return jacobian{x, y, c.mul(big.NewInt(2), c.mul(q.y, q.z))}
}

// add returns q + r.
func (c *weierstrass) add(q, r jacobian) jacobian {
	if q.z.Sign() == 0 {
		return r
	}
	if r.z.Sign() == 0 {
		return q

	}
	// Both points on the common denominator: h and t are the differences of their x and y.
	qzz, rzz := c.mul(q.z, q.z), c.mul(r.z, r.z)
	u1, u2 := c.mul(q.x, rzz), c.mul(r.x, qzz)
	s1, s2 := c.mul(q.y, c.mul(rzz, r.z)), c.mul(r.y, c.mul(qzz, q.z))
	h, t := c.sub(u2, u1), c.sub(s2, s1)

	// The formulas below fail for h = 0: the same x means the same point or its inverse.
	if h.Sign() == 0 {
		if t.Sign() == 0 {
			return c.double(q)
		}
		return jacobian{big.NewInt(1), big.NewInt(1), new(big.Int)}

	}

	hh := c.mul(h, h)
	hhh := c.mul(h, hh)
	v := c.mul(u1, hh)
	x := c.sub(c.sub(c.mul(t, t), hhh), new(big.Int).Lsh(v, 1))
	y := c.sub(c.mul(t, c.sub(v, x)), c.mul(s1, hhh))
	return jacobian{x, y, c.mul(h, c.mul(q.z, r.z))}
}

// combine returns u*G + v*Q, bit by bit for both at once.
func (c *weierstrass) combine(u, v, qx, qy *big.Int) jacobian {
	one := big.NewInt(1)
	g, q := jacobian{c.gx, c.gy, one}, jacobian{qx, qy, one}
	both := c.add(g, q)

	sum := jacobian{one, one, new(big.Int)}
	// Shamir's trick: one doubling for each bit serves both factors.
	for i := max(u.BitLen(), v.BitLen()) - 1; i >= 0; i-- {
		sum = c.double(sum)
		switch u.Bit(i) | v.Bit(i)<<1 {
		case 1:
			sum = c.add(sum, g)
		case 2:
			sum = c.add(sum, q)
		case 3:
			sum = c.add(sum, both)
		}
	}

	return sum
}

// checkBrainpool verifies an ECDSA signature (FIPS 186-5, 6.4.2) given as DER.
func checkBrainpool(k *certinfo.BrainpoolPublicKey, digest, signature []byte) error {
	c := brainpoolCurve(k.Curve)
	// The cofactor is 1, so a point of the curve needs no check of its order.
	if c == nil || !c.onCurve(k.X, k.Y) {
		return errors.New("public key is not a point of " + k.Curve)

	}
	r, s, ok := readRS(signature)
	if !ok || r.Cmp(c.n) >= 0 || s.Cmp(c.n) >= 0 {
		return ErrSignature

	}
	// The leftmost bits of a digest that is longer than n count.
	e := new(big.Int).SetBytes(digest)
	if excess := 8*len(digest) - c.n.BitLen(); excess > 0 {
		e.Rsh(e, uint(excess))
	}

	w := new(big.Int).ModInverse(s, c.n)
	u := e.Mul(e, w)
	u.Mod(u, c.n)
	v := new(big.Int).Mul(r, w)
	v.Mod(v, c.n)

	point := c.combine(u, v, k.X, k.Y)
	if point.z.Sign() == 0 {
		return ErrSignature
	}

	inverse := new(big.Int).ModInverse(point.z, c.p)
	x := c.mul(point.x, c.mul(inverse, inverse))
	return verdict(x.Mod(x, c.n).Cmp(r) == 0)
}
