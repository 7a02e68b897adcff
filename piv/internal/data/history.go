package data

import "fmt"

// KeyHistory is the key history object (part 1, 3.3.3).
type KeyHistory struct {
	// OnCard is how many retired keys have their certificate on the card, 0 to 20. The number does
	// not say which places are taken.
	OnCard int
}

// The tag of that number, and its limit.
const (
	tagKeysOnCard uint32 = 0xC1

	maxRetired = 20
)

// ParseKeyHistory reads the content of the key history object, which is what Object has returned.
func ParseKeyHistory(content []byte) (*KeyHistory, error) {
	h := &KeyHistory{}
	var on []byte

	err := elements(content, func(tag uint32, value []byte) error {
		if tag == tagKeysOnCard {
			return once(&on, tag, value)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}

	if h.OnCard, err = retired(on); err != nil {
		return nil, err
	}
	return h, nil
}

// retired reads a number of retired keys of one byte. Where it is absent it is 0.
func retired(b []byte) (int, error) {
	switch {
	case len(b) == 0:
		return 0, nil
	case len(b) > 1 || b[0] > maxRetired:
		return 0, fmt.Errorf("%w: number of retired keys %X", ErrObject, b)
	}
	return int(b[0]), nil
}
