package usb

import (
	"testing"

	"pam_pkcs11/pcsc"
)

// stacks are those that the tests go through.
func stacks() []stack {
	return []stack{
		{"Debian", func(t *testing.T) *pcsc.Context { _, c := startDebian(t); return c }},
	}
}

func TestApplications(t *testing.T) {
	for _, s := range stacks() {
		for _, m := range models() {
			t.Run(s.name+"/"+m.name, func(t *testing.T) {
				b := newBench(t, m)
				b.play(s.start(t))
			})
		}
	}
}

func TestManyCommands(t *testing.T) {
	for _, s := range stacks() {
		for _, m := range models() {
			t.Run(s.name+"/"+m.name, func(t *testing.T) {
				b := newBench(t, m)
				b.endure(s.start(t))
			})
		}
	}
}
