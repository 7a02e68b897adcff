package home

import (
	"crypto"
	//lint:ignore SA1019 compared only: old cards have such keys
	"crypto/dsa"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"math/big"
)

// Key is a public key as OpenSSH writes it (RFC 4253, 6.6). Here is only what keys of certificates
// need: package ssh would cost each login the setting up of its ciphers and key exchanges,
// whichever mapper it uses.
type Key struct {
	kind string // "ssh-rsa", ...
	blob string // the key, in Base64
}

// newOpenSSHKey returns false for keys that OpenSSH does not have.
func newOpenSSHKey(public crypto.PublicKey) (Key, bool) {
	var kind string
	var blob []byte

	switch k := public.(type) {
	case *rsa.PublicKey: // RFC 4253, 6.6
		kind = "ssh-rsa"
		blob = sshInteger(sshInteger(sshString(nil, kind), big.NewInt(int64(k.E))), k.N)
	case *ecdsa.PublicKey: // RFC 5656, 3.1
		curve, ok := map[int]string{256: "nistp256", 384: "nistp384", 521: "nistp521"}[k.Curve.Params().BitSize]
		point, err := k.Bytes()
		// Curves without a name in OpenSSH are not used by another name of the same size.
		if !ok || err != nil || k.Curve.Params().Name != "P-"+curve[len("nistp"):] {
			return Key{}, false
		}
		kind = "ecdsa-sha2-" + curve
		blob = sshString(sshString(sshString(nil, kind), curve), string(point))
	case ed25519.PublicKey: // RFC 8709, 4
		kind = "ssh-ed25519"
		blob = sshString(sshString(nil, kind), string(k))
	case *dsa.PublicKey:
		if k.P == nil {
			return Key{}, false
		}
		kind = "ssh-dss"
		blob = sshString(nil, kind)
		for _, n := range []*big.Int{k.P, k.Q, k.G, k.Y} {
			blob = sshInteger(blob, n)
		}
	default:
		return Key{}, false
	}

	return Key{kind, base64.StdEncoding.EncodeToString(blob)}, true
}

// String returns the key as a line of authorized_keys has it.
func (k Key) String() string { return k.kind + " " + k.blob }

// fingerprint returns what `ssh-keygen -l` prints of the key.
func (k Key) fingerprint() string {
	blob, _ := base64.StdEncoding.DecodeString(k.blob) // it was made by newOpenSSHKey
	sum := sha256.Sum256(blob)
	return "SHA256:" + base64.RawStdEncoding.EncodeToString(sum[:])
}

// sshString appends a string (RFC 4251, 5).
func sshString(b []byte, s string) []byte {
	return append(binary.BigEndian.AppendUint32(b, uint32(len(s))), s...)
}

// sshInteger appends an mpint of a number that is not negative (RFC 4251, 5).
func sshInteger(b []byte, n *big.Int) []byte {
	octets := n.Bytes()
	// The highest bit of the first octet is the sign.
	if len(octets) > 0 && octets[0]&0x80 != 0 {
		octets = append([]byte{0}, octets...)
	}
	return sshString(b, string(octets))
}
