package data

import (
	"bytes"
	"slices"
	"strings"

	"pam_pkcs11/internal/iso7816"
)

// Kind is a kind of card, and what is special about it. With the zero value of each field a card is
// as SP 800-73-4 has it.
type Kind struct {
	Name string // "YubiKey 5"; never ""
	Why  string // what is special about it, with the source, in English; "" where nothing is

	// NoEmptyVerify is set where VERIFY without a PIN tells nothing of use, or is not known to be
	// harmless: it is not sent.
	NoEmptyVerify bool

	// NoForget is set where VERIFY with P1 = FF, which locks the card again, is refused.
	NoForget bool

	// NoDiscovery is set where there is no discovery object.
	NoDiscovery bool

	// Metadata is set where the card may answer GET METADATA (INSMetadata) and its like.
	Metadata bool

	// AnyPIN is set where the PIN may have other characters than digits.
	AnyPIN bool

	// TouchHangs is set where a command that waits for a touch may hang within two seconds after an
	// answer of more than 54 bytes, unless a short command that fails is sent between.
	TouchHangs bool

	// Ed25519 is the algorithm identifier of keys on Ed25519; 0 where it is not known.
	Ed25519 byte
}

// kindRow is one row of the table of kinds: a card is of the kind whose first row fits.
type kindRow struct {
	kind Kind

	begins []string // the historical bytes begin with one of these,
	holds  []string // or hold one of these,
	label  string   // or the label of the application begins so
}

// kinds is the table. More special rows come before more general ones.
var kinds = []kindRow{
	{
		kind: Kind{
			Name: "YubiKey NEO",
			Why: "tells tries as 630X and never that the PIN was verified, refuses P1=FF, has no discovery " +
				"object and no P-384 (OpenSC, piv-go)",
			NoEmptyVerify: true,
			NoForget:      true,
			NoDiscovery:   true,
			AnyPIN:        true,
		},
		begins: []string{"YubikeyNEO"}, // some contactless readers spoil the last byte
	},
	{
		kind: Kind{
			Name: "YubiKey 4",
			Why: "refuses P1=FF before firmware 5.4.3, and has no metadata before 5.3; commands that wait for a " +
				"touch may hang before 4.2.7 (yubico-piv-tool, yubikit)",
			NoForget:   true,
			AnyPIN:     true,
			TouchHangs: true,
		},
		begins: []string{"Yubikey4"},
	},
	{
		kind: Kind{
			Name:     "YubiKey 5",
			Why:      "has metadata from firmware 5.3 on, P1=FF from 5.4.3 on, Ed25519 as E0 from 5.7 on (yubikit)",
			Metadata: true,
			AnyPIN:   true,
			Ed25519:  0xE0,
		},
		begins: []string{"\x80\x73\xC0\x21\xC0\x57YubiKe"}, // and here
	},
	{
		kind: Kind{
			Name: "Nitrokey 3",
			Why: "answers 6983 to the last wrong PIN and 6300 to a wrong old one, has no metadata of its PIN, " +
				"Ed25519 is E2 (piv-authenticator)",
			AnyPIN:  true,
			Ed25519: 0xE2,
		},
		begins: []string{"\x80\x5DNitrokey", "\x5ANitrokey 3"},
		holds:  []string{"Nitrokey"},
	},
	{
		kind: Kind{
			Name:     "CanoKey",
			Why:      "answers 6983 to the last wrong PIN, counts PINs that are no digits (canokey-core)",
			Metadata: true,
			AnyPIN:   true,
			Ed25519:  0xE0,
		},
		begins: []string{"Canokey"},
	},
	{
		kind: Kind{
			Name:     "Token2",
			Why:      "has the extensions of a YubiKey 5 (OpenSC)",
			Metadata: true,
			AnyPIN:   true,
			Ed25519:  0xE0,
		},
		begins: []string{"TK\x00PIV"},
	},
	{
		kind: Kind{
			Name:          "PIVKey",
			Why:           "an empty VERIFY tells nothing, and there is no discovery object (OpenSC)",
			NoEmptyVerify: true,
			NoDiscovery:   true,
		},
		begins: []string{"TAGLIOPIV", "\x90\x67\x46\x4A\x00\x64"}, // Taglio C2190; PIVKey C910
		holds:  []string{"PIVKEY"},                                // with a digit or a blank before it
	},
	{
		kind: Kind{
			Name: "CAC with PIV",
			Why: "an empty VERIFY tells nothing and there is no discovery object; of SP 800-73-1 it may know " +
				"the PIN as 00 only (OpenSC)",
			NoEmptyVerify: true,
			NoDiscovery:   true,
		},
		begins: []string{
			"\x80\x31\x80\x65\xB0\x83\x11\x13\xAC", // Gemalto GCX4 72K DI
			"\x80\x31\x80\x65\xB0\x83\x11\x17\xD6", // Gemalto TOP DL GX4 144K
			"\x80\x31\x80\x65\xB0\x75\x49\x17\x0F", // Gemalto TOP DL V2.1 144K
			"\x00\x31\xC0\x64\x77\xE3\x03\x00",     // Oberthur ID-One Cosmo 5.2D
			"\x00\x31\xC0\x64\xB0\xF3\x10\x00\x07", // Oberthur ID-One 128 5.5 Dual
			"\x80\x31\xC1\x64\x08\x06\x92\x0F",     // IDEMIA Cosmo v8
		},
	},
	{
		kind: Kind{
			Name:     "PivApplet",
			Why:      "has the extensions of a YubiKey 5, and counts PINs that are no digits (PivApplet)",
			Metadata: true,
			AnyPIN:   true,
		},
		label: "PivApplet v",
	},
	{
		kind: Kind{Name: "Giesecke+Devrient PIV"},
		begins: []string{
			"sfte cd144", // Sm@rtCafe Expert 3.2
			"SCE7",       // Sm@rtCafe Expert 7.0
		},
	},
	{
		kind: Kind{Name: "IDEMIA PIV"},
		begins: []string{
			"\x80\x31\xC1\x52",                     // Cosmo 8.0 and 8.1, ID-One PIV 2.4
			"\x00\x31\xC0\x64\xB0\xFC\x10\x00\x0F", // ID-One PIV
			"\x00\x31\xC0\x64\xB0\xF3\x10\x00\x0F", // Veterans Affairs
		},
	},
	{
		// Of several makers: the identifier of PIV is in the historical bytes.
		kind: Kind{Name: "PIV End Point"},
		begins: []string{
			"\x80\xF9\xA0\x00\x00\x03\x08\x00\x00\x10\x00",         // Oberthur Cosmo v7
			"\x80\x73\xCC\x91\xCB\xF9\xA0\x00\x00\x03\x08\x00\x00", // NIST's test cards, NASA
		},
	},
	{
		kind: Kind{Name: "Gemalto IDPrime PIV"},
		begins: []string{
			"\x80\x31\x80\x65\xB0\x83\x11\x17\xE5",
			"\x80\x91\xE1\x31\x80\x65\xB0\x83\x11\x17\xE5", // contactless
		},
	},
}

