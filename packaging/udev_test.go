package packaging

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"pam_pkcs11/ccid/plan"
)

var update = flag.Bool("update", false, "write the generated part of the udev rules anew")

const rulesFile = "udev/60-pcscd.rules"

// knownRules are the lines of the rules file for the readers of the driver's list, one for each maker.
func knownRules() string {
	var b strings.Builder
	var vendor uint16
	var products []string
	line := func() {
		if len(products) > 0 {
			fmt.Fprintf(&b, "ATTR{idVendor}==\"%04x\", ATTR{idProduct}==\"%s\", GROUP=\"pcscd\", MODE=\"0660\"\n",
				vendor, strings.Join(products, "|"))
		}
		products = nil
	}
	for known := range plan.KnownReaders() {
		if known.Vendor != vendor {
			line()
		}
		vendor = known.Vendor
		products = append(products, fmt.Sprintf("%04x", known.Product))
	}
	line()
	return b.String()
}

// TestRulesOfKnownReaders: the rules name every reader of the driver's list.
func TestRulesOfKnownReaders(t *testing.T) {
	text, err := os.ReadFile(rulesFile)
	if err != nil {
		t.Fatal(err)
	}
	head, rest, ok := bytes.Cut(text, []byte("# BEGIN generated"))
	first, rest, ok2 := bytes.Cut(rest, []byte("\n"))
	_, tail, ok3 := bytes.Cut(rest, []byte("# END generated\n"))
	if !ok || !ok2 || !ok3 {
		t.Fatalf("%s has no place for the generated lines", rulesFile)
	}
	want := fmt.Appendf(nil, "%s# BEGIN generated%s\n%s# END generated\n%s", head, first, knownRules(), tail)
	if *update {
		if err := os.WriteFile(rulesFile, want, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if !bytes.Equal(text, want) {
		t.Errorf("%s is not what the driver's list makes: run this test with -update", rulesFile)
	}
}

// TestRulesAreNotTooLong: udev cuts lines at 16 KiB.
func TestRulesAreNotTooLong(t *testing.T) {
	text, err := os.ReadFile(rulesFile)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if len(line) > 8<<10 {
			t.Errorf("a line of %d bytes: %.60s", len(line), line)
		}
	}
}
