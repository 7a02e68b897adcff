package pkcs11

import (
	"bytes"
	"crypto/elliptic"
	"encoding/asn1"
	"encoding/binary"
	"errors"
	"fmt"
	"math/big"
	"strings"
	"testing"

	"pam_pkcs11/internal/certinfo"
	"pam_pkcs11/token"
)

func TestCodesHaveTheirPublicNames(t *testing.T) {
	tests := map[Code]string{CKR_OK: "CKR_OK", CKR_PIN_INCORRECT: "CKR_PIN_INCORRECT", 0xA4: "CKR_PIN_LOCKED",
		0x1B8: "CKR_PIN_TOO_WEAK", 0x203: "CKR_KEY_EXHAUSTED", CKR_VENDOR_DEFINED + 3: "CKR_VENDOR_DEFINED+0x3",
		CKR_VENDOR_DEFINED: "CKR_VENDOR_DEFINED+0x0", 0x7777: "CKR 0x7777"}
	for c, want := range tests {
		if c.Error() != want || c.String() != want {
			t.Errorf("0x%X is %s, want %s", uint(c), c, want)
		}
	}
	err := fmt.Errorf("logging in: %w", &Error{"C_Login", CKR_PIN_LOCKED})
	if err.Error() != "logging in: C_Login: CKR_PIN_LOCKED" || !errors.Is(err, CKR_PIN_LOCKED) || errors.Is(err, CKR_PIN_INCORRECT) {
		t.Error(err)
	}
}

func TestCutAttributes(t *testing.T) {
	list := []wanted{{ckaID, 4}, {ckaLabel, 4}}
	block := []byte("abcdefgh")
	tests := map[string]struct {
		lengths []uint
		id      string
		label   string
		bad     [2]bool
	}{
		"full":            {[]uint{4, 4}, "abcd", "efgh", [2]bool{}},
		"short":           {[]uint{1, 2}, "a", "ef", [2]bool{}},
		"empty":           {[]uint{0, 0}, "", "", [2]bool{}},
		"one too long":    {[]uint{5, 4}, "", "efgh", [2]bool{true, false}},
		"not to be had":   {[]uint{4, ^uint(0)}, "abcd", "", [2]bool{false, true}},
		"as long as 2^63": {[]uint{1 << 63, 1<<64 - 2}, "", "", [2]bool{true, true}},
	}
	for name, tt := range tests {
		v := cut(list, tt.lengths, block)
		if string(v[0].bytes) != tt.id || string(v[1].bytes) != tt.label || (v[0].err != nil) != tt.bad[0] || (v[1].err != nil) != tt.bad[1] {
			t.Errorf("%s: %v", name, v)
		}
	}
}

func TestNumbers(t *testing.T) {
	wide := binary.NativeEndian.AppendUint64(nil, 0x40)
	narrow := binary.NativeEndian.AppendUint32(nil, 0x40)
	for name, tt := range map[string]struct {
		v    value
		want uint
		ok   bool
	}{"8 bytes": {value{bytes: wide}, 0x40, true}, "4 bytes": {value{bytes: narrow}, 0x40, true}, "none": {value{}, 0, false},
		"5 bytes": {value{bytes: wide[:5]}, 0, false}, "error": {value{wide, ErrNoKey}, 0, false}} {
		if n, err := tt.v.ulong(); n != tt.want || (err == nil) != tt.ok {
			t.Errorf("%s: %d, %v", name, n, err)
		}
	}
	for name, tt := range map[string]struct {
		v    value
		want bool
	}{"true": {value{bytes: []byte{1}}, true}, "any value": {value{bytes: []byte{0xff}}, true}, "false": {value{bytes: []byte{0}}, false},
		"none": {value{}, false}, "two bytes": {value{bytes: []byte{1, 1}}, false}, "error": {value{[]byte{1}, ErrNoKey}, false}} {
		if tt.v.flag() != tt.want {
			t.Errorf("%s: %v", name, !tt.want)
		}
	}
}

