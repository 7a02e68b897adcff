package plan_test

import (
	"strings"
	"testing"

	"pam_pkcs11/ccid/ccidtest"
	"pam_pkcs11/ccid/device"
	"pam_pkcs11/ccid/internal/readertest"
	"pam_pkcs11/ccid/plan"
)

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
	for name, p := range readertest.Models() {
		if want[name] == "" {
			continue
		}
		d := ccidtest.New(p)
		if got := plan.New(p.Info, readertest.InterfaceOf(t, d, 0), plan.Options{}).String(); got != want[name] {
			t.Errorf("%s:\n got %s\nwant %s", name, got, want[name])
		}
	}
}

// TestQuirkTable: each entry has a reason and a name, and a range that is one.
func TestQuirkTable(t *testing.T) {
	for i := range plan.NumberOfQuirks() {
		vendor, product, from, to, name, reason := plan.Quirk(i)
		if vendor == 0 || name == "" || strings.ContainsAny(name, " ;") || len(reason) < 5 || to != 0 && from > to {
			t.Errorf("entry %d, %04X:%04X: name %q, reason %q, %04X to %04X", i, vendor, product, name, reason, from, to)
		}
	}
}

// TestKnown: the readers that have to be in the list, and their status.
func TestKnown(t *testing.T) {
	for _, row := range []struct {
		vendor, product uint16
		status          plan.KnownStatus
		name            string
	}{
		{0x24DC, 0x0402, plan.StatusShouldWork, "JaCarta"},
		{0x0A5C, 0x5832, plan.StatusShouldWork, "5880"},
		{0x0A5C, 0x5833, plan.StatusShouldWork, "5880"},
		{0x0A5C, 0x5834, plan.StatusShouldWork, "5880"},
		{0x2CE4, 0x7479, plan.StatusShouldWork, "ESMART"},
		{0x096E, 0x0622, plan.StatusShouldWork, "VR504"},
		{0x096E, 0x0623, plan.StatusShouldWork, "bR500"},
		{0x08E6, 0x3437, plan.StatusSupported, "Gemalto"}, // also the K50
		{0x2406, 0x5004, plan.StatusShouldWork, "ID100"},
		{0x2406, 0x5003, plan.StatusShouldWork, "ID50"},
		{0x04CC, 0x5072, plan.StatusUnsupported, "KONA"},
		{0x0A5C, 0x5800, plan.StatusUnsupported, "5880"},
		{0x0A5C, 0x5805, plan.StatusUnsupported, "5880"},
	} {
		k, ok := plan.LookUp(row.vendor, row.product)
		if !ok || k.Status != row.status || !strings.Contains(k.Name, row.name) {
			t.Errorf("%04X:%04X: %+v, %v", row.vendor, row.product, k, ok)
		}
	}
	if k, ok := plan.LookUp(0xFFFF, 0xFFFF); ok {
		t.Errorf("%+v", k)
	}
	in := &device.Interface{Class: device.ClassVendor}
	if plan.Drives(device.Info{Vendor: 1, Product: 1}, in, plan.Options{}) || !plan.Drives(device.Info{Vendor: 1, Product: 1}, in, plan.Options{VendorClass: true}) {
		t.Error("class FF of an unknown device")
	}
	if in.Class = device.ClassSmartCard; !plan.Drives(device.Info{Vendor: 1, Product: 1}, in, plan.Options{}) {
		t.Error("class 0B of an unknown device")
	}
}
