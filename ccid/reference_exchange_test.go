//go:build reference

package ccid_test

import (
	"fmt"
	"testing"
	"testing/synctest"

	"pam_pkcs11/ccid/internal/readertest"
)

// TestEveryReader: each reader of the descriptions, simulated, gets an ATR from a T=0 card and a T=1 card and exchanges
// APDUs of all cases and sizes up to its limit.
func TestEveryReader(t *testing.T) {
	for file, profiles := range readertest.Descriptions(t) {
		for i, p := range profiles {
			t.Run(fmt.Sprintf("%s/%d", file, i), func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) { exerciseDevice(t, *p) })
			})
		}
	}
}
