package data

import (
	"fmt"
	"slices"

	"pam_pkcs11/internal/iso7816"
)

// APT is the application property template, the answer to SELECT (part 2, 3.1.1, table 3).
type APT struct {
	Label string // application label, such as "PivApplet v1.0"; may hold any octets

	// Algorithms are the cryptographic algorithm identifiers that the card lists (tag AC), in its
	// order. Many cards list none.
	Algorithms []byte
}

// Tags of the template.
const (
	tagAPT           uint32 = 0x61
	tagAPTLabel      uint32 = 0x50
	tagAPTAlgorithms uint32 = 0xAC
	tagAlgorithm     uint32 = 0x80
)

// ParseAPT reads the answer to SELECT without its status word. Its parts may come in any order, and
// unknown ones are ignored. An empty answer is no error: with T=0 it need not be fetched.
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

// take sets one field. Where a part is there twice the last one counts: whatever depends on it is
// corrected by another answer of the card.
func (a *APT) take(tag uint32, value []byte) error {
	switch tag {
	case tagAPTLabel:
		a.Label = string(value)
	case tagAPTAlgorithms:
		return elements(value, func(tag uint32, value []byte) error {
			if tag == tagAlgorithm {
				a.Algorithms = append(a.Algorithms, value...)
			}
			return nil
		})
	}
	return nil
}

// Lists reports whether the card lists an algorithm as its own.
func (a *APT) Lists(algorithm byte) bool { return slices.Contains(a.Algorithms, algorithm) }
