package device_test

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"pam_pkcs11/ccid/ccidtest"
	"pam_pkcs11/ccid/device"
	"pam_pkcs11/ccid/internal/readertest"
)

// TestInterfaces: readers are found wherever they stand among other interfaces, by what makes them one.
func TestInterfaces(t *testing.T) {
	class := readertest.Descriptor(readertest.Extended)
	raw := class.Append(nil)
	intf := func(number, alternate, endpoints, class byte) []byte {
		return []byte{9, 4, number, alternate, endpoints, class, 0, 0, 0}
	}
	out, in, inter := []byte{7, 5, 1, 2, 64, 0, 0}, []byte{7, 5, 0x82, 2, 64, 0, 0}, []byte{7, 5, 0x83, 3, 8, 0, 16}
	hid := []byte{9, 0x21, 0x11, 1, 0, 1, 0x22, 63, 0}
	for name, row := range map[string]struct {
		pieces [][]byte
		want   []byte // interface numbers
	}{
		"one":                      {[][]byte{intf(0, 0, 3, 0x0B), raw, out, in, inter}, []byte{0}},
		"class FF":                 {[][]byte{intf(0, 0, 3, 0xFF), raw, out, in, inter}, []byte{0}},
		"class FF without":         {[][]byte{intf(0, 0, 3, 0xFF), out, in, inter}, nil},
		"class FF with HID's":      {[][]byte{intf(0, 0, 3, 0xFF), hid, out, in, inter}, nil},
		"another class with ours":  {[][]byte{intf(0, 0, 3, 0x03), raw, out, in, inter}, nil},
		"behind the last endpoint": {[][]byte{intf(0, 0, 3, 0x0B), out, in, inter, raw}, []byte{0}},
		"behind an endpoint":       {[][]byte{intf(0, 0, 3, 0x0B), out, raw, in, inter}, []byte{0}},
		"after a keyboard":         {[][]byte{intf(0, 0, 1, 3), hid, inter, intf(1, 0, 3, 0x0B), raw, out, in, inter}, []byte{1}},
		"numbers with a gap":       {[][]byte{intf(4, 0, 3, 0x0B), raw, out, in, inter, intf(2, 0, 3, 0x0B), raw, out, in, inter}, []byte{4, 2}},
		"two settings":             {[][]byte{intf(0, 0, 3, 0x0B), raw, out, in, inter, intf(0, 1, 3, 0x0B), raw, out, in, inter}, []byte{0}},
		"second setting only":      {[][]byte{intf(0, 0, 0, 0x0B), intf(0, 1, 3, 0x0B), raw, out, in, inter}, []byte{0}},
		"class descriptor of 53":   {[][]byte{intf(0, 0, 3, 0x0B), append([]byte{53}, raw[1:53]...), out, in, inter}, nil},
		"class descriptor of 55":   {[][]byte{intf(0, 0, 3, 0x0B), append(append([]byte{55}, raw[1:]...), 0), out, in, inter}, nil},
		"no class descriptor":      {[][]byte{intf(0, 0, 3, 0x0B), out, in, inter}, nil},
		"cut":                      {[][]byte{intf(0, 0, 3, 0x0B), raw, out, in, inter[:4]}, []byte{0}},
		"garbage after":            {[][]byte{intf(0, 0, 3, 0x0B), raw, out, in, inter, {0, 0, 0, 0, 0}}, []byte{0}},
		"garbage before":           {[][]byte{{1}, intf(0, 0, 3, 0x0B), raw, out, in, inter}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			body := slices.Concat(row.pieces...)
			config := append([]byte{9, 2, byte(9 + len(body)), byte((9 + len(body)) >> 8), 1, 1, 0, 0x80, 50}, body...)
			all, err := device.ParseConfigurations(config)
			var got []byte
			for _, c := range all {
				for _, in := range c.Interfaces {
					got = append(got, in.Number)
					if in.CCID != class {
						t.Errorf("the class descriptor changed: %+v", in.CCID)
					}
				}
			}
			if !bytes.Equal(got, row.want) || (err == nil) != (row.want != nil) {
				t.Errorf("interfaces %v, %v, want %v", got, err, row.want)
			}
		})
	}
}

// TestOddities: what is wrong with descriptors has words, and what is usual has none.
func TestOddities(t *testing.T) {
	for _, p := range readertest.Models() {
		d := ccidtest.New(p)
		if problem := device.Oddity(append(d.Descriptor(), d.Configuration()...)); problem != "" {
			t.Errorf("%s: %s", p.Info.Name, problem)
		}
	}
	head := func(configurations byte) []byte {
		return []byte{18, 1, 0, 2, 0, 0, 0, 64, 0x09, 0x12, 0x02, 0x00, 0x00, 0x01, 0, 0, 0, configurations}
	}
	configuration := []byte{9, 2, 18, 0, 1, 1, 0, 0x80, 50}
	one, two := []byte{9, 4, 0, 0, 0, 8, 6, 80, 0}, []byte{9, 4, 0, 1, 0, 8, 6, 80, 0}
	for _, row := range []struct {
		name string
		raw  []byte
		want string
	}{
		{"two settings", slices.Concat(head(1), configuration, one, two), ""},
		{"two configurations", slices.Concat(head(2), configuration, one, configuration, one), ""},
		{"nothing", nil, "cannot be read"},
		{"a length beyond the end", append([]byte{255}, head(0)[1:]...), "cannot be read"},
		{"a setting twice", slices.Concat(head(1), configuration, one, two, one), "interface 0 is described twice"},
		{"no length", slices.Concat(head(1), configuration, one, []byte{0, 0}), "at byte 36 says that it has 0 bytes"},
		{"cut", slices.Concat(head(1), configuration, one[:8]), "says that it has 9 bytes, and 8 are left"},
		{"fewer than said", slices.Concat(head(9), configuration, one), "has 9 configurations and describes 1"},
	} {
		problem := device.Oddity(row.raw)
		if row.want == "" && problem != "" || !strings.Contains(problem, row.want) {
			t.Errorf("%s: %q, want %q", row.name, problem, row.want)
		}
	}
}
