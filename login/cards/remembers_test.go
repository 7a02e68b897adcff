package cards

import (
	"testing"

	"pam_pkcs11/config"
)

// TestOnlyASignatureConfirmsTheCache: where no card signs, certificates are read from it.
func TestOnlyASignatureConfirmsTheCache(t *testing.T) {
	for _, row := range []struct {
		name          string
		tool, signs   bool
		cache, expect bool
	}{
		{"a login", false, true, true, isRoot()},
		{"a login that wants no signature", false, false, true, false},
		{"a program that looks at cards", true, true, true, false},
		{"piv_cache = false", false, true, false, false},
	} {
		m := &config.Module{PIVCache: row.cache}
		m.Policy.Signature = row.signs
		if got := (System{Tool: row.tool}).remembers(m); got != row.expect {
			t.Errorf("%s: %v", row.name, got)
		}
	}
}