func FuzzAttributes(f *testing.F) {
	f.Add(uint(4), uint(4), []byte("abcdefgh"))
	f.Add(^uint(0), uint(1<<63), []byte{})
	f.Fuzz(func(t *testing.T, first, second uint, data []byte) {
		list := []wanted{{ckaKeyType, 8}, {ckaLabel, 16}}
		block := make([]byte, 24)
		copy(block, data)
		for i, v := range cut(list, []uint{first, second}, block) {
			if (v.err == nil) == (v.bytes == nil) || uint(len(v.bytes)) > list[i].room || cap(v.bytes) > len(v.bytes) {
				t.Errorf("attribute %d: %v", i, v)
			}
			_, _ = v.ulong()
			_ = v.flag()
			if s := token.Printable(string(v.bytes)); strings.ContainsAny(s, "\x00\x1b\n\u202e") {
				t.Errorf("%q is not printable", s)
			}
		}
	})
}

func TestECDSASignaturesBecomeDER(t *testing.T) {
	order := elliptic.P256().Params().N
	m := ecdsaFor(order)[0]
	fixed := func(n *big.Int) []byte { return n.FillBytes(make([]byte, 32)) }
	one, below := big.NewInt(1), new(big.Int).Sub(order, big.NewInt(1))
	tests := map[string]struct {
		raw []byte
		ok  bool
	}{
		"least":                 {append(fixed(one), fixed(one)...), true},
		"greatest":              {append(fixed(below), fixed(below)...), true},
		"shorter halves":        {[]byte{1, 2}, true},
		"r is zero":             {append(fixed(new(big.Int)), fixed(one)...), false},
		"s is zero":             {append(fixed(one), fixed(new(big.Int))...), false},
		"r is the order":        {append(fixed(order), fixed(one)...), false},
		"s is above the order":  {append(fixed(one), bytes.Repeat([]byte{0xff}, 32)...), false},
		"empty":                 {nil, false},
		"odd":                   {make([]byte, 63), false},
		"too long":              {bytes.Repeat([]byte{1}, 66), false},
		"of the curve P-384":    {bytes.Repeat([]byte{1}, 96), false},
		"64 KiB":                {make([]byte, 1<<16), false},
		"DER instead of r, s":   {[]byte{0x30, 0x06, 0x02, 0x01, 0x01, 0x02, 0x01}, false},
		"all ones, one too few": {bytes.Repeat([]byte{0xff}, 62), true},
	}
	for name, tt := range tests {
		der, err := m.encode(tt.raw)
		if (err == nil) != tt.ok {
			t.Errorf("%s: %v", name, err)
			continue
		}
		var back struct{ R, S *big.Int }
		if err != nil {
			continue
		}
		if rest, err := asn1.Unmarshal(der, &back); err != nil || len(rest) != 0 || !bytes.Equal(append(back.R.FillBytes(make([]byte, len(tt.raw)/2)), back.S.FillBytes(make([]byte, len(tt.raw)/2))...), tt.raw) {
			t.Errorf("%s: %x, %v", name, der, err)
		}
	}
}

func TestHashMatchesTheCurve(t *testing.T) {
	for curve, want := range map[elliptic.Curve]string{elliptic.P256(): "ECDSA-SHA-256", elliptic.P384(): "ECDSA-SHA-384", elliptic.P521(): "ECDSA-SHA-512"} {
		for _, m := range ecdsaFor(curve.Params().N) {
			if m.scheme.String() != want {
				t.Errorf("%s: %s", curve.Params().Name, m.scheme)
			}
		}
	}
	for name, want := range map[string]string{"brainpoolP256r1": "ECDSA-SHA-256", "brainpoolP384r1": "ECDSA-SHA-384", "brainpoolP512r1": "ECDSA-SHA-512"} {
		ways, err := mechanismsFor(&certinfo.BrainpoolPublicKey{Curve: name})
		if err != nil || ways[0].scheme.String() != want {
			t.Errorf("%s: %v, %v", name, ways, err)
		}
	}
}

func TestKeysThatCannotSign(t *testing.T) {
	for _, public := range []any{nil, certinfo.Ed448PublicKey{}, "key", &certinfo.PSSPublicKey{Parameters: &certinfo.PSSParameters{}}} {
		if _, err := mechanismsFor(public); !errors.Is(err, ErrUnsupportedKey) {
			t.Errorf("%T: %v", public, err)
		}
	}
}
