package models

import (
	"fmt"
	"time"

	"pam_pkcs11/internal/iso7816"
	"pam_pkcs11/internal/simcard"
)

// Instructions that take longer than others (NIST SP 800-73-4, part 2, table 2).
const (
	insVerify  = 0x20
	insGetData = 0xCB
)

// clockOfReaders is usual for a contact card's line.
const clockOfReaders = 4_000_000

// keyTimes are those of a card in the middle: for RSA-2048 real ones need 60 to 700 ms. All are
// estimates.
var keyTimes = map[simcard.Algorithm]time.Duration{
	simcard.RSA1024: 60 * time.Millisecond,
	simcard.RSA2048: 300 * time.Millisecond,
	simcard.RSA3072: 800 * time.Millisecond,
	simcard.RSA4096: 1600 * time.Millisecond,
	simcard.P256:    60 * time.Millisecond,
	simcard.P384:    120 * time.Millisecond,
	simcard.P521:    200 * time.Millisecond,
	simcard.Ed25519: 60 * time.Millisecond,
}

// contact is a contact card: 2 ms for reader and USB and 8 ms for the card's program, both
// estimates, and the line.
var contact = simcard.Pace{Command: 10 * time.Millisecond, Keys: keyTimes, Clock: clockOfReaders}

// Profile is a kind of card in a reader of its time.
type Profile struct {
	Name  string
	About string
	ATR   []byte
	Pace  simcard.Pace
}

// Profiles are cards as slow as real ones. The first three are those that logins are measured with.
var Profiles = []Profile{
	{
		Name:  "yubikey5",
		About: "YubiKey 5 over its own CCID: 1.5 ms a command, VERIFY 10 ms",
		ATR:   ATRYubiKey5,
		Pace: simcard.Pace{
			Command:      1500 * time.Microsecond,
			Instructions: map[byte]time.Duration{insVerify: 8500 * time.Microsecond},
			Keys:         keyTimes,
		},
	},
	{
		Name:  "contact",
		About: "contact card, T=1 at TA1=18 (372/12), as those of G+D and IDEMIA",
		ATR:   paced(0x18, true),
		Pace:  contact,
	},
	{
		Name:  "t0",
		About: "contact card, T=0 at TA1=96 (512/32), as those of Gemalto and Oberthur in CACs",
		ATR:   paced(0x96, false),
		Pace:  contact,
	},
	{
		Name:  "fast",
		About: "contact card, T=1 at TA1=97 (512/64), as ID-One 8.1",
		ATR:   paced(0x97, true),
		Pace:  contact,
	},
	{
		Name:  "slow",
		About: "contact card, T=1 at the default rate (372/1), or a reader that does no PPS",
		ATR:   paced(0x11, true),
		Pace:  contact,
	},
	{
		Name:  "nitrokey3",
		About: "Nitrokey 3: GET DATA 100 ms, VERIFY 850 ms",
		ATR:   simcard.ATRBoth,
		Pace: simcard.Pace{
			Command: 2 * time.Millisecond,
			Instructions: map[byte]time.Duration{
				insGetData: 98 * time.Millisecond,
				insVerify:  848 * time.Millisecond,
			},
			Keys: keyTimes,
		},
	},
}

// ATRYubiKey5 is that of a YubiKey 5 over USB, from OpenSC's and Yubico's documentation.
var ATRYubiKey5 = []byte{
	0x3B, 0xFD, 0x13, 0x00, 0x00, 0x81, 0x31, 0xFE, 0x15, 0x80, 0x73, 0xC0, 0x21, 0xC0,
	0x57, 0x59, 0x75, 0x62, 0x69, 0x4B, 0x65, 0x79, 0x40,
}

// paced is simcard.ATRT1 or simcard.ATRT0 with another TA1.
func paced(ta1 byte, t1 bool) []byte {
	if !t1 {
		atr := append([]byte(nil), simcard.ATRT0...)
		atr[2] = ta1
		return atr
	}

	// The check byte at the end is made anew, as TA1 is among the bytes that it covers.
	atr := append([]byte(nil), simcard.ATRT1[:len(simcard.ATRT1)-1]...)
	atr[2] = ta1
	return append(atr, iso7816.LRC(atr[1:]))
}

// FindProfile returns the profile of that name.
func FindProfile(name string) (*Profile, error) {
	for i := range Profiles {
		if Profiles[i].Name == name {
			return &Profiles[i], nil
		}
	}
	return nil, fmt.Errorf("no profile is called %q", name)
}
