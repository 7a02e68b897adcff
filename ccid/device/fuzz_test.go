package device_test

import (
	"bytes"
	"testing"

	"pam_pkcs11/ccid/ccidtest"
	"pam_pkcs11/ccid/device"
	"pam_pkcs11/ccid/internal/readertest"
	"pam_pkcs11/ccid/plan"
)

// FuzzConfigurations: whatever the descriptors are, nothing panics, and each reader found has a plan without absurd
// values and a class descriptor that is in the bytes.
func FuzzConfigurations(f *testing.F) {
	for _, p := range readertest.Models() {
		d := ccidtest.New(p)
		f.Add(d.Configuration())
		f.Add(append(d.Descriptor(), d.Configuration()...))
	}
	f.Add([]byte{255, 1, 0, 2, 0, 0, 0, 64, 9, 18, 2, 0, 0, 1, 0, 0, 0, 1})
	f.Fuzz(func(t *testing.T, raw []byte) {
		device.Oddity(raw)
		all, err := device.ParseConfigurations(raw)
		for _, c := range all {
			for i := range c.Interfaces {
				in := &c.Interfaces[i]
				if !bytes.Contains(raw, in.CCID.Append(nil)) {
					t.Errorf("class descriptor %+v is not in the bytes", in.CCID)
				}
				p := plan.New(device.Info{}, in, plan.Options{})
				if p.Slots < 1 || p.Slots > 16 || p.MaxIFSD < 1 || p.MaxIFSD > 254 || p.MaxMessage < 32 || p.MaxMessage > 65558 || p.Clock < 1000 || len(p.Voltages) == 0 || !p.T0 && !p.T1 {
					t.Errorf("plan %v", p)
				}
				if err != nil {
					t.Errorf("a reader and an error: %v", err)
				}
			}
		}
	})
}
