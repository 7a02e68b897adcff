package data

import "fmt"

// KeyHistory is the key history object (part 1, 3.3.3).
type KeyHistory struct {
	// OnCard and OffCard are how many retired keys have their certificate on the card, and elsewhere;
	// 0 to 20 together. They are numbers, and do not tell which places are taken.
	OnCard, OffCard int

	URL string // where the certificates are that are not on the card; "" where it is not told
}

const (
	tagKeysOnCard  uint32 = 0xC1
	tagKeysOffCard uint32 = 0xC2
	tagOffCardURL  uint32 = 0xF3

	maxRetired = 20
	maxURL     = 118
)

// ParseKeyHistory reads the content of the key history object, which is what Object has returned.
func ParseKeyHistory(content []byte) (*KeyHistory, error) {
	h := &KeyHistory{}
	var on, off []byte
	err := elements(content, func(tag uint32, value []byte) error {
		switch tag {
		case tagKeysOnCard:
			return once(&on, tag, value)
		case tagKeysOffCard:
			return once(&off, tag, value)
		case tagOffCardURL:
			if len(value) > maxURL {
				return fmt.Errorf("%w: a URL of %d bytes", ErrObject, len(value))
			}
			h.URL = string(value)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}

	if h.OnCard, err = retired(on); err != nil {
		return nil, err
	}
	if h.OffCard, err = retired(off); err != nil {
		return nil, err
	}
	if h.OnCard+h.OffCard > maxRetired {
		return nil, fmt.Errorf("%w: %d retired keys", ErrObject, h.OnCard+h.OffCard)
	}
	return h, nil
}

// retired reads a number of retired keys of one byte. Absent is 0.
func retired(b []byte) (int, error) {
	switch {
	case len(b) == 0:
		return 0, nil
	case len(b) > 1 || b[0] > maxRetired:
		return 0, fmt.Errorf("%w: number of retired keys %X", ErrObject, b)
	}
	return int(b[0]), nil
}
