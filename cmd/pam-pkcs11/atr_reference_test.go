//go:build reference

package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestTheATRsOfTheReferenceList holds the tables to those that were counted by other means: of 4,832 ATRs 23 are cut
// short, and TC1 is what the plan of the driver rests on.
func TestTheATRsOfTheReferenceList(t *testing.T) {
	f, err := os.Open(filepath.Join(os.Getenv("PAM_PKCS11_SHARED"), "data", "atr_list.txt"))
	if err != nil {
		t.Fatal("PAM_PKCS11_SHARED names the folder of reference data: ", err)
	}
	defer f.Close()
	s, err := readList(f)
	if err != nil {
		t.Fatal(err)
	}
	tc1 := s.byTitle["TC1"].counts
	present := 0
	for _, n := range tc1 {
		present += n
	}
	got := []int{s.entries, s.read, s.unread, s.read - present, tc1["00"], tc1["FF"], present - tc1["00"] - tc1["FF"]}
	if diff := cmp.Diff([]int{4832, 4809, 23, 2230, 1771, 675, 133}, got); diff != "" {
		t.Error("entries, read, cut short, TC1 absent, 00, FF, others:", diff)
	}
	if diff := cmp.Diff(map[string]int{"T=0": 2915, "T=1": 1027, "T=0 T=1": 853, "T=14": 14}, s.byTitle["protocols"].counts); diff != "" {
		t.Error(diff)
	}
	if n := s.byTitle["T=1: IFSC"].counts["FE"]; n != 949 {
		t.Errorf("IFSC FE: %d, want 949", n)
	}
}
