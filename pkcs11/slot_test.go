package pkcs11_test

import (
	"encoding/hex"
	"errors"
	"slices"
	"strings"
	"testing"

	"pam_pkcs11/pkcs11"
	"pam_pkcs11/pkcs11/pkcs11test"
	"pam_pkcs11/token"
)

func TestBlankTokenIsNoCard(t *testing.T) {
	store, err := pkcs11test.NewStore(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	slots, err := load(t, store, nil).Slots()
	if err != nil || len(slots) != 1 || !slots[0].TokenPresent || slots[0].Token.Flags.Initialized() {
		t.Fatalf("%+v, %v", slots, err)
	}
	if len(token.Selector{}.Select(pkcs11.Places(slots))) != 0 || len(token.Selector{SlotNum: 1}.Select(pkcs11.Places(slots))) != 0 {
		t.Error("SoftHSM's blank token counts as a card")
	}
}

func TestTokenInfo(t *testing.T) {
	store := card(t)
	slots, err := load(t, store, nil).Slots()
	if err != nil || len(slots) != 2 {
		t.Fatalf("%+v, %v", slots, err)
	}
	k := slots[0].Token
	if k.Label != "alice's card" || k.Manufacturer != "SoftHSM project" || k.Model != "SoftHSM v2" || len(k.Serial) != 16 ||
		k.MinPINLen != 4 || k.MaxPINLen != 255 || !k.Flags.Initialized() || !k.Flags.LoginRequired() || !k.Flags.UserPINInitialized() ||
		k.Flags.PINLocked() || k.Flags.ProtectedPath() || k.Flags.WriteProtected() || k.Flags.PINToBeChanged() {
		t.Errorf("%+v", k)
	}
	if slots[0].Index != 1 || slots[1].Index != 2 {
		t.Errorf("indexes %d and %d", slots[0].Index, slots[1].Index)
	}
}

func TestFlags(t *testing.T) {
	tests := map[string]struct {
		flags string
		is    func(pkcs11.TokenFlags) bool
	}{
		"PIN locked":         {"40000 0", pkcs11.TokenFlags.PINLocked},
		"final try":          {"20000 0", pkcs11.TokenFlags.PINFinalTry},
		"few tries":          {"10000 0", pkcs11.TokenFlags.PINCountLow},
		"to be changed":      {"80000 0", pkcs11.TokenFlags.PINToBeChanged},
		"keypad":             {"100 0", pkcs11.TokenFlags.ProtectedPath},
		"write-protected":    {"2 0", pkcs11.TokenFlags.WriteProtected},
		"not initialised":    {"0 400", func(f pkcs11.TokenFlags) bool { return !f.Initialized() }},
		"no login required":  {"0 4", func(f pkcs11.TokenFlags) bool { return !f.LoginRequired() }},
		"no PIN initialised": {"0 8", func(f pkcs11.TokenFlags) bool { return !f.UserPINInitialized() }},
	}
	store := card(t)
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			m := load(t, store, nil, "flags "+tt.flags)
			slots, err := m.Slots()
			if err != nil || !tt.is(slots[0].Token.Flags) {
				t.Fatalf("%+v, %v", slots, err)
			}
			if s, err := m.OpenSession(slots[0].ID, false); err != nil || s.Login(pinOf(t, rightPIN)) != nil {
				t.Errorf("the PIN is not verified all the same: %v", err)
			}
		})
	}
}

func TestTextsAreMadePrintable(t *testing.T) {
	tests := map[string]struct{ raw, want string }{
		"padded with blanks":   {"card  ", "card"},
		"padded with NUL":      {"card\x00\x00", "card"},
		"full, not terminated": {strings.Repeat("x", 32), strings.Repeat("x", 32)},
		"NUL inside":           {"a\x00b", "a\ufffdb"},
		"terminal escape":      {"\x1b]0;owned\x07", "\ufffd]0;owned\ufffd"},
		"right to left":        {"a\u202eb", "a\ufffdb"},
		"invalid UTF-8":        {"a\xff\xfeb", "a\ufffd\ufffdb"},
		"newline":              {"a\nb", "a\ufffdb"},
		"umlauts":              {"Schl\u00fcssel", "Schl\u00fcssel"},
		"only blanks":          {strings.Repeat(" ", 32), ""},
	}
	store := card(t)
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			m := load(t, store, nil, "label "+hex.EncodeToString([]byte(tt.raw)), "description "+hex.EncodeToString([]byte(tt.raw)))
			slots, err := m.Slots()
			if err != nil || slots[0].Token.Label != tt.want {
				t.Fatalf("label %q, %v; want %q", slots[0].Token.Label, err, tt.want)
			}
			if err := slots[0].Describe(); err != nil || slots[0].Description != tt.want {
				t.Errorf("description %q, %v; want %q", slots[0].Description, err, tt.want)
			}
		})
	}
}

func TestPINLengths(t *testing.T) {
	store := card(t)
	for limits, want := range map[string][2]int{"4 8": {4, 8}, "0 0": {0, 0}, "6 1000": {6, 512},
		"18446744073709551615 18446744073709551615": {0, 0}, "9223372036854775808 2147483648": {0, 0}} {
		slots, err := func() ([]pkcs11.Slot, error) {
			m := load(t, store, nil, "limits "+limits)
			defer func() { _ = m.Close() }()
			return m.Slots()
		}()
		if err != nil || slots[0].Token.MinPINLen != want[0] || slots[0].Token.MaxPINLen != want[1] {
			t.Errorf("limits %s: %+v, %v", limits, slots[0].Token, err)
		}
	}
}

