package ccid_test

import (
	"bytes"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"pam_pkcs11/ccid"
	"pam_pkcs11/ccid/ccidtest"
)

// TestInterfaces: readers are found wherever they stand among other interfaces, by what makes them one.
func TestInterfaces(t *testing.T) {
	class := descriptor(extended)
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
			all, err := ccid.ParseConfigurations(config)
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

// TestLyingDescriptors: absurd values make a plan with which a reader that is all right otherwise works.
func TestLyingDescriptors(t *testing.T) {
	for name, change := range map[string]func(d *ccid.ClassDescriptor){
		"message length 0":         func(d *ccid.ClassDescriptor) { d.MaxMessageLength = 0 },
		"message length 10":        func(d *ccid.ClassDescriptor) { d.MaxMessageLength = 10 },
		"message length 2^32-1":    func(d *ccid.ClassDescriptor) { d.MaxMessageLength = 0xFFFFFFFF },
		"slots 256":                func(d *ccid.ClassDescriptor) { d.MaxSlotIndex = 255 },
		"busy slots 0":             func(d *ccid.ClassDescriptor) { d.MaxBusySlots = 0 },
		"busy slots 255":           func(d *ccid.ClassDescriptor) { d.MaxBusySlots = 255 },
		"IFSD 0":                   func(d *ccid.ClassDescriptor) { d.MaxIFSD = 0 },
		"IFSD 65535":               func(d *ccid.ClassDescriptor) { d.MaxIFSD = 65535 },
		"protocols 0":              func(d *ccid.ClassDescriptor) { d.Protocols = 0 },
		"protocols 0300":           func(d *ccid.ClassDescriptor) { d.Protocols = 0x300 },
		"protocols 00020003":       func(d *ccid.ClassDescriptor) { d.Protocols = 0x20003 },
		"clock 0":                  func(d *ccid.ClassDescriptor) { d.DefaultClock = 0 },
		"clock 250 kHz":            func(d *ccid.ClassDescriptor) { d.DefaultClock = 250 },
		"clock 1 GHz":              func(d *ccid.ClassDescriptor) { d.DefaultClock = 1024000 },
		"voltages 0":               func(d *ccid.ClassDescriptor) { d.VoltageSupport = 0 },
		"data rate 0":              func(d *ccid.ClassDescriptor) { d.MaxDataRate = 0 },
		"data rate 2^32-1":         func(d *ccid.ClassDescriptor) { d.MaxDataRate = 0xFFFFFFFF },
		"255 rates, none told":     func(d *ccid.ClassDescriptor) { d.DataRatesSupported = 255 },
		"release 10.01":            func(d *ccid.ClassDescriptor) { d.Release = 0x1001 },
		"all levels":               func(d *ccid.ClassDescriptor) { d.Features |= 0x70000 },
		"all bits of the features": func(d *ccid.ClassDescriptor) { d.Features = 0xFFFFFFFF },
	} {
		for level, f := range map[string]ccid.Feature{"TPDU": tpdu, "extended": extended} {
			t.Run(name+", "+level, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					c := descriptor(f)
					change(&c)
					d := ccidtest.New(profile(c))
					r := open(t, d, 0, ccid.Options{})
					s := r.Slots()[0]
					d.Insert(0, 0, &ccidtest.PatternCard{Bytes: atrBoth})
					ready(t, s, t1)
					exchange(t, s, t1, apdu(0, 0))
					exchange(t, s, t1, apdu(200, 200))
					if p := r.Plan(); p.Slots > 16 || p.MaxIFSD < 1 || p.MaxIFSD > 254 || p.MaxMessage < 32 || p.MaxMessage > 65558 || p.Clock < 1000 || p.Clock > 20000 {
						t.Errorf("plan %v", p)
					}
				})
			})
		}
	}
}

