package data

import "fmt"

// INSMetadata is GET METADATA of Yubico's extensions, which other makers have adopted. P2 is the
// key reference, of a PIN or a key.
const INSMetadata byte = 0xF7

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

// Metadata is what a card reports of a key or a PIN (INS F7). A field of 0 is not reported:
// Nitrokeys answer with success and no data.
type Metadata struct {
	PIN   PINPolicy
	Touch TouchPolicy

	// Default is set where the PIN or PUK is the one that the maker has set, which everybody knows.
	Default bool

	// Tries and Left are those of a PIN, where TriesKnown: how many there are, and how many are
	// left.
	Tries, Left int
	TriesKnown  bool
}

// Tags of metadata.
const (
	tagMetaPolicy  uint32 = 0x02
	tagMetaDefault uint32 = 0x05
	tagMetaTries   uint32 = 0x06
)

// metadataLengths are the lengths of the fields that are known, in bytes.
var metadataLengths = map[uint32]int{
	tagMetaPolicy:  2,
	tagMetaDefault: 1,
	tagMetaTries:   2,
}

// ParseMetadata reads the answer of GET METADATA without its status word.
func ParseMetadata(answer []byte) (*Metadata, error) {
	m := &Metadata{}
	if err := elements(answer, m.take); err != nil {
		return nil, err
	}
	return m, nil
}

// take sets the fields of one part. Unknown parts are ignored.
func (m *Metadata) take(tag uint32, value []byte) error {
	want, known := metadataLengths[tag]
	if !known {
		return nil
	}
	if len(value) != want {
		return fmt.Errorf("%w: metadata %02X of %d bytes", ErrObject, tag, len(value))
	}

	switch tag {
	case tagMetaPolicy:
		m.PIN = PINPolicy(value[0])
		m.Touch = TouchPolicy(value[1])
	case tagMetaDefault:
		m.Default = value[0] != 0
	case tagMetaTries:
		m.Tries = int(value[0])
		m.Left = int(value[1])
		m.TriesKnown = true
	}
	return nil
}
