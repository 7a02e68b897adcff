package iso7816

import (
	"bytes"
	"testing"
)

func TestTLV(t *testing.T) {
	for tag, n := range map[uint32]int{0x53: 0, 0x7F: 1, 0x7F49: 127, 0x5FC105: 128, 0x70: 255, 0x71: 256, 0x72: 65535, 0x73: 65536} {
		if tag == 0x7F {
			tag = 0x7E
		}
		value := pattern(n, 3)
		b := AppendTLV([]byte{9}, tag, value[:n/2], value[n/2:])
		gotTag, got, rest, ok := ReadTLV(append(b[1:], 0x42))
		if gotTag != tag || !bytes.Equal(got, value) || !bytes.Equal(rest, []byte{0x42}) || !ok {
			t.Errorf("%X: %X, %d bytes, rest %x, %v", tag, gotTag, len(got), rest, ok)
		}
	}
	for _, s := range []string{"", "53", "5302AA", "5380", "538401020304", "5F", "5F81", "5FC10501", "5F81828300", "5382FF", "53820100"} {
		if tag, value, _, ok := ReadTLV(unhex(s)); ok {
			t.Errorf("%s is read as %X %x", s, tag, value)
		}
	}
}

// TestTLVHeader: the value need not be there.
func TestTLVHeader(t *testing.T) {
	for s, want := range map[string][3]int{
		"5300": {0x53, 2, 0}, "538180": {0x53, 3, 128}, "7F6141": {0x7F61, 3, 0x41}, "5FC10583FFFFFF": {0x5FC105, 7, 0xFFFFFF},
	} {
		tag, size, length, ok := ReadTLVHeader(unhex(s))
		if got := [3]int{int(tag), size, length}; !ok || got != want {
			t.Errorf("%s: %X, %v", s, got, ok)
		}
	}
	for _, s := range []string{"", "53", "5380", "5381", "53820A", "5384000000FF", "5F", "5F81828300"} {
		if tag, size, length, ok := ReadTLVHeader(unhex(s)); ok {
			t.Errorf("%s is read as %X, %d, %d", s, tag, size, length)
		}
	}
}

// FuzzTLV: what is read is within the input, and written again reads as the same.
func FuzzTLV(f *testing.F) {
	for _, s := range []string{"", "5303010203", "7F498200020102", "5FC10500", "538300000101"} {
		f.Add(unhex(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		tag, value, rest, ok := ReadTLV(b)
		if !ok {
			return
		}
		if len(value)+len(rest) >= len(b) {
			t.Fatal("more than there was")
		}
		again, same, _, ok := ReadTLV(AppendTLV(nil, tag, value))
		if again != tag || !bytes.Equal(same, value) || !ok {
			t.Fatalf("%X %x reads back as %X %x", tag, value, again, same)
		}
	})
}