// TestPlanOfModels: the plan of the readers that are literals here.
func TestPlanOfModels(t *testing.T) {
	want := map[string]string{
		"TPDU, host does all":     "CCID TPDU; T=0+T=1; PPS host; IFSD host 254; 5V,3V,1.8V; presence interrupt; PIN none; slots 1; message 271; 4000 kHz; 344086 bit/s; quirks none",
		"TPDU, reader does PPS":   "CCID TPDU; T=0+T=1; PPS reader; IFSD host 254; auto; presence interrupt; PIN none; slots 1; message 271; 4000 kHz; 344086 bit/s; quirks none",
		"TPDU, reader does all":   "CCID TPDU; T=0+T=1; PPS reader; IFSD reader 254; auto; presence interrupt; PIN none; slots 1; message 271; 4000 kHz; 344086 bit/s; quirks none",
		"short APDU":              "CCID short APDU; T=0+T=1; PPS reader; IFSD nobody 254; auto; presence interrupt; PIN none; slots 1; message 271; 4000 kHz; 344086 bit/s; quirks none",
		"extended APDU":           "CCID extended APDU; T=0+T=1; PPS reader; IFSD nobody 254; auto; presence interrupt; PIN none; slots 1; message 271; 4000 kHz; 344086 bit/s; quirks none",
		"character":               "CCID character; T=0+T=1; PPS host; IFSD host 254; 5V,3V,1.8V; presence interrupt; PIN none; slots 1; message 271; 4000 kHz; 344086 bit/s; quirks none",
		"character, reads in two": "CCID character; T=0+T=1; PPS host; IFSD host 254; 5V,3V,1.8V; presence interrupt; PIN none; slots 1; message 271; 4000 kHz; 9600 bit/s; quirks O2Micro",
		"ICCD-B":                  "ICCD-B short APDU; T=1; PPS nobody; IFSD nobody 254; 5V,3V,1.8V; presence fixed; PIN none; slots 1; message 271; 4000 kHz; 344086 bit/s; quirks none",
		"ICCD-A":                  "ICCD-A character; T=0; PPS nobody; IFSD nobody 254; 5V,3V,1.8V; presence fixed; PIN none; slots 1; message 271; 4000 kHz; 344086 bit/s; quirks none",
	}
	for name, p := range models() {
		if want[name] == "" {
			continue
		}
		d := ccidtest.New(p)
		if got := ccid.NewPlan(p.Info, interfaceOf(t, d, 0), ccid.Options{}).String(); got != want[name] {
			t.Errorf("%s:\n got %s\nwant %s", name, got, want[name])
		}
	}
}

// TestQuirkTable: each entry has a reason and a name, and a range that is one.
func TestQuirkTable(t *testing.T) {
	for i := range ccid.NumberOfQuirks() {
		vendor, product, from, to, name, reason := ccid.Quirk(i)
		if vendor == 0 || name == "" || strings.ContainsAny(name, " ;") || len(reason) < 5 || to != 0 && from > to {
			t.Errorf("entry %d, %04X:%04X: name %q, reason %q, %04X to %04X", i, vendor, product, name, reason, from, to)
		}
	}
}

