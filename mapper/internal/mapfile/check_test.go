package mapfile

import (
	"strings"
	"testing"

	"pam_pkcs11/config"
	"pam_pkcs11/mapper/internal/mapping"
)

// FuzzLineCheck: a line that is no fault is one that a login reads, whatever stands in it.
func FuzzLineCheck(f *testing.F) {
	for _, line := range []string{"A -> alice", "SHA1 Fingerprint=AB:CD -> a", "subject=C = IT -> a", "0x1 CN=A -> a", "^a$ -> b", `"" -> ""`} {
		f.Add(line)
	}
	f.Fuzz(func(t *testing.T, line string) {
		for _, typ := range []string{"cn", "digest", "subject", "serial", "mail"} {
			b, err := config.NewMapper(typ, typ, nil)
			if err != nil {
				t.Fatal(err)
			}
			c := newLineCheck(b.Settings, mapping.Options{AllowUnknownUser: true}, "f")
			trimmed := strings.Trim(line, " \t\r")
			if _, _, ok := splitLine([]byte(line)); ok {
				c.meant.add(1, []byte(line), c.item)
				_ = c.meant.text()
			}
			if _, _, ok := splitLine([]byte(line)); c.lineFault([]byte(line)) == "" && !ok && trimmed != "" && trimmed[0] != '#' {
				t.Errorf("%s: %q is passed over without a word", typ, line)
			}
		}
	})
}
