package testca

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	_ "crypto/md5" // for certificates that must be refused
	"crypto/rand"
	"crypto/rsa"
	_ "crypto/sha1" // the same
	_ "crypto/sha256"
	_ "crypto/sha512"
	"crypto/x509"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
)

// Key is a key pair of a test. Keys of the standard library have Private; those of OpenSSL only
// sign through it.
type Key struct {
	SPKI    []byte        // DER SubjectPublicKeyInfo
	Private crypto.Signer // nil for a key of OpenSSL's

	openssl    string // PEM of the private key
	algorithms map[crypto.Hash]string
	raw        bool // Ed448: no hash
}

// Scheme says how to sign: the zero value is the key's usual scheme. PSS is for RSA keys, Salt in
// octets (-1: as long as the hash), MGF the hash of the mask generation where it is another (keys
// of OpenSSL's only).
type Scheme struct {
	Hash crypto.Hash
	PSS  bool
	Salt int
	MGF  crypto.Hash
}

// keyRing keeps the RSA keys, which are slow to make, for the life of the test program.
var keyRing = struct {
	sync.Mutex
	keys map[string]*Key
}{keys: map[string]*Key{}}

// RSA returns an RSA key of that many bits. The same label and size give the same key in one test
// program.
func RSA(bits int, label string) *Key {
	return cached(fmt.Sprintf("rsa %d %s", bits, label), func() *Key {
		// crypto/rsa refuses to make keys that short.
		if bits < 1024 {
			return OpenSSL("rsa", fmt.Sprintf("rsa_keygen_bits:%d", bits))
		}

		k, err := rsa.GenerateKey(rand.Reader, bits)
		check(err)
		return FromSigner(k)
	})
}

// EC returns a fresh key on a curve of the standard library.
func EC(curve elliptic.Curve) *Key {
	k, err := ecdsa.GenerateKey(curve, rand.Reader)
	check(err)
	return FromSigner(k)
}

// P256 returns a fresh P-256 key, the usual one.
func P256() *Key { return EC(elliptic.P256()) }

// Ed25519 returns a fresh Ed25519 key.
func Ed25519() *Key {
	_, k, err := ed25519.GenerateKey(rand.Reader)
	check(err)
	return FromSigner(k)
}

// FromSigner wraps a private key of the standard library.
func FromSigner(signer crypto.Signer) *Key {
	spki, err := x509.MarshalPKIXPublicKey(signer.Public())
	check(err)
	return &Key{SPKI: spki, Private: signer}
}

func cached(label string, make func() *Key) *Key {
	keyRing.Lock()
	defer keyRing.Unlock()
	k, ok := keyRing.keys[label]
	if !ok {
		k = make()
		keyRing.keys[label] = k
	}
	return k
}

// OpenSSL returns a key that the openssl command makes (Debian package openssl): algorithm as for
// "genpkey -algorithm" (ec, ed448, rsa, rsa-pss), options as for its -pkeyopt. Each call makes a
// fresh key.
func OpenSSL(algorithm string, options ...string) *Key {
	args := []string{"genpkey", "-algorithm", algorithm}
	for _, o := range options {
		args = append(args, "-pkeyopt", o)
	}
	return FromPEM(runOpenSSL(nil, args...))
}

// FromPEM wraps a private key that only OpenSSL can use.
func FromPEM(pem []byte) *Key {
	k := &Key{openssl: string(pem)}
	k.SPKI = runOpenSSL(pem, "pkey", "-pubout", "-outform", "DER")

	// What -text says first differs by kind: "ASN1 OID" or "Field Type" of curves, "G:" of DSA.
	text := string(runOpenSSL(pem, "pkey", "-noout", "-text"))
	switch {
	case strings.HasPrefix(text, "ED448"):
		k.raw = true
	case strings.Contains(text, "ASN1 OID") || strings.Contains(text, "Field Type"):
		k.algorithms = ecdsaAlgorithms
	case strings.Contains(text, "G:"):
		k.algorithms = dsaAlgorithms
	default:
		k.algorithms = rsaAlgorithms
	}
	return k
}

