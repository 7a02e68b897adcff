package iso7816

import "encoding/binary"

// ReadTLV reads one BER-TLV data object (ISO/IEC 7816-4:2013, 5.2.2.1) from the beginning of b: its tag, of at most
// three bytes and written as a number (7F49), its value and what follows it. Not ok when b does not begin with a whole
// object.
func ReadTLV(b []byte) (tag uint32, value, rest []byte, ok bool) {
	if len(b) == 0 {
		return 0, nil, nil, false
	}
	tag = uint32(b[0])
	b = b[1:]
	for more := tag&0x1F == 0x1F; more; b = b[1:] {
		if len(b) == 0 || tag > 0xFFFF {
			return 0, nil, nil, false
		}
		tag = tag<<8 | uint32(b[0])
		more = b[0]&0x80 != 0
	}
	if len(b) == 0 {
		return 0, nil, nil, false
	}
	n, size := int(b[0]), 0
	switch {
	case n < 0x80:
	case n <= 0x83 && n > 0x80:
		size = n & 0x0F
	default:
		return 0, nil, nil, false
	}
	b = b[1:]
	if size > 0 {
		if len(b) < size {
			return 0, nil, nil, false
		}
		var wide [4]byte
		copy(wide[4-size:], b)
		n = int(binary.BigEndian.Uint32(wide[:]))
		b = b[size:]
	}
	if len(b) < n {
		return 0, nil, nil, false
	}
	return tag, b[:n:n], b[n:], true
}

// AppendTLV writes a BER-TLV data object with a tag as ReadTLV returns it and the parts as its value, at most
// 16777215 bytes together.
func AppendTLV(dst []byte, tag uint32, parts ...[]byte) []byte {
	switch {
	case tag > 0xFFFF:
		dst = append(dst, byte(tag>>16), byte(tag>>8), byte(tag))
	case tag > 0xFF:
		dst = append(dst, byte(tag>>8), byte(tag))
	default:
		dst = append(dst, byte(tag))
	}
	n := 0
	for _, part := range parts {
		n += len(part)
	}
	switch {
	case n < 0x80:
		dst = append(dst, byte(n))
	case n <= 0xFF:
		dst = append(dst, 0x81, byte(n))
	case n <= 0xFFFF:
		dst = append(dst, 0x82, byte(n>>8), byte(n))
	default:
		dst = append(dst, 0x83, byte(n>>16), byte(n>>8), byte(n))
	}
	for _, part := range parts {
		dst = append(dst, part...)
	}
	return dst
}