func TestBrokenSlotDoesNotHideTheOthers(t *testing.T) {
	store := card(t)
	tests := map[string]struct {
		code    string
		present bool
		err     error
	}{
		"foreign card":           {"0xE1", true, pkcs11.CKR_TOKEN_NOT_RECOGNIZED},
		"broken card":            {"0x30", true, pkcs11.CKR_DEVICE_ERROR},
		"general error":          {"5", true, pkcs11.CKR_GENERAL_ERROR},
		"empty":                  {"0xE0", false, nil},
		"taken out just now":     {"0x32", false, nil},
		"reader unplugged":       {"3", false, pkcs11.CKR_SLOT_ID_INVALID},
		"out of the card's room": {"0x31", true, pkcs11.CKR_DEVICE_MEMORY},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			m := load(t, store, nil, "extra "+tt.code)
			slots, err := m.Slots()
			if err != nil || len(slots) != 3 {
				t.Fatalf("%+v, %v", slots, err)
			}
			if slots[0].TokenPresent != tt.present || !errors.Is(slots[0].Err, tt.err) || (slots[0].Err == nil) != (tt.err == nil) {
				t.Errorf("%+v", slots[0])
			}
			if tt.err != nil && slots[0].Description != "Faulty reader" {
				t.Errorf("the log cannot name the reader: %q", slots[0].Description)
			}
			if chosen := (token.Selector{}).Select(pkcs11.Places(slots)); len(chosen) != 1 || chosen[0].Index != 2 {
				t.Errorf("%+v", chosen)
			}
		})
	}
}

// TestEmptyReaderWithAnotherError: some libraries say CKR_DEVICE_ERROR of a reader without a card.
func TestEmptyReaderWithAnotherError(t *testing.T) {
	slots, err := load(t, card(t), nil, "extra 0x30", "absent").Slots()
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range slots {
		if s.TokenPresent || s.Err != nil || s.Token != nil {
			t.Errorf("%+v", s)
		}
	}
}

func TestSelector(t *testing.T) {
	store := card(t)
	if err := store.Add(pkcs11test.Token{Label: "second card", PIN: rightPIN}); err != nil {
		t.Fatal(err)
	}
	m := load(t, store, nil)
	slots, err := m.Slots()
	if err != nil || len(slots) != 3 {
		t.Fatalf("%+v, %v", slots, err)
	}
	// SoftHSM's order is by serial number.
	order := []string{slots[0].Token.Label, slots[1].Token.Label}
	uri := func(s string) *token.URI {
		u, err := token.ParseURI(s)
		if err != nil {
			t.Fatal(err)
		}
		return u
	}
	tests := map[string]struct {
		s    token.Selector
		want []string
	}{
		"any":                               {token.Selector{}, order},
		"first in the list":                 {token.Selector{SlotNum: 1}, order[:1]},
		"second in the list":                {token.Selector{SlotNum: 2}, order[1:]},
		"blank token in the list":           {token.Selector{SlotNum: 3}, nil},
		"behind the list":                   {token.Selector{SlotNum: 4}, nil},
		"negative":                          {token.Selector{SlotNum: -1}, nil},
		"description none":                  {token.Selector{SlotDescription: "none"}, order},
		"description's beginning":           {token.Selector{SlotDescription: "SoftHSM slot ID"}, order},
		"description with the field's pad":  {token.Selector{SlotDescription: "SoftHSM slot ID "}, order},
		"description of another":            {token.Selector{SlotDescription: "OMNIKEY"}, nil},
		"description's middle":              {token.Selector{SlotDescription: "slot ID"}, nil},
		"label":                             {token.Selector{TokenLabel: "second card"}, []string{"second card"}},
		"padded label":                      {token.Selector{TokenLabel: "second card     "}, []string{"second card"}},
		"label's beginning":                 {token.Selector{TokenLabel: "second"}, nil},
		"label in other case":               {token.Selector{TokenLabel: "Second card"}, nil},
		"label and number of another":       {token.Selector{SlotNum: 3, TokenLabel: "second card"}, nil},
		"URI with label":                    {token.Selector{URI: uri("pkcs11:token=second%20card")}, []string{"second card"}},
		"URI with model":                    {token.Selector{URI: uri("pkcs11:model=SoftHSM%20v2;manufacturer=SoftHSM%20project")}, order},
		"URI with serial":                   {token.Selector{URI: uri("pkcs11:serial=" + slots[1].Token.Serial)}, order[1:]},
		"URI with slot description":         {token.Selector{URI: uri("pkcs11:slot-description=SoftHSM")}, nil},
		"URI with slot manufacturer":        {token.Selector{URI: uri("pkcs11:slot-manufacturer=SoftHSM%20project")}, order},
		"URI with library":                  {token.Selector{URI: uri("pkcs11:library-manufacturer=SoftHSM;library-description=Implementation%20of%20PKCS11;library-version=2.6")}, order},
		"URI with another library":          {token.Selector{URI: uri("pkcs11:library-version=9.9")}, nil},
		"URI with an attribute nobody know": {token.Selector{URI: uri("pkcs11:token=second%20card;x-color=red")}, nil},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			var got []string
			for _, s := range tt.s.Select(pkcs11.Places(slots)) {
				got = append(got, s.Token.Label)
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("%v, want %v", got, tt.want)
			}
		})
	}
}