// runOpenSSL runs the openssl command and returns what it prints.
func runOpenSSL(stdin []byte, args ...string) []byte {
	out, err := tryOpenSSL(stdin, args...)
	check(err)
	return out
}

func tryOpenSSL(stdin []byte, args ...string) ([]byte, error) {
	cmd := exec.Command("openssl", args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdin = bytes.NewReader(stdin)
	cmd.Stdout = &stdout
	cmd.Stderr = &stderr

	err := cmd.Run()
	if errors.Is(err, exec.ErrNotFound) {
		return nil, errors.New("the openssl command is missing: install the Debian package openssl")
	}
	if err != nil {
		return nil, fmt.Errorf("openssl %s: %w: %s", strings.Join(args, " "), err, stderr.String())
	}

	return stdout.Bytes(), nil
}

var (
	rsaAlgorithms = map[crypto.Hash]string{
		crypto.MD5:    "1.2.840.113549.1.1.4",
		crypto.SHA1:   "1.2.840.113549.1.1.5",
		crypto.SHA256: "1.2.840.113549.1.1.11",
		crypto.SHA384: "1.2.840.113549.1.1.12",
		crypto.SHA512: "1.2.840.113549.1.1.13",
	}
	ecdsaAlgorithms = map[crypto.Hash]string{
		crypto.SHA1:   "1.2.840.10045.4.1",
		crypto.SHA256: "1.2.840.10045.4.3.2",
		crypto.SHA384: "1.2.840.10045.4.3.3",
		crypto.SHA512: "1.2.840.10045.4.3.4",
	}
	dsaAlgorithms = map[crypto.Hash]string{
		crypto.SHA1:   "1.2.840.10040.4.3",
		crypto.SHA256: "2.16.840.1.101.3.4.3.2",
	}
	hashOIDs = map[crypto.Hash]string{
		crypto.SHA1:   "1.3.14.3.2.26",
		crypto.SHA256: "2.16.840.1.101.3.4.2.1",
		crypto.SHA384: "2.16.840.1.101.3.4.2.2",
		crypto.SHA512: "2.16.840.1.101.3.4.2.3",
	}
)

// Sign signs message and gives the DER of the AlgorithmIdentifier beside the signature.
func (k *Key) Sign(s Scheme, message []byte) (algorithm, signature []byte) {
	algorithm = k.algorithm(&s)
	if k.Private == nil {
		return algorithm, k.signOpenSSL(s, message)
	}

	// Ed25519 signs the message itself: its hash is 0.
	digest := message
	var options crypto.SignerOpts = s.Hash
	if s.Hash != 0 {
		h := s.Hash.New()
		h.Write(message)
		digest = h.Sum(nil)
	}

	if s.PSS {
		options = &rsa.PSSOptions{SaltLength: s.Salt, Hash: s.Hash}
	}

	signature, err := k.Private.Sign(rand.Reader, digest, options)
	check(err)
	return algorithm, signature
}

// algorithm gives the AlgorithmIdentifier and fills the defaults of the scheme.
func (k *Key) algorithm(s *Scheme) []byte {
	table := k.algorithms
	if k.raw {
		s.Hash = 0
		return Sequence(OID("1.3.101.113"))
	}

	usual := crypto.SHA256
	if k.Private != nil {
		switch public := k.Private.Public().(type) {
		// RFC 8410, 3: parameters must be absent.
		case ed25519.PublicKey:
			s.Hash = 0
			return Sequence(OID("1.3.101.112"))
		case *ecdsa.PublicKey:
			table = ecdsaAlgorithms
			// The hash that RFC 5480, section 4, lists beside the curve.
			if size := public.Curve.Params().BitSize; size > 384 {
				usual = crypto.SHA512
			} else if size == 384 {
				usual = crypto.SHA384
			}
		default:
			table = rsaAlgorithms
		}
	}

	if s.Hash == 0 {
		s.Hash = usual
	}

	if s.PSS {
		if s.Salt < 0 {
			s.Salt = s.Hash.Size()
		}
		if s.MGF == 0 {
			s.MGF = s.Hash
		}

		hash := Sequence(OID(hashOIDs[s.Hash]), TLV(5))
		mgf := Sequence(OID(hashOIDs[s.MGF]), TLV(5))
		return Sequence(OID("1.2.840.113549.1.1.10"), Sequence(TLV(0xa0, hash),
			TLV(0xa1, Sequence(OID("1.2.840.113549.1.1.8"), mgf)),
			TLV(0xa2, Number(int64(s.Salt)))))
	}

	// RFC 3279 and 4055: with RSA the parameters are NULL, with ECDSA and DSA they are absent.
	if table[s.Hash] == "1.2.840.113549.1.1.5" ||
		strings.HasPrefix(table[s.Hash], "1.2.840.113549") {
		return Sequence(OID(table[s.Hash]), TLV(5))
	}
	return Sequence(OID(table[s.Hash]))
}

// digestName gives OpenSSL's name of a hash.
func digestName(h crypto.Hash) string {
	return strings.ReplaceAll(strings.ToLower(h.String()), "-", "")
}

// signOpenSSL signs with the openssl command. Key and message go through files of their own, which
// are removed at the end.
func (k *Key) signOpenSSL(s Scheme, message []byte) []byte {
	keyFile, err := os.CreateTemp("", "testca-*.pem")
	check(err)
	defer os.Remove(keyFile.Name())
	_, err = keyFile.WriteString(k.openssl)
	check(errors.Join(err, keyFile.Close()))

	messageFile, err := os.CreateTemp("", "testca-*.bin")
	check(err)
	defer os.Remove(messageFile.Name())
	_, err = messageFile.Write(message)
	check(errors.Join(err, messageFile.Close()))

	args := []string{"pkeyutl", "-sign", "-rawin", "-inkey", keyFile.Name(), "-in",
		messageFile.Name()}

	if s.Hash != 0 {
		args = append(args, "-digest", digestName(s.Hash))
	}
	if s.PSS {
		args = append(args, "-pkeyopt", "rsa_padding_mode:pss", "-pkeyopt",
			fmt.Sprintf("rsa_pss_saltlen:%d", s.Salt),
			"-pkeyopt", "rsa_mgf1_md:"+digestName(s.MGF))
	}

	return runOpenSSL(nil, args...)
}

// CompressedSPKI returns the public key of an elliptic curve key with its point compressed.
func (k *Key) CompressedSPKI() []byte {
	public := k.Private.Public().(*ecdsa.PublicKey)

	var spki, algorithm asn1.RawValue
	_, err := asn1.Unmarshal(k.SPKI, &spki)
	check(err)
	_, err = asn1.Unmarshal(spki.Bytes, &algorithm)
	check(err)

	uncompressed, err := public.Bytes()
	check(err)
	// SEC 1, 2.3.3: 02 or 03 by whether y is even or odd, then x alone.
	size := len(uncompressed) / 2
	point := append([]byte{2 + uncompressed[len(uncompressed)-1]&1}, uncompressed[1:1+size]...)
	return Sequence(algorithm.FullBytes, TLV(3, []byte{0}, point))
}

// FromParameters makes a key with OpenSSL from public parameters in PEM, such as those of DSA.
func FromParameters(pem string) *Key {
	return cached("parameters "+pem, func() *Key {
		return FromPEM(runOpenSSL([]byte(pem), "genpkey", "-paramfile", "/dev/stdin"))
	})
}

// PEM returns the private key in PEM, for other programs' use.
func (k *Key) PEM() []byte {
	if k.Private == nil {
		return []byte(k.openssl)
	}
	der, err := x509.MarshalPKCS8PrivateKey(k.Private)
	check(err)
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
}
