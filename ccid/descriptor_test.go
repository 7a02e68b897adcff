package ccid_test

import (
	"testing"
	"testing/synctest"

	"pam_pkcs11/ccid/ccidtest"
	"pam_pkcs11/ccid/device"
	"pam_pkcs11/ccid/plan"
)

// TestLyingDescriptors: absurd values make a plan with which a reader that is all right otherwise works.
func TestLyingDescriptors(t *testing.T) {
	for name, change := range map[string]func(d *device.ClassDescriptor){
		"message length 0":         func(d *device.ClassDescriptor) { d.MaxMessageLength = 0 },
		"message length 10":        func(d *device.ClassDescriptor) { d.MaxMessageLength = 10 },
		"message length 2^32-1":    func(d *device.ClassDescriptor) { d.MaxMessageLength = 0xFFFFFFFF },
		"slots 256":                func(d *device.ClassDescriptor) { d.MaxSlotIndex = 255 },
		"busy slots 0":             func(d *device.ClassDescriptor) { d.MaxBusySlots = 0 },
		"busy slots 255":           func(d *device.ClassDescriptor) { d.MaxBusySlots = 255 },
		"IFSD 0":                   func(d *device.ClassDescriptor) { d.MaxIFSD = 0 },
		"IFSD 65535":               func(d *device.ClassDescriptor) { d.MaxIFSD = 65535 },
		"protocols 0":              func(d *device.ClassDescriptor) { d.Protocols = 0 },
		"protocols 0300":           func(d *device.ClassDescriptor) { d.Protocols = 0x300 },
		"protocols 00020003":       func(d *device.ClassDescriptor) { d.Protocols = 0x20003 },
		"clock 0":                  func(d *device.ClassDescriptor) { d.DefaultClock = 0 },
		"clock 250 kHz":            func(d *device.ClassDescriptor) { d.DefaultClock = 250 },
		"clock 1 GHz":              func(d *device.ClassDescriptor) { d.DefaultClock = 1024000 },
		"voltages 0":               func(d *device.ClassDescriptor) { d.VoltageSupport = 0 },
		"data rate 0":              func(d *device.ClassDescriptor) { d.MaxDataRate = 0 },
		"data rate 2^32-1":         func(d *device.ClassDescriptor) { d.MaxDataRate = 0xFFFFFFFF },
		"255 rates, none told":     func(d *device.ClassDescriptor) { d.DataRatesSupported = 255 },
		"release 10.01":            func(d *device.ClassDescriptor) { d.Release = 0x1001 },
		"all levels":               func(d *device.ClassDescriptor) { d.Features |= 0x70000 },
		"all bits of the features": func(d *device.ClassDescriptor) { d.Features = 0xFFFFFFFF },
	} {
		for level, f := range map[string]device.Feature{"TPDU": tpdu, "extended": extended} {
			t.Run(name+", "+level, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					c := descriptor(f)
					change(&c)
					d := ccidtest.New(profile(c))
					r := open(t, d, 0, plan.Options{})
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
