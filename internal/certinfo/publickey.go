package certinfo

import (
	//lint:ignore SA1019 read only: old CAs have such keys
	"crypto/dsa"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"errors"
	"fmt"
	"math"
	"math/big"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"
)

// Limits on keys, in bits: what is larger only serves to keep the machine busy.
const (
	maxRSABits = 16384
	maxDSABits = 3072
)

// PSSPublicKey is an RSA key that may only make RSASSA-PSS signatures (RFC 4055, 3.1).
type PSSPublicKey struct {
	Key        *rsa.PublicKey
	Parameters *PSSParameters // nil: any
}

// Ed448PublicKey is the 57 octets of an Ed448 key (RFC 8410).
type Ed448PublicKey []byte

// BrainpoolPublicKey is a point of one of the curves of RFC 5639. That it lies on the curve is not
// checked here.
type BrainpoolPublicKey struct {
	Curve string // "brainpoolP256r1", "brainpoolP384r1" or "brainpoolP512r1"
	X, Y  *big.Int
}

// Bits returns the size of the field: 256, 384 or 512.
func (k *BrainpoolPublicKey) Bits() int { return brainpoolBits[k.Curve] }

var brainpoolBits = map[string]int{"brainpoolP256r1": 256, "brainpoolP384r1": 384, "brainpoolP512r1": 512}

// spkiAlgorithm reads the algorithm of a SubjectPublicKeyInfo and checks the outer form of the
// rest.
func spkiAlgorithm(der []byte) (AlgorithmIdentifier, error) {
	s := cryptobyte.String(der)
	var seq cryptobyte.String
	if !s.ReadASN1(&seq, asn1.SEQUENCE) || !s.Empty() {
		return AlgorithmIdentifier{}, errors.New("malformed public key")
	}

	a, err := readAlgorithm(&seq)
	if err != nil {
		return a, fmt.Errorf("public key: %w", err)
	}

	if !seq.SkipASN1(asn1.BIT_STRING) || !seq.Empty() {
		return a, errors.New("malformed public key")
	}
	return a, nil
}

// ParsePublicKey reads a DER SubjectPublicKeyInfo (RFC 5280, 4.1.2.7): *rsa.PublicKey,
// *PSSPublicKey, *ecdsa.PublicKey (P-224 to P-521), *BrainpoolPublicKey, ed25519.PublicKey,
// Ed448PublicKey, *dsa.PublicKey (with P nil when its parameters are to be taken from the issuer,
// RFC 3279, 2.3.2). The error says why a key cannot be used.
func ParsePublicKey(der []byte) (any, error) {
	key, err := readPublicKey(der)
	if err != nil {
		return nil, err // an untyped nil, whatever the type of the key
	}
	return key, nil
}

// readPublicKey reads the key in the form that its algorithm has.
func readPublicKey(der []byte) (any, error) {
	s := cryptobyte.String(der)
	var seq cryptobyte.String
	var key []byte
	if !s.ReadASN1(&seq, asn1.SEQUENCE) || !s.Empty() {
		return nil, errors.New("malformed public key")
	}

	a, err := readAlgorithm(&seq)
	if err != nil {
		return nil, err
	}

	if !seq.ReadASN1BitStringAsBytes(&key) || !seq.Empty() {
		return nil, errors.New("malformed public key")
	}

	// A malformed key and an unknown algorithm both leave the
	// certificate as it is, see PublicKeyErr.
	switch {
	case a.OID.Equal(oidKeyRSA):
		if !a.absentOrNull() {
			return nil, errors.New("RSA key with parameters")
		}
		return readRSA(key)
	case a.OID.Equal(oidKeyRSAOld):
		// The identifier of X.509 (1988), with the size of the key as its parameter, or nothing.
		return readRSA(key)
	case a.OID.Equal(oidKeyRSAPSS):
		return readRSAPSS(a, key)
	case a.OID.Equal(oidKeyEC):
		return readEC(a.Parameters, key)
	case a.OID.Equal(oidKeyEd25519):
		if len(a.Parameters) != 0 || len(key) != ed25519.PublicKeySize {
			return nil, errors.New("malformed Ed25519 key")
		}
		return ed25519.PublicKey(key), nil
	case a.OID.Equal(oidKeyEd448):
		if len(a.Parameters) != 0 || len(key) != 57 {
			return nil, errors.New("malformed Ed448 key")
		}
		return Ed448PublicKey(key), nil
	case a.OID.Equal(oidKeyDSA):
		return readDSA(a.Parameters, key)
	}
	return nil, fmt.Errorf("public key algorithm %v is not supported", a.OID)
}

// readRSA reads an RSAPublicKey (RFC 8017, A.1.1).
func readRSA(der []byte) (*rsa.PublicKey, error) {
	s := cryptobyte.String(der)
	var seq cryptobyte.String
	n, e := new(big.Int), new(big.Int)
	if !s.ReadASN1(&seq, asn1.SEQUENCE) || !s.Empty() {
		return nil, errors.New("malformed RSA key")
	}
	if !seq.ReadASN1Integer(n) || !seq.ReadASN1Integer(e) || !seq.Empty() {
		return nil, errors.New("malformed RSA key")
	}

	// crypto/rsa takes the exponent as an int, and would fail later
	// on what is refused here by name.
	switch {
	case n.Sign() <= 0 || n.Bit(0) == 0:
		return nil, errors.New("RSA modulus is not a positive odd number")
	case n.BitLen() > maxRSABits:
		return nil, fmt.Errorf("RSA key of %d bits, more than %d", n.BitLen(), maxRSABits)
	case e.Cmp(big.NewInt(3)) < 0 || e.Bit(0) == 0:
		return nil, fmt.Errorf("RSA exponent %v is not an odd number from 3", clip(e.String()))
	case e.Cmp(big.NewInt(math.MaxInt32)) > 0:
		return nil, errors.New("RSA exponent of more than 31 bits")
	}

	return &rsa.PublicKey{N: n, E: int(e.Int64())}, nil
}

