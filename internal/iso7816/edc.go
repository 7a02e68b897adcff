package iso7816

import "encoding/binary"

// EDC is the error detection code at the end of a T=1 block (11.3.4).
type EDC byte

// The two codes there are.
const (
	EDCLRC EDC = iota // one byte, the exclusive or of all others
	EDCCRC            // two bytes, CRC-16 of ISO/IEC 13239, the high byte first
)

// Size is the number of bytes of the code.
func (e EDC) Size() int {
	if e == EDCCRC {
		return 2
	}
	return 1
}

// String is the name of the code.
func (e EDC) String() string {
	if e == EDCCRC {
		return "CRC"
	}
	return "LRC"
}

// Append appends the code of b to it.
func (e EDC) Append(b []byte) []byte {
	if e == EDCCRC {
		return binary.BigEndian.AppendUint16(b, CRC(b))
	}
	return append(b, LRC(b))
}

// check reports whether a block ends with the right code. The block must be longer than the code.
func (e EDC) check(b []byte) bool {
	if e == EDCCRC {
		n := len(b) - 2
		return CRC(b[:n]) == binary.BigEndian.Uint16(b[n:])
	}
	return LRC(b) == 0
}

// LRC is the exclusive or of all bytes; with the check byte included it is 0.
func LRC(b []byte) byte {
	var x uint64
	// Eight bytes at a time, and the eight columns are folded to one at the end.
	for len(b) >= 8 {
		x ^= binary.LittleEndian.Uint64(b)
		b = b[8:]
	}

	x ^= x >> 32
	x ^= x >> 16
	x ^= x >> 8

	lrc := byte(x)
	for _, c := range b {
		lrc ^= c
	}
	return lrc
}

// CRC is the check sum of T=1: polynomial x^16+x^12+x^5+1, the lowest bit first, beginning with
// FFFF.
func CRC(b []byte) uint16 {
	crc := uint16(0xFFFF)
	for _, c := range b {
		// The eight steps of a byte in closed form: no table, and no loop over its bits.
		x := byte(crc) ^ c
		x ^= x << 4
		crc = crc>>8 ^ uint16(x)<<8 ^ uint16(x)<<3 ^ uint16(x)>>4
	}
	return crc
}
