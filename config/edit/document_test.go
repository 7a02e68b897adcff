package edit

import (
	"slices"
	"strings"
	"testing"
)

const editable = `# of this machine
pam_pkcs11 {
  use_pkcs11_module = opensc; # the card
  pkcs11_module opensc { module = /usr/lib/opensc-pkcs11.so; }
  pkcs11_module other { module = /usr/lib/other.so; }
}
pkcs11_eventmgr {
  event card_insert { action = "a b", c; }
}
`

func TestDocument(t *testing.T) {
	d, err := ReadDocument("file", []byte(editable))
	if err != nil {
		t.Fatal(err)
	}
	top, event := BlockPath{{Kind: "pam_pkcs11"}}, BlockPath{{Kind: "pkcs11_eventmgr"}, {Kind: "event", Name: "card_insert"}}

	if got := d.Names(top, "pkcs11_module"); !slices.Equal(got, []string{"opensc", "other"}) {
		t.Errorf("names %q", got)
	}
	if got := d.Values(append(top, BlockName{"pkcs11_module", "other"}), "module"); !slices.Equal(got, []string{"/usr/lib/other.so"}) {
		t.Errorf("a block's value %q", got)
	}
	if got := d.Values(event, "action"); !slices.Equal(got, []string{"a b", "c"}) {
		t.Errorf("a list %q", got)
	}
	if d.Values(event, "on_error") != nil || d.Values(BlockPath{{Kind: "card_eventmgr"}}, "x") != nil {
		t.Error("values of what is not there")
	}

	if err := d.Set(top, "use_pkcs11_module", "other", "opensc"); err != nil {
		t.Fatal(err)
	}
	if err := d.Set(event, "action", "x y"); err != nil {
		t.Fatal(err)
	}
	text := string(d.Bytes())
	for _, want := range []string{"# of this machine", "use_pkcs11_module = other, opensc; # the card", `action = "x y";`} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not in\n%s", want, text)
		}
	}
	if _, err := ReadDocument("file", []byte(text)); err != nil {
		t.Error(err)
	}
}

func TestDocumentFaults(t *testing.T) {
	if _, err := ReadDocument("file", []byte("pam_pkcs11 {")); err == nil || !strings.Contains(err.Error(), "file:") {
		t.Errorf("a file that ends too early: %v", err)
	}
	d, err := ReadDocument("file", []byte(editable))
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Set(BlockPath{{Kind: "card_eventmgr"}}, "action", "x"); err == nil || !strings.Contains(err.Error(), "no block card_eventmgr") {
		t.Errorf("a block that is not there: %v", err)
	}
	if err := d.Set(BlockPath{{Kind: "pam_pkcs11"}}, "action", "a\"b"); err == nil {
		t.Error("a quotation mark was written")
	}
}