// readRSAPSS reads an RSA key whose parameters restrict its signatures (RFC 4055, 3.1).
func readRSAPSS(a AlgorithmIdentifier, der []byte) (*PSSPublicKey, error) {
	key, err := readRSA(der)
	if err != nil {
		return nil, err
	}

	// Absent parameters restrict nothing.
	p := &PSSPublicKey{Key: key}
	if len(a.Parameters) != 0 {
		parameters, err := ParsePSSParameters(a.Parameters)
		if err != nil {
			return nil, err
		}
		p.Parameters = &parameters
	}
	return p, nil
}

// readEC reads a point of a named curve (RFC 5480, 2.1.1).
func readEC(parameters, point []byte) (any, error) {
	s := cryptobyte.String(parameters)
	// Explicit parameters may be those of a curve that is made to be weak.
	if s.PeekASN1Tag(asn1.SEQUENCE) {
		return nil, errors.New("elliptic curve given by explicit parameters is not supported")
	}

	oid, _, ok := readOID(&s)
	if !ok || oid == nil || !s.Empty() {
		return nil, errors.New("malformed elliptic curve parameters")
	}

	if len(point) > 0 && (point[0] == 2 || point[0] == 3) {
		return nil, errors.New("compressed elliptic curve point is not supported")
	}

	var curve elliptic.Curve
	switch name := oid.String(); name {
	case "1.3.132.0.33":
		curve = elliptic.P224()
	case "1.2.840.10045.3.1.7":
		curve = elliptic.P256()
	case "1.3.132.0.34":
		curve = elliptic.P384()
	case "1.3.132.0.35":
		curve = elliptic.P521()
	case curveBrainpoolP256r1OID:
		return readBrainpool("brainpoolP256r1", point)
	case curveBrainpoolP384r1OID:
		return readBrainpool("brainpoolP384r1", point)
	case curveBrainpoolP512r1OID:
		return readBrainpool("brainpoolP512r1", point)
	case oidCurveSecp256k1:
		return nil, errors.New("elliptic curve secp256k1 is not supported")
	default:
		return nil, fmt.Errorf("elliptic curve %s is not supported", name)
	}

	// The parser checks that the point lies on the curve.
	key, err := ecdsa.ParseUncompressedPublicKey(curve, point)
	if err != nil {
		return nil, fmt.Errorf("elliptic curve point is not one of %s", curve.Params().Name)
	}
	return key, nil
}

// readBrainpool reads an uncompressed point. Package verify checks that it lies on the curve.
func readBrainpool(curve string, point []byte) (*BrainpoolPublicKey, error) {
	size := brainpoolBits[curve] / 8
	// 4 begins an uncompressed point (SEC 1, 2.3.3).
	if len(point) != 1+2*size || point[0] != 4 {
		return nil, fmt.Errorf("malformed point of %s", curve)
	}

	x, y := new(big.Int).SetBytes(point[1:1+size]), new(big.Int).SetBytes(point[1+size:])
	return &BrainpoolPublicKey{Curve: curve, X: x, Y: y}, nil
}

// readDSA reads a DSA key (RFC 3279, 2.3.2). Without parameters of its own it has P nil.
func readDSA(parameters, der []byte) (*dsa.PublicKey, error) {
	s := cryptobyte.String(der)
	key := &dsa.PublicKey{Y: new(big.Int)}
	if !s.ReadASN1Integer(key.Y) || !s.Empty() {
		return nil, errors.New("malformed DSA key")
	}
	if key.Y.Sign() <= 0 || key.Y.BitLen() > maxDSABits {
		return nil, errors.New("malformed DSA key")
	}

	// The parameters of the issuer's key are taken, which is not known here.
	if len(parameters) == 0 || string(parameters) == "\x05\x00" {
		return key, nil
	}

	p := cryptobyte.String(parameters)
	var seq cryptobyte.String
	P := new(big.Int)
	Q := new(big.Int)
	G := new(big.Int)
	if !p.ReadASN1(&seq, asn1.SEQUENCE) || !p.Empty() {
		return nil, errors.New("malformed DSA parameters")
	}
	read := seq.ReadASN1Integer(P) && seq.ReadASN1Integer(Q) && seq.ReadASN1Integer(G)
	if !read || !seq.Empty() {
		return nil, errors.New("malformed DSA parameters")
	}

	// The sizes bound the work of a check; Q is a whole number of octets, as the digest is cut to
	// it.
	goodP := P.Sign() > 0 && P.BitLen() <= maxDSABits && P.Bit(0) == 1
	goodQ := Q.Sign() > 0 && Q.BitLen() <= 256 && Q.BitLen()%8 == 0
	belowP := G.Cmp(big.NewInt(1)) > 0 && G.Cmp(P) < 0 && key.Y.Cmp(P) < 0
	if !goodP || !goodQ || !belowP {
		return nil, errors.New("DSA parameters out of range")
	}

	key.P = P
	key.Q = Q
	key.G = G
	return key, nil
}
