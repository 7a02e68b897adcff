package main

import (
	"bytes"
	"testing"

	"pam_pkcs11/internal/diagnosis"
	"pam_pkcs11/internal/message"
)

func TestFindingsAsText(t *testing.T) {
	list := diagnosis.Findings{
		{ID: "a", Severity: diagnosis.OK, Subject: "reader", Fact: message.Textf("%d readers", 2)},
		{ID: "b", Severity: diagnosis.Refusal, Subject: "card", Fact: message.Textf("the PIN is locked"),
			Remedy: message.Textf("pam-pkcs11 pin unblock")},
	}
	var plain, coloured bytes.Buffer
	if err := (&output{out: &plain}).findings(list); err != nil {
		t.Fatal(err)
	}
	if err := (&output{out: &coloured, colour: true}).findings(list[:1]); err != nil {
		t.Fatal(err)
	}

	const want = "ok      reader: 2 readers\nrefusal card: the PIN is locked\n      -> pam-pkcs11 pin unblock\n"
	if plain.String() != want {
		t.Errorf("%q", plain.String())
	}
	if coloured.String() != "\x1b[32mok     \x1b[0m reader: 2 readers\n" {
		t.Errorf("%q", coloured.String())
	}
}