// unknownKind is every other card. An empty VERIFY is sent to it: no card with the PIV application
// is known to count it as a try.
var unknownKind = Kind{Name: "PIV card"}

// FindKind returns the kind of a card by its answer to reset, and by the answer to SELECT, which
// may be nil. The result is never nil, is shared, and must not be changed.
func FindKind(atr []byte, apt *APT) *Kind {
	var historical []byte
	// The historical bytes are the product's; what is before them is about the transmission.
	if parsed, err := iso7816.ParseATR(atr); err == nil {
		historical = parsed.Historical
	}
	for i := range kinds {
		if kinds[i].fits(historical, apt) {
			return &kinds[i].kind
		}
	}
	return &unknownKind
}

// fits reports whether a card is of the row's kind.
func (r *kindRow) fits(historical []byte, apt *APT) bool {
	begins := func(s string) bool { return bytes.HasPrefix(historical, []byte(s)) }
	holds := func(s string) bool { return bytes.Contains(historical, []byte(s)) }
	if slices.ContainsFunc(r.begins, begins) || slices.ContainsFunc(r.holds, holds) {
		return true
	}
	return r.label != "" && apt != nil && strings.HasPrefix(apt.Label, r.label)
}

// ed25519 are the numbers that are in use for Ed25519, the most usual first.
var ed25519 = []byte{0xE0, 0xE2, 0x22}

// Ed25519Numbers returns the algorithm identifiers to be tried for a key on Ed25519, in this order:
// those that the card lists, then that of its kind, then the others. A card that does not know a
// number refuses it with 6A86 or 6A80, which costs no try. apt may be nil.
func (k *Kind) Ed25519Numbers(apt *APT) []byte {
	var order []byte
	add := func(number byte) {
		if !slices.Contains(order, number) {
			order = append(order, number)
		}
	}

	for _, number := range ed25519 {
		if apt != nil && apt.Lists(number) {
			add(number)
		}
	}
	if k.Ed25519 != 0 {
		add(k.Ed25519)
	}
	for _, number := range ed25519 {
		add(number)
	}
	return order
}
