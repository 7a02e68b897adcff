// Package models has cards that exist, for simcard: how they behave, and how long they take.
package models

import (
	"fmt"
	"slices"

	"pam_pkcs11/internal/iso7816"
	"pam_pkcs11/internal/simcard"
)

// Model is a card that exists, as far as its behaviour is known and makes a difference. PIN, keys
// and the like are left empty.
type Model struct {
	Name    string
	About   string
	Options simcard.Options
}

// refusesForget is how cards refuse P1 FF of VERIFY.
const refusesForget = iso7816.StatusWrongP1P2

// Models are the cards of SP 800-73 and beside it that differ. What each does is from the sources
// that PINRules names, and from OpenSC's table of PIV cards.
var Models = []Model{
	{Name: "piv", About: "the card of the specification"},
	{
		Name:  "yubikey-neo",
		About: "YubiKey NEO: 630X, no discovery, P1=FF refused, VERIFY without data never says 9000",
		Options: simcard.Options{
			ATR: historicalATR("YubikeyNEOr3"),
			Select: simcard.SelectRules{
				AbsentDeselects: true,
				Template:        simcard.APTBare,
			},
			PINs: simcard.PINRules{
				PlainCounter:       true,
				AnyBytes:           true,
				Forget:             refusesForget,
				EmptyNeverVerified: true,
			},
			NoDiscovery: true,
			Factory:     true,
			Limits:      simcard.Limits{MaxCommand: 2048, Generous: true},
			Yubico:      &simcard.Yubico{Version: [3]byte{1, 0, 4}, Serial: 1020304},
		},
	},
	{
		Name:  "yubikey-4",
		About: "YubiKey 4.2.6: selecting PIV again forgets, P1=FF refused, VERIFY without data never says 9000",
		Options: simcard.Options{
			ATR: historicalATR("Yubikey4"),
			Select: simcard.SelectRules{
				ReselectLoses:   true,
				AbsentDeselects: true,
				Template:        simcard.APTBare,
			},
			PINs: simcard.PINRules{
				AnyBytes:           true,
				Forget:             refusesForget,
				EmptyNeverVerified: true,
			},
			Factory: true,
			Limits:  simcard.Limits{MaxCommand: 3072, Generous: true},
			Yubico:  &simcard.Yubico{Version: [3]byte{4, 2, 6}, Serial: 4050607, Attest: true},
		},
	},
	{
		Name:  "yubikey-5",
		About: "YubiKey 5 with firmware 5.7: metadata, serial number, attestation",
		Options: simcard.Options{
			ATR: ATRYubiKey5,
			Select: simcard.SelectRules{
				AbsentDeselects: true,
				Template:        simcard.APTBare,
			},
			PINs:    simcard.PINRules{AnyBytes: true},
			Factory: true,
			Limits:  simcard.Limits{MaxCommand: 3072, Generous: true},
			Yubico: &simcard.Yubico{
				Version:  [3]byte{5, 7, 1},
				Serial:   10203040,
				Metadata: simcard.MetadataFull,
				Attest:   true,
			},
		},
	},
	{
		Name:  "nitrokey-3",
		About: "Nitrokey 3: 6983 on the last try, 6300 for a wrong old PIN, metadata without content",
		Options: simcard.Options{
			ATR: compactATR("Nitrokey"),
			PINs: simcard.PINRules{
				LastBlocks:     true,
				WrongOld:       iso7816.StatusVerifyFailed,
				ChangeVerifies: true,
			},
			Ed25519: simcard.Ed25519Nitrokey,
			NoKey:   iso7816.StatusConditions,
			Yubico: &simcard.Yubico{Version: [3]byte{6, 6, 6}, Serial: 0x0052F743,
				Metadata: simcard.MetadataEmpty},
		},
	},
	{
		Name:  "pivapplet",
		About: "PivApplet on a Java card: any 8 bytes cost a try, P1=FF is 6983 while blocked",
		Options: simcard.Options{
			Select: simcard.SelectRules{Label: "PivApplet v0.9.0", AbsentDeselects: true},
			PINs:   simcard.PINRules{AnyBytes: true, ForgetBlocked: true},
			Tries:  5,
			Yubico: &simcard.Yubico{Version: [3]byte{5, 4, 0}, Serial: 0x00C0FFEE,
				Metadata: simcard.MetadataFull},
		},
	},
	{
		Name:  "canokey",
		About: "CanoKey: 61FF, emptied objects, 6700 for a PIN of another length, selecting PIV again forgets",
		Options: simcard.Options{
			Select: simcard.SelectRules{ReselectLoses: true, Template: simcard.APTAlgorithm},
			PINs: simcard.PINRules{LastBlocks: true, AnyBytes: true,
				BadLength: iso7816.StatusWrongLength},
			Usage:  &simcard.PINUsage{0x40, 0x10},
			Absent: &simcard.AbsentEmpty,
			NoKey:  iso7816.StatusConditions,
			Limits: simcard.Limits{Full61: true},
			Policies: map[simcard.KeyRef]simcard.Policy{
				simcard.KeySignature: {PIN: simcard.PINOnce},
			},
		},
	},
	{
		Name:  "pivkey",
		About: "PIVKey C910: no VERIFY without data, no discovery, PIV is selected by a reset",
		Options: simcard.Options{
			ATR:         historicalATR("PIVKEY"),
			Select:      simcard.SelectRules{AfterReset: simcard.PIV, ReselectLoses: true},
			PINs:        simcard.PINRules{Empty: iso7816.StatusWrongLength, Forget: refusesForget},
			NoDiscovery: true,
		},
	},
	{
		Name:  "cac",
		About: "dual CAC and PIV card, T=0 alone: the PIN is reference 00, no discovery, no key history",
		Options: simcard.Options{
			ATR: []byte{
				0x3B, 0x7D, 0x96, 0x00, 0x00, 0x80, 0x31, 0x80, 0x65, 0xB0, 0x83, 0x11, 0x00, 0xC8,
				0x83, 0x00, 0x90, 0x00,
			},
			Select: simcard.SelectRules{AfterReset: simcard.PIV,
				Template: simcard.APTWholeAID},
			PINs:        simcard.PINRules{AtZero: true, Empty: iso7816.StatusWrongLength},
			NoDiscovery: true,
			History:     simcard.History{Absent: true},
			Absent:      &simcard.AbsentFunction,
			Limits:      simcard.Limits{ShortOnly: true},
		},
	},
}

// Find returns the options of the model of that name, for a card of its own.
func Find(name string) (simcard.Options, error) {
	i := slices.IndexFunc(Models, func(m Model) bool { return m.Name == name })
	if i < 0 {
		return simcard.Options{}, fmt.Errorf("no model is called %q", name)
	}
	return Models[i].Options, nil
}

// historicalATR is an ATR for T=1 whose historical bytes are a text, as early YubiKeys and PIVKeys
// have.
func historicalATR(text string) []byte { return atrWith([]byte(text)) }

// compactATR is one with a name in compact TLV (5x, ISO/IEC 7816-4, section 12.1.1), and the card
// capabilities of ATRBoth.
func compactATR(name string) []byte {
	b := []byte{0x80, 0x73, 0xC0, 0x01, 0xC0, 0x50 | byte(len(name))}
	return atrWith(append(b, name...))
}

func atrWith(historical []byte) []byte {
	atr := append([]byte{0x3B, 0x80 | byte(len(historical)), 0x81, 0x31, 0xFE, 0x45}, historical...)
	return append(atr, iso7816.LRC(atr[1:]))
}
