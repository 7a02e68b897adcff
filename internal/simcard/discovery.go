package simcard

import "pam_pkcs11/internal/iso7816"

// Bits of the first byte of the PIN usage policy (part 1, section 3.3.2).
const (
	policyPIN    = 0x40 // the application's PIN serves
	policyGlobal = 0x20 // the global PIN serves too
)

// PINUsage is the PIN usage policy of the discovery object: which PINs serve, and, when both do, which
// one is preferred (10 the application's, 20 the global one). CanoKey has 40 10.
type PINUsage [2]byte

// The policies of most cards.
var (
	UsagePIN         = PINUsage{policyPIN, 0x00}
	UsageBoth        = PINUsage{policyPIN | policyGlobal, 0x10}
	UsageGlobalFirst = PINUsage{policyPIN | policyGlobal, 0x20}
)

// usage is the policy that the options ask for: the application's PIN alone, unless there is a global
// one, which then is preferred.
func (o *Options) usage() PINUsage {
	switch {
	case o.Usage != nil:
		return *o.Usage
	case o.GlobalPIN != "":
		return UsageGlobalFirst
	}
	return UsagePIN
}

func (c *Card) globalServes() bool { return c.o.usage()[0]&policyGlobal != 0 }

// discovery is the discovery object (part 1, section 3.3.2).
func (c *Card) discovery() []byte {
	usage := c.o.usage()
	return iso7816.AppendTLV(nil, ObjectDiscovery,
		iso7816.AppendTLV(nil, 0x4F, aid), iso7816.AppendTLV(nil, 0x5F2F, usage[:]))
}
