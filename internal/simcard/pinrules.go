package simcard

import (
	"bytes"

	"pam_pkcs11/internal/iso7816"
)

// PINRules is how a card takes PINs. The zero value is the specification's card (3.2.1 to 3.2.3).
// The words of other cards are those of Nitrokey's piv-authenticator, PivApplet and CanoKey as
// their sources have them; of YubiKeys as OpenSC and yubico-piv-tool expect them.
type PINRules struct {
	// PlainCounter: a wrong PIN is answered 630X in place of 63CX (YubiKey NEO).
	PlainCounter bool

	// LastBlocks: the wrong PIN that takes the last try is answered 6983 in place of 63C0 (Nitrokey
	// 3, CanoKey).
	LastBlocks bool

	// Uncounted: a wrong PIN is answered 6300, without a number.
	Uncounted bool

	// AnyBytes: 8 bytes of any kind are compared, and cost a try (YubiKey, PivApplet, CanoKey). The
	// card's own PIN may then have other characters than digits.
	AnyBytes bool

	// BadLength answers data that has not 8 bytes, which costs no try; 6A80 (CanoKey: 6700).
	BadLength iso7816.Status

	// Forget refuses VERIFY with P1 FF in this word (NEO and YubiKey before 5.4.3: 6A86 or 6B00).
	Forget iso7816.Status

	// ForgetBlocked: VERIFY with P1 FF is answered 6983 while the PIN is blocked (PivApplet).
	ForgetBlocked bool

	// Empty refuses VERIFY without data in this word; 6700 and 6A80 occur (PIVKey).
	Empty iso7816.Status

	// EmptyNeverVerified: VERIFY without data tells the tries even when the PIN is verified (NEO,
	// YubiKey before 4.3.2).
	EmptyNeverVerified bool

	// EmptyCounts: VERIFY without data costs a try, as a PIN of no length would. No card is known
	// to do it; old ones are feared to.
	EmptyCounts bool

	// EmptyBlocked: VERIFY without data is answered 6983, in place of 63C0, when no try is left.
	EmptyBlocked bool

	// WrongOld answers CHANGE REFERENCE DATA with a wrong old PIN, in place of VERIFY's word
	// (Nitrokey 3: 6300).
	WrongOld iso7816.Status

	// ChangeVerifies: a change of the PIN leaves it verified (Nitrokey 3).
	ChangeVerifies bool

	// AtZero: the PIN is reference 00, and 80 is unknown (cards of SP 800-73-1).
	AtZero bool
}

// form checks 8 bytes that are to be a PIN.
func (r *PINRules) form(data []byte) iso7816.Status {
	switch {
	case len(data) != referenceLength:
		return r.badLength()
	case !r.AnyBytes && !goodPIN(data):
		return iso7816.StatusWrongData
	}
	return iso7816.StatusOK
}

func (r *PINRules) badLength() iso7816.Status {
	if r.BadLength != 0 {
		return r.BadLength
	}
	return iso7816.StatusWrongData
}

// tooShort reports whether a new value has less than 6 characters.
func tooShort(b []byte) bool { return len(bytes.TrimRight(b, "\xFF")) < 6 }

// wrong answers a wrong value, or one that came when no try was left.
func (r *PINRules) wrong(ref *reference, blocked bool) iso7816.Status {
	if blocked || ref.left == 0 && r.LastBlocks {
		return iso7816.StatusBlocked
	}
	if r.Uncounted {
		return iso7816.StatusVerifyFailed
	}
	return r.counter(ref)
}

// tries answers the question how many tries are left.
func (r *PINRules) tries(ref *reference) iso7816.Status {
	if ref.left == 0 && r.EmptyBlocked {
		return iso7816.StatusBlocked
	}
	return r.counter(ref)
}

func (r *PINRules) counter(ref *reference) iso7816.Status {
	if r.PlainCounter {
		return iso7816.StatusVerifyFailed | iso7816.Status(min(ref.left, 15))
	}
	return iso7816.StatusTries(ref.left)
}

// Bits of the first byte of the PIN usage policy (part 1, section 3.3.2).
const (
	policyPIN    = 0x40 // the application's PIN serves
	policyGlobal = 0x20 // the global PIN serves too
)

// PINUsage is the PIN usage policy of the discovery object: which PINs serve, and, when both do,
// which one is preferred (10 the application's, 20 the global one). CanoKey has 40 10.
type PINUsage [2]byte

// The policies of most cards.
var (
	UsagePIN         = PINUsage{policyPIN, 0x00}
	UsageBoth        = PINUsage{policyPIN | policyGlobal, 0x10}
	UsageGlobalFirst = PINUsage{policyPIN | policyGlobal, 0x20}
)

// usage is the policy that the options ask for: the application's PIN alone, unless there is a
// global one, which then is preferred.
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
