package data

import "fmt"

// Key references of PINs (part 1, table 4), P2 of VERIFY and its like.
const (
	GlobalPIN      byte = 0x00
	ApplicationPIN byte = 0x80
	PUK            byte = 0x81
)

// Discovery is the discovery object (part 1, 3.3.2).
type Discovery struct {
	// Policy is the first byte of the PIN usage policy: 40 application PIN, 20 global PIN, 10
	// on-card biometric comparison, 08 virtual contact interface, 04 that without a pairing code.
	Policy byte

	// Preferred is its second byte: 10 the application PIN, 20 the global PIN. It counts only where
	// the card has both.
	Preferred byte
}

// The PIN usage policy: its tag, and the bits of the global PIN in its two bytes.
const (
	tagPINPolicy uint32 = 0x5F2F

	policyGlobal = 0x20
	preferGlobal = 0x20
)

// ParseDiscovery reads the content of the discovery object, which is what Object has returned.
func ParseDiscovery(content []byte) (*Discovery, error) {
	d := &Discovery{}
	var policy []byte

	err := elements(content, func(tag uint32, value []byte) error {
		if tag == tagPINPolicy {
			return once(&policy, tag, value)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}

	if len(policy) != 2 {
		return nil, fmt.Errorf("%w: PIN usage policy of %d bytes", ErrObject, len(policy))
	}

	d.Policy = policy[0]
	d.Preferred = policy[1]
	return d, nil
}

// Global reports whether the card has the global PIN, and prefers it to the application PIN.
func (d *Discovery) Global() bool {
	return d != nil && d.Policy&policyGlobal != 0 && d.Preferred == preferGlobal
}

// PIN returns the key reference of the PIN that the user knows: ApplicationPIN, unless the global
// PIN is preferred. nil is a card without the object.
func (d *Discovery) PIN() byte {
	if d.Global() {
		return GlobalPIN
	}
	return ApplicationPIN
}