// TestKnown: the readers that have to be in the list, and their status.
func TestKnown(t *testing.T) {
	for _, row := range []struct {
		vendor, product uint16
		status          ccid.KnownStatus
		name            string
	}{
		{0x24DC, 0x0402, ccid.StatusShouldWork, "JaCarta"},
		{0x0A5C, 0x5832, ccid.StatusShouldWork, "5880"},
		{0x0A5C, 0x5833, ccid.StatusShouldWork, "5880"},
		{0x0A5C, 0x5834, ccid.StatusShouldWork, "5880"},
		{0x2CE4, 0x7479, ccid.StatusShouldWork, "ESMART"},
		{0x096E, 0x0622, ccid.StatusShouldWork, "VR504"},
		{0x096E, 0x0623, ccid.StatusShouldWork, "bR500"},
		{0x08E6, 0x3437, ccid.StatusSupported, "Gemalto"}, // also the K50
		{0x2406, 0x5004, ccid.StatusShouldWork, "ID100"},
		{0x2406, 0x5003, ccid.StatusShouldWork, "ID50"},
		{0x04CC, 0x5072, ccid.StatusUnsupported, "KONA"},
		{0x0A5C, 0x5800, ccid.StatusUnsupported, "5880"},
		{0x0A5C, 0x5805, ccid.StatusUnsupported, "5880"},
	} {
		k, ok := ccid.LookUp(row.vendor, row.product)
		if !ok || k.Status != row.status || !strings.Contains(k.Name, row.name) {
			t.Errorf("%04X:%04X: %+v, %v", row.vendor, row.product, k, ok)
		}
	}
	if k, ok := ccid.LookUp(0xFFFF, 0xFFFF); ok {
		t.Errorf("%+v", k)
	}
	in := &ccid.Interface{Class: ccid.ClassVendor}
	if ccid.Drives(ccid.DeviceInfo{Vendor: 1, Product: 1}, in, ccid.Options{}) || !ccid.Drives(ccid.DeviceInfo{Vendor: 1, Product: 1}, in, ccid.Options{VendorClass: true}) {
		t.Error("class FF of an unknown device")
	}
	if in.Class = ccid.ClassSmartCard; !ccid.Drives(ccid.DeviceInfo{Vendor: 1, Product: 1}, in, ccid.Options{}) {
		t.Error("class 0B of an unknown device")
	}
}

// TestContained: a panic over one device's descriptors is said, and is nobody else's affair.
func TestContained(t *testing.T) {
	ok, said := ccid.Contained("3-1", func() bool { panic("index out of range") })
	if ok || said != "WARN 3-1: reading its descriptors failed: index out of range" {
		t.Errorf("%v, %q", ok, said)
	}
	if ok, said := ccid.Contained("3-1", func() bool { return true }); !ok || said != "" {
		t.Errorf("%v, %q", ok, said)
	}
}

// TestOddities: what is wrong with descriptors has words, and what is usual has none.
func TestOddities(t *testing.T) {
	for _, p := range models() {
		d := ccidtest.New(p)
		if problem := ccid.Oddity(append(d.Descriptor(), d.Configuration()...)); problem != "" {
			t.Errorf("%s: %s", p.Info.Name, problem)
		}
	}
	device := func(configurations byte) []byte {
		return []byte{18, 1, 0, 2, 0, 0, 0, 64, 0x09, 0x12, 0x02, 0x00, 0x00, 0x01, 0, 0, 0, configurations}
	}
	configuration := []byte{9, 2, 18, 0, 1, 1, 0, 0x80, 50}
	one, two := []byte{9, 4, 0, 0, 0, 8, 6, 80, 0}, []byte{9, 4, 0, 1, 0, 8, 6, 80, 0}
	for _, row := range []struct {
		name string
		raw  []byte
		want string
	}{
		{"two settings", slices.Concat(device(1), configuration, one, two), ""},
		{"two configurations", slices.Concat(device(2), configuration, one, configuration, one), ""},
		{"nothing", nil, "cannot be read"},
		{"a length beyond the end", append([]byte{255}, device(0)[1:]...), "cannot be read"},
		{"a setting twice", slices.Concat(device(1), configuration, one, two, one), "interface 0 is described twice"},
		{"no length", slices.Concat(device(1), configuration, one, []byte{0, 0}), "at byte 36 says that it has 0 bytes"},
		{"cut", slices.Concat(device(1), configuration, one[:8]), "says that it has 9 bytes, and 8 are left"},
		{"fewer than said", slices.Concat(device(9), configuration, one), "has 9 configurations and describes 1"},
	} {
		problem := ccid.Oddity(row.raw)
		if row.want == "" && problem != "" || !strings.Contains(problem, row.want) {
			t.Errorf("%s: %q, want %q", row.name, problem, row.want)
		}
	}
}
