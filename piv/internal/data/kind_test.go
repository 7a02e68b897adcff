package data

import (
	"bytes"
	"testing"
)

// realATRs are answers to reset of real cards, by the kind that they are.
var realATRs = map[string][]string{
	"YubiKey NEO": {
		"3B FA 13 00 00 81 31 FE 15 59 75 62 69 6B 65 79 4E 45 4F A6",
		"3B FC 13 00 00 81 31 FE 45 59 75 62 69 6B 65 79 4E 45 4F 72 33 B1",
		"3B 8C 80 01 59 75 62 69 6B 65 79 4E 45 4F 72 FF 94", // spoilt by a contactless reader
	},
	"YubiKey 4": {"3B F8 13 00 00 81 31 FE 15 59 75 62 69 6B 65 79 34 D4"},
	"YubiKey 5": {
		"3B FD 13 00 00 81 31 FE 15 80 73 C0 21 C0 57 59 75 62 69 4B 65 79 40",
		"3B 8D 80 01 80 73 C0 21 C0 57 59 75 62 69 4B 65 79 F9",
		"3B 8D 80 01 80 73 C0 21 C0 57 59 75 62 69 4B 65 FF 7F",
	},
	"Nitrokey 3": {
		"3B 8F 01 80 5D 4E 69 74 72 6F 6B 65 79 00 00 00 00 00 6A",
		"3B 8C 01 80 5A 4E 69 74 72 6F 6B 65 79 20 33 7D",
	},
	"CanoKey": {"3B F7 11 00 00 81 31 FE 65 43 61 6E 6F 6B 65 79 99"},
	"Token2": {
		"3B 1F 96 54 4B 00 50 49 56 04 02 38 38 38 38 38 38 38",
		"3B 8F 80 01 54 4B 00 50 49 56 04 02 38 38 38 38 38 38 38 60",
	},
	"PIVKey": {
		"3B FC 18 00 00 81 31 80 45 90 67 46 4A 00 64 16 06 F2 72 7E 00 E0",
		"3B 8C 80 01 90 67 46 4A 00 64 16 06 F2 72 7E 00 7C",
		"3B F8 13 00 00 81 31 FE 45 50 49 56 4B 45 59 37 30 FF",
		"3B F9 96 00 00 81 31 FE 45 53 50 49 56 4B 45 59 37 30 28",
		"3B FA 18 00 00 91 01 31 FE 45 20 30 50 49 56 4B 45 59 37 30 F7",
		"3B D9 18 FF 81 91 FE 1F C3 54 41 47 4C 49 4F 50 49 56 5B",
	},
	"CAC with PIV": {
		"3B 7D 96 00 00 80 31 80 65 B0 83 11 13 AC 83 00 90 00",
		"3B 7D 96 00 00 80 31 80 65 B0 83 11 17 D6 83 00 90 00",
		"3B 7D 96 00 00 80 31 80 65 B0 75 49 17 0F 83 00 90 00",
		"3B DB 96 00 80 1F 03 00 31 C0 64 77 E3 03 00 82 90 00 C1",
		"3B DB 96 00 80 1F 03 00 31 C0 64 B0 F3 10 00 07 90 00 80",
		"3B D8 18 00 80 1F 07 80 31 C1 64 08 06 92 0F DF",
	},
	"Giesecke+Devrient PIV": {
		"3B 7A 18 00 00 73 66 74 65 20 63 64 31 34 34",
		"3B F9 96 00 00 80 31 FE 45 53 43 45 37 20 0F 00 20 46 4E",
	},
	"IDEMIA PIV": {
		"3B D6 97 00 81 B1 FE 45 1F 07 80 31 C1 52 11 18 F9",
		"3B DB 96 00 80 B1 FE 45 1F 83 00 31 C0 64 B0 FC 10 00 0F 90 00 0D",
		"3B DB 96 00 80 1F 03 00 31 C0 64 B0 F3 10 00 0F 90 00 88",
	},
	"PIV End Point": {
		"3B DB 96 00 81 B1 FE 45 1F 83 80 F9 A0 00 00 03 08 00 00 10 00 98",
		"3B DF 96 00 81 B1 FE 45 1F 83 80 73 CC 91 CB F9 A0 00 00 03 08 00 00 10 00 79",
	},
	"Gemalto IDPrime PIV": {
		"3B 7D 96 00 00 80 31 80 65 B0 83 11 17 E5 83 00 90 00",
		"3B 8F 80 01 80 91 E1 31 80 65 B0 83 11 17 E5 83 00 90 00 E9",
	},
	"PIV card": {
		"3B 95 96 80 31 FE 45 80 73 C0 01 C0 FB",                      // the simulated card
		"3B DA 11 FF 81 B1 FE 55 1F 03 00 31 84 73 80 01 80 05 90 00", // Nitrokey Start: no PIV
		"3B F9 18 00 FF 81 31 FE 45 50 56 5F 4A 33 41 30 34 30 40",    // a Java card as its maker sells it
		"3B 94 18 81 B1 80 7D 1F 03 19 C8 00 50 DC",                   // GoldKey
		"3B", "",
	},
}

func TestFindKind(t *testing.T) {
	for want, list := range realATRs {
		for _, atr := range list {
			if got := FindKind(bytesOf(t, atr), nil); got.Name != want {
				t.Errorf("%s is taken for %s, not for %s", atr, got.Name, want)
			}
		}
	}
	for label, want := range map[string]string{"PivApplet v0.9.0/RExa": "PivApplet", "PivApplet": "PIV card", "": "PIV card"} {
		if got := FindKind(nil, &APT{Label: label}); got.Name != want {
			t.Errorf("label %q: %s, want %s", label, got.Name, want)
		}
	}
}

// TestEachRow has a name of its own, a reason where it is special, and a card above.
func TestEachRow(t *testing.T) {
	seen := map[string]bool{}
	for _, r := range kinds {
		k := r.kind
		if seen[k.Name] || k.Name == "" {
			t.Errorf("%q is there twice", k.Name)
		}
		seen[k.Name] = true
		if special := k != (Kind{Name: k.Name, Why: k.Why}); special != (k.Why != "") {
			t.Errorf("%s: special is %v, and the reason %q", k.Name, special, k.Why)
		}
		if len(realATRs[k.Name]) == 0 && r.label == "" {
			t.Errorf("%s: no card", k.Name)
		}
	}
}

func TestEd25519Numbers(t *testing.T) {
	for _, tt := range []struct {
		kind *Kind
		apt  *APT
		want []byte
	}{
		{&unknownKind, nil, []byte{0xE0, 0xE2, 0x22}},
		{&unknownKind, &APT{Algorithms: []byte{7, 0x22, 0x11}}, []byte{0x22, 0xE0, 0xE2}},
		{&Kind{Ed25519: 0xE2}, &APT{}, []byte{0xE2, 0xE0, 0x22}},
		{&Kind{Ed25519: 0xE2}, &APT{Algorithms: []byte{0x22, 0xE2}}, []byte{0xE2, 0x22, 0xE0}},
	} {
		if got := tt.kind.Ed25519Numbers(tt.apt); !bytes.Equal(got, tt.want) {
			t.Errorf("%+v, %+v: %X, want %X", tt.kind, tt.apt, got, tt.want)
		}
	}
}
