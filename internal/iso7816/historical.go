package iso7816

import "fmt"

// Historical are the historical bytes taken apart (ISO/IEC 7816-4:2013, 12.1.1).
type Historical struct {
	Category byte      // the first byte: 00, 10 or 80 have a meaning, others are the maker's own
	Objects  []Compact // COMPACT-TLV objects of the categories 00 and 80
	Status   []byte    // at the end of category 00, three bytes: life cycle, SW1, SW2
	Rest     []byte    // what is not of these forms
}

// Compact is a COMPACT-TLV data object: a tag and a length of four bits each.
type Compact struct {
	Tag   byte // 0 to 15
	Value []byte
}

// ParseHistorical takes historical bytes apart. Bytes that do not fit are in Rest; the parts point
// into b.
func ParseHistorical(b []byte) Historical {
	if len(b) == 0 {
		return Historical{}
	}

	h := Historical{Category: b[0]}
	b = b[1:]

	switch h.Category {
	case 0x00:
		// The status indicator is not an object here: it is the last three bytes, without a tag.
		if len(b) >= 3 {
			b, h.Status = b[:len(b)-3], b[len(b)-3:]
		}
	case 0x80:
	default:
		// 10 is a reference to DIR data, all others are proprietary: neither has objects.
		h.Rest = b
		return h
	}

	for len(b) > 0 {
		n := int(b[0] & 0x0F)
		if len(b) < 1+n {
			// A length beyond the end: keep what was read, a card is not refused for its historical
			// bytes.
			h.Rest = b
			break
		}
		h.Objects = append(h.Objects, Compact{Tag: b[0] >> 4, Value: b[1 : 1+n]})
		b = b[1+n:]
	}
	return h
}

// compactNames are the names of the tags (ISO/IEC 7816-4:2013, 12.1.1.2 and following).
var compactNames = map[byte]string{
	1: "country code", 2: "issuer identification", 3: "card service data", 4: "initial access data",
	5: "card issuer's data", 6: "pre-issuing data", 7: "card capabilities", 8: "status indicator",
	15: "application identifier",
}

// Name is what the tag stands for.
func (c *Compact) Name() string {
	if name, ok := compactNames[c.Tag]; ok {
		return name
	}
	return fmt.Sprintf("tag %X", c.Tag)
}
