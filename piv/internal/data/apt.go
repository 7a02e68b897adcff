package data

import (
	"encoding/binary"
	"fmt"
	"slices"

	"pam_pkcs11/internal/iso7816"
)

// APT is the application property template, the answer of SELECT (part 2, 3.1.1, table 3).
type APT struct {
	// AID is that of tag 4F as the card has it: the proprietary identifier extension with the
	// version, or, with early cards, the whole application identifier. It may be empty.
	AID []byte

	Label string // application label, such as "PivApplet v1.0"; not printable as it is
	URI   string // where its specification is; not printable as it is

	// Algorithms are the cryptographic algorithm identifiers that the card lists (tag AC), in its
	// order. Many cards list none.
	Algorithms []byte

	// MaxCommand and MaxResponse are the longest APDUs that the card takes and gives, in bytes
	// (extended length information, ISO/IEC 7816-4, 12.7.1); 0 where it does not tell.
	MaxCommand, MaxResponse int
}

const (
	tagAPT           uint32 = 0x61
	tagAID           uint32 = 0x4F
	tagAPTLabel      uint32 = 0x50
	tagAPTURI        uint32 = 0x5F50
	tagAPTAlgorithms uint32 = 0xAC
	tagAlgorithm     uint32 = 0x80
	tagExtended      uint32 = 0x7F66
	tagInteger       uint32 = 0x02
)

// ParseAPT reads the answer of SELECT without its status word. The order of its parts is free, and
// those that are not known pass. An empty answer tells nothing, which is no error: with T=0 nobody
// need fetch it.
func ParseAPT(answer []byte) (*APT, error) {
	a := &APT{}
	if len(answer) == 0 {
		return a, nil
	}
	tag, template, _, ok := iso7816.ReadTLV(answer)
	if !ok || tag != tagAPT {
		return nil, fmt.Errorf("%w: no application property template", ErrObject)
	}
	if err := elements(template, a.take); err != nil {
		return nil, err
	}
	return a, nil
}

// take keeps one part. Where a part is there twice, the last one counts: nothing is decided by them
// that another answer of the card does not correct.
func (a *APT) take(tag uint32, value []byte) error {
	switch tag {
	case tagAID:
		a.AID = value
	case tagAPTLabel:
		a.Label = string(value)
	case tagAPTURI:
		a.URI = string(value)
	case tagAPTAlgorithms:
		return elements(value, func(tag uint32, value []byte) error {
			if tag == tagAlgorithm {
				a.Algorithms = append(a.Algorithms, value...)
			}
			return nil
		})
	case tagExtended:
		return a.takeLengths(value)
	}
	return nil
}

// takeLengths reads two integers of 1 to 3 bytes.
func (a *APT) takeLengths(b []byte) error {
	var lengths []int
	err := elements(b, func(tag uint32, value []byte) error {
		if tag != tagInteger || len(value) == 0 || len(value) > 3 {
			return fmt.Errorf("%w: extended length information", ErrObject)
		}
		var wide [4]byte
		copy(wide[4-len(value):], value)
		lengths = append(lengths, int(binary.BigEndian.Uint32(wide[:])))
		return nil
	})
	if err != nil {
		return err
	}
	if len(lengths) != 2 {
		return fmt.Errorf("%w: extended length information", ErrObject)
	}
	a.MaxCommand, a.MaxResponse = lengths[0], lengths[1]
	return nil
}

// Lists reports whether the card lists an algorithm.
func (a *APT) Lists(algorithm byte) bool { return slices.Contains(a.Algorithms, algorithm) }
