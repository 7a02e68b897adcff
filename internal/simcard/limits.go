package simcard

import "pam_pkcs11/internal/iso7816"

// Limits is what a card can transport. The zero value takes short and extended APDUs, and chains, of
// any length.
type Limits struct {
	// ShortOnly: an APDU of extended length is answered 6700.
	ShortOnly bool

	// MaxCommand bounds the data of a command, its whole chain together; more is answered 6700 (YubiKey
	// NEO 2048, YubiKey 4 3072, by yubico-piv-tool). 0 is 16 KiB.
	MaxCommand int

	// MaxAnswer bounds what one answer brings, as if fewer bytes had been asked for. 0 is no bound.
	MaxAnswer int

	// Full61: 61FF tells of 256 bytes or more, where the specification has 6100 (CanoKey).
	Full61 bool

	// ExactLe: GET DATA and GET RESPONSE that ask for another number of bytes than there are, 256 apart,
	// are answered 6Cxx, and bring nothing.
	ExactLe bool

	// Silent: a piece that fills the answer ends with 9000, and not with 61xx; GET RESPONSE brings the
	// rest, and after the last 6A80 (cards that pivy knows).
	Silent bool

	// DropChain: a command in the middle of a chain ends the chain in silence, and is executed; the
	// specification's card answers 6883.
	DropChain bool
}

// takes judges the length of a command as it arrives.
func (l *Limits) takes(apdu *iso7816.Command) iso7816.Status {
	if l.ShortOnly && (len(apdu.Data) > iso7816.MaxShortNc || apdu.Ne > iso7816.MaxShortNe) {
		return iso7816.StatusWrongLength
	}
	return iso7816.StatusOK
}

// maxCommand is the most that a command brings.
func (l *Limits) maxCommand() int {
	if l.MaxCommand > 0 {
		return l.MaxCommand
	}
	return maxChain
}

// more is the word that tells how much still waits.
func (l *Limits) more(rest int) iso7816.Status {
	switch {
	case rest < 256:
		return 0x6100 | iso7816.Status(rest)
	case l.Full61:
		return 0x61FF
	}
	return 0x6100
}

// wrongLe is 6Cxx, where the number of bytes asked for is not that of those that are there.
func (l *Limits) wrongLe(ne, there int) (iso7816.Status, bool) {
	if !l.ExactLe || there >= iso7816.MaxShortNe || ne == there || ne >= iso7816.MaxShortNe {
		return 0, false
	}
	return 0x6C00 | iso7816.Status(there), true
}
