//go:build reference

package data

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestKindsOfTheReferenceList: of 4,832 cards, the rows of the table take those that were looked at
// one by one, and no other.
func TestKindsOfTheReferenceList(t *testing.T) {
	list, err := os.ReadFile(filepath.Join(os.Getenv("PAM_PKCS11_SHARED"), "data", "atr_list.txt"))
	if err != nil {
		t.Fatal("PAM_PKCS11_SHARED names the folder of reference data: ", err)
	}
	got := map[string]int{}
	for line := range strings.Lines(string(list)) {
		if strings.TrimSpace(line) != "" {
			got[FindKind(bytesOf(t, line), nil).Name]++
		}
	}
	want := map[string]int{
		"CAC with PIV": 11, "CanoKey": 1, "Gemalto IDPrime PIV": 2, "Giesecke+Devrient PIV": 10, "IDEMIA PIV": 13,
		"Nitrokey 3": 2, "PIV End Point": 7, "PIVKey": 10, "Token2": 2, "YubiKey 4": 1, "YubiKey 5": 3, "YubiKey NEO": 5,
		"PIV card": 4832 - 67,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}
