package iso7816

import "encoding/binary"

// ReadTLV reads one BER-TLV data object (ISO/IEC 7816-4:2013, 5.2.2.1) from the beginning of b: its
// tag, of at most three bytes and written as a number (7F49), its value and what follows it. Not ok
// when b does not begin with a whole object.
func ReadTLV(b []byte) (tag uint32, value, rest []byte, ok bool) {
	tag, size, n, ok := ReadTLVHeader(b)
	if !ok || len(b)-size < n {
		return 0, nil, nil, false
	}
	b = b[size:]
	return tag, b[:n:n], b[n:], true
}

// ReadTLVHeader reads the tag and the length with which a BER-TLV data object begins: size is how
// many bytes these two take, length that of the value, which need not be in b. Limits are those of
// ReadTLV.
func ReadTLVHeader(b []byte) (tag uint32, size, length int, ok bool) {
	all := len(b)
	if all == 0 {
		return 0, 0, 0, false
	}
	tag = uint32(b[0])
	b = b[1:]

	// Further bytes of the tag, each with its highest bit set but the last. The test of tag leaves
	// room for one more byte in 24 bits.
	for more := tag&0x1F == 0x1F; more; b = b[1:] {
		if len(b) == 0 || tag > 0xFFFF {
			return 0, 0, 0, false
		}
		tag = tag<<8 | uint32(b[0])
		more = b[0]&0x80 != 0
	}

	if len(b) == 0 {
		return 0, 0, 0, false
	}
	length, wide := int(b[0]), 0

	// 80 is the indefinite length, which part 4 does not use. More than three bytes of length are
	// not supported, as in AppendTLV.
	switch {
	case length < 0x80:
	case length <= 0x83 && length > 0x80:
		wide = length & 0x0F
	default:
		return 0, 0, 0, false
	}
	b = b[1:]

	if wide > 0 {
		if len(b) < wide {
			return 0, 0, 0, false
		}
		var number [4]byte
		copy(number[4-wide:], b)
		length = int(binary.BigEndian.Uint32(number[:]))
		b = b[wide:]
	}
	return tag, all - len(b), length, true
}

// AppendTLV writes a BER-TLV data object with a tag as ReadTLV returns it and the parts as its
// value, at most 16777215 bytes together.
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

	// The shortest form of the length: DER readers accept no other.
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
