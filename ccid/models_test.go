package ccid_test

import (
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"pam_pkcs11/ccid/ccidtest"
	"pam_pkcs11/ccid/device"
	"pam_pkcs11/ccid/plan"
)

// TestModels: each kind of reader gets an ATR and exchanges APDUs of all cases and sizes.
func TestModels(t *testing.T) {
	for name, p := range models() {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { exerciseDevice(t, p) })
		})
	}
}

// exerciseDevice exercises each slot of each interface with a T=0 card and a T=1 card.
func exerciseDevice(t *testing.T, p ccidtest.Profile) {
	d := ccidtest.New(asItIs(t, p))
	for i := range p.Interfaces {
		number := p.Interfaces[i].Number
		r := open(t, d, number, plan.Options{OldFirmware: true})
		for slot, s := range r.Slots() {
			for _, protocol := range []uint32{t0, t1} {
				if protocol == t0 && !r.Plan().T0 || protocol == t1 && !r.Plan().T1 {
					continue
				}
				card := &ccidtest.PatternCard{Bytes: atrT0}
				if protocol == t1 {
					card.Bytes = atrT1
				}
				d.Insert(number, slot, card)
				ready(t, s, protocol)
				exchangeAll(t, s, r.Plan(), protocol, extendedPossible(r.Plan(), protocol))
			}
		}
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	}
	if c := d.Counts(); c.Violations != 0 || c.Aborts != 0 || c.Resets != 0 {
		t.Errorf("the reader counts %+v", c)
	}
}

// asItIs makes a reader of which the table of quirks says so take extended APDUs, whatever its descriptor says.
func asItIs(t *testing.T, p ccidtest.Profile) ccidtest.Profile {
	p.Interfaces = slices.Clone(p.Interfaces)
	d := ccidtest.New(p)
	for i := range p.Interfaces {
		in := interfaceOf(t, d, p.Interfaces[i].Number)
		for _, q := range plan.New(p.Info, in, plan.Options{}).Quirks {
			if strings.Contains(q, "chaining") {
				p.Interfaces[i].CCID.Features |= device.FeatureExtendedAPDU
			}
		}
	}
	return p
}

// extendedPossible reports whether APDUs of extended length can go to a card.
func extendedPossible(p *plan.Plan, protocol uint32) bool {
	return p.Level == plan.LevelExtendedAPDU || protocol == t1 && p.Level != plan.LevelShortAPDU
}
