package sig

import (
	"bytes"
	"crypto"
	"crypto/rsa"
	"encoding/binary"
	"math/big"

	"pam_pkcs11/internal/certinfo"
)

// verifyPSS checks an RSASSA-PSS signature (RFC 8017, 8.1.2 and 9.1.2) in the forms that crypto/rsa
// has no words for: an empty salt, and a mask generation with another hash than that of the
// message, which some Java-made PKIs use.
func verifyPSS(k *rsa.PublicKey, scheme certinfo.SignatureScheme, digest, signature []byte) bool {
	s := new(big.Int).SetBytes(signature)
	if len(signature) != k.Size() || s.Cmp(k.N) >= 0 {
		return false

	}
	// The encoded message is one bit shorter than the modulus, and so perhaps one octet.
	emBits := k.N.BitLen() - 1
	emLen := (emBits + 7) / 8
	m := s.Exp(s, big.NewInt(int64(k.E)), k.N)
	hLen := scheme.Hash.Size()
	if m.BitLen() > 8*emLen || emLen < hLen+max(scheme.SaltLength, 0)+2 || len(digest) != hLen {
		return false

	}

	// Steps 4 to 6 of 9.1.2: the trailer, and the bits in front that no mask may fill.
	em := m.FillBytes(make([]byte, emLen))
	db, h := em[:emLen-hLen-1], em[emLen-hLen-1:emLen-1]
	unused := byte(0xff) >> (8*emLen - emBits)
	if em[emLen-1] != 0xbc || db[0]&^unused != 0 {
		return false

	}

	// Steps 7 to 11: the masked data are zeros, a one, and the salt.
	mask := mgf1(mgfHash(scheme), h, len(db))
	for i := range db {
		db[i] ^= mask[i]
	}

	db[0] &= unused
	salt, found := bytes.CutPrefix(bytes.TrimLeft(db, "\x00"), []byte{1})
	if !found || scheme.SaltLength >= 0 && len(salt) != scheme.SaltLength {
		return false

	}
	// Steps 12 to 14: the hash of eight zeros, the digest and the salt has to be h.
	hash := scheme.Hash.New()
	hash.Write(make([]byte, 8))
	hash.Write(digest)
	hash.Write(salt)
	return bytes.Equal(hash.Sum(nil), h)
}

// mgf1 is the mask generation function of RFC 8017, B.2.1.
func mgf1(hash crypto.Hash, seed []byte, length int) []byte {
	var mask []byte
	for counter := uint32(0); len(mask) < length; counter++ {
		h := hash.New()
		h.Write(seed)
		h.Write(binary.BigEndian.AppendUint32(nil, counter))
		mask = h.Sum(mask)
	}
	return mask[:length]
}
