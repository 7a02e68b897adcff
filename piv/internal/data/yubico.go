package data

import (
	"encoding/binary"
	"fmt"
)

// Instructions of Yubico's extensions, which others have taken over. All have CLA 00, P1 00 and Le.
const (
	INSMetadata byte = 0xF7 // P2 is the key reference, of a PIN or a key
	INSSerial   byte = 0xF8 // P2 00
	INSVersion  byte = 0xFD // P2 00
)

// PINPolicy is when a key wants the PIN (Yubico's metadata).
type PINPolicy byte

// PIN policies.
const (
	PINPolicyUntold      PINPolicy = 0 // as usual: always in 9C, never in 9E, else once
	PINPolicyNever       PINPolicy = 1
	PINPolicyOnce        PINPolicy = 2
	PINPolicyAlways      PINPolicy = 3
	PINPolicyMatchOnce   PINPolicy = 4 // the PIN or a finger, once
	PINPolicyMatchAlways PINPolicy = 5 // the PIN or a finger, for each signature
)

// TouchPolicy is when a key wants to be touched (Yubico's metadata).
type TouchPolicy byte

// Touch policies.
const (
	TouchPolicyUntold TouchPolicy = 0
	TouchPolicyNever  TouchPolicy = 1
	TouchPolicyAlways TouchPolicy = 2
	TouchPolicyCached TouchPolicy = 3 // not for 15 seconds after a touch
)

// Metadata is what a card tells of a key or a PIN (INS F7). A field of 0 is one that it does not
// tell: Nitrokeys answer with success and nothing.
type Metadata struct {
	Algorithm byte // of a key as in GENERAL AUTHENTICATE; FF for a PIN
	PIN       PINPolicy
	Touch     TouchPolicy
	Origin    byte // 1 made on the card, 2 imported

	// Default: the PIN or PUK is the one that the maker has set, known to everybody.
	Default bool

	// Tries and Left are those of a PIN where TriesKnown: how many there are, and are left.
	Tries, Left int
	TriesKnown  bool
}

// Tags of metadata.
const (
	tagMetaAlgorithm uint32 = 0x01
	tagMetaPolicy    uint32 = 0x02
	tagMetaOrigin    uint32 = 0x03
	tagMetaDefault   uint32 = 0x05
	tagMetaTries     uint32 = 0x06
)

// metadataLengths are the lengths of the fields that are known, in bytes.
var metadataLengths = map[uint32]int{
	tagMetaAlgorithm: 1,
	tagMetaPolicy:    2,
	tagMetaOrigin:    1,
	tagMetaDefault:   1,
	tagMetaTries:     2,
}

// ParseMetadata reads the answer of GET METADATA without its status word.
func ParseMetadata(answer []byte) (*Metadata, error) {
	m := &Metadata{}
	if err := elements(answer, m.take); err != nil {
		return nil, err
	}
	return m, nil
}

func (m *Metadata) take(tag uint32, value []byte) error {
	want, known := metadataLengths[tag]
	if !known {
		return nil
	}
	if len(value) != want {
		return fmt.Errorf("%w: metadata %02X of %d bytes", ErrObject, tag, len(value))
	}

	switch tag {
	case tagMetaAlgorithm:
		m.Algorithm = value[0]
	case tagMetaPolicy:
		m.PIN, m.Touch = PINPolicy(value[0]), TouchPolicy(value[1])
	case tagMetaOrigin:
		m.Origin = value[0]
	case tagMetaDefault:
		m.Default = value[0] != 0
	case tagMetaTries:
		m.Tries, m.Left, m.TriesKnown = int(value[0]), int(value[1]), true
	}
	return nil
}

// Version is the version of a card's firmware (INS FD): major, minor, patch. That of all zeros is
// none.
type Version [3]byte

// ParseVersion reads the answer of GET VERSION without its status word.
func ParseVersion(answer []byte) (Version, error) {
	if len(answer) != len(Version{}) {
		return Version{}, fmt.Errorf("%w: a version of %d bytes", ErrObject, len(answer))
	}
	return Version(answer), nil
}

// String is "5.4.3".
func (v Version) String() string { return fmt.Sprintf("%d.%d.%d", v[0], v[1], v[2]) }

// AtLeast reports whether v is this version or a later one.
func (v Version) AtLeast(major, minor, patch byte) bool {
	number := func(v Version) uint32 { return uint32(v[0])<<16 | uint32(v[1])<<8 | uint32(v[2]) }
	return number(v) >= number(Version{major, minor, patch})
}

// ParseSerialNumber reads the answer of GET SERIAL without its status word.
func ParseSerialNumber(answer []byte) (uint32, error) {
	if len(answer) != 4 {
		return 0, fmt.Errorf("%w: a serial number of %d bytes", ErrObject, len(answer))
	}
	return binary.BigEndian.Uint32(answer), nil
}
