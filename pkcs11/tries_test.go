package pkcs11

import (
	"testing"

	"pam_pkcs11/token"
)

// The flags of CK_TOKEN_INFO (PKCS#11 2.40, section 3.2).
const (
	countLow TokenFlags = 0x10000
	finalTry TokenFlags = 0x20000
	locked   TokenFlags = 0x40000
)

func TestWhatIsKnownOfTheTries(t *testing.T) {
	tests := []struct {
		flags   TokenFlags
		want    token.Level
		several bool
	}{
		{0, token.Untold, true},
		{0x40d, token.Untold, true},
		{countLow, token.Few, false},
		{finalTry, token.Last, false},
		{countLow | finalTry, token.Last, false},
		{locked, token.Locked, false},
	}
	for _, tt := range tests {
		got := tt.flags.tries().Level
		if several := got == token.Untold; got != tt.want || several != tt.several {
			t.Errorf("%#x: %d, several %v", uint(tt.flags), got, several)
		}
	}
}
