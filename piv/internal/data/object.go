package data

import (
	"errors"
	"fmt"

	"pam_pkcs11/internal/iso7816"
)

// MaxObject is the greatest length of one data object, in bytes with tag and length.
const MaxObject = 16 << 10

// Tags of data objects (part 1, table 3), as GET DATA names them. TagOf has those of certificates.
const (
	TagCHUID      uint32 = 0x5FC102
	TagDiscovery  uint32 = 0x7E
	TagKeyHistory uint32 = 0x5FC10C
)

// Tags in which GET DATA returns objects (part 2, 3.1.2): 53, and for two of them their own.
const (
	tagObject   uint32 = 0x53
	tagBITGroup uint32 = 0x7F61
)

// ErrObject is part of every error about the form of what a card has returned.
var ErrObject = errors.New("malformed data object")

// isObject reports whether a tag is one in which GET DATA returns objects.
func isObject(tag uint32) bool {
	return tag == tagObject || tag == TagDiscovery || tag == tagBITGroup
}

// Object returns the content of the answer to a GET DATA, which is without the status word: the
// value of tag 53, 7E or 7F61. present is false where the card reported success without data, or an
// object of length 0. What follows the object is ignored, since some cards fill their answers up.
func Object(answer []byte) (content []byte, present bool, err error) {
	if len(answer) == 0 {
		return nil, false, nil
	}
	if len(answer) > MaxObject {
		return nil, false, fmt.Errorf("%w: %d bytes", ErrObject, len(answer))
	}

	tag, value, _, ok := iso7816.ReadTLV(answer)
	if !ok {
		return nil, false, fmt.Errorf("%w: it is not whole", ErrObject)
	}

	if !isObject(tag) {
		return nil, false, fmt.Errorf("%w: tag %X in place of 53", ErrObject, tag)
	}

	return value, len(value) > 0, nil
}

// elements calls f with each data object of a template, until f returns an error. A rest of nothing
// but 00 or FF is ignored: some cards fill their objects up, and early editions of ISO/IEC 7816-4
// allowed such bytes around BER-TLV data objects.
func elements(b []byte, f func(tag uint32, value []byte) error) error {
	for !isPadding(b) {
		tag, value, rest, ok := iso7816.ReadTLV(b)
		if !ok {
			return fmt.Errorf("%w: its parts do not fit into it", ErrObject)
		}
		if err := f(tag, value); err != nil {
			return err
		}
		b = rest
	}
	return nil
}

// isPadding reports whether b is empty, or all 00, or all FF.
func isPadding(b []byte) bool {
	for _, c := range b {
		if c != b[0] || c != 0x00 && c != 0xFF {
			return false
		}
	}
	return true
}

// once sets *to, which must still be nil, to a value that may be there only once: of two, nobody
// knows which counts.
func once(to *[]byte, tag uint32, value []byte) error {
	if *to != nil {
		return fmt.Errorf("%w: tag %X twice", ErrObject, tag)
	}

	// Empty is not nil: a second one is noticed all the same.
	*to = value
	if value == nil {
		*to = []byte{}
	}
	return nil
}
