package main

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"unicode"

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

// TestTextsOfOthers: what a card or a log holds makes no line and no control of its own, and JSON keeps what it is.
func TestTextsOfOthers(t *testing.T) {
	const nasty = "a\nok      b\tc \x1b[2J \u009b2J \u202e \x7f \U000e0041 \xff"
	list := diagnosis.Findings{{ID: "a", Severity: diagnosis.Warning, Subject: nasty, Fact: message.Textf("%s", nasty), Remedy: message.Textf("%s", nasty)}}

	var plain, encoded bytes.Buffer
	if err := (&output{out: &plain}).findings(list); err != nil {
		t.Fatal(err)
	}
	if err := (&output{out: &encoded}).encode(list); err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{plain.String(), encoded.String()} {
		if strings.ContainsFunc(text, func(r rune) bool { return r != '\n' && !unicode.IsPrint(r) }) {
			t.Errorf("%q", text)
		}
	}
	if n := strings.Count(plain.String(), "\n"); n != 2 {
		t.Errorf("%d lines: %q", n, plain.String())
	}

	var back []struct{ Subject, Fact string }
	if err := json.Unmarshal(encoded.Bytes(), &back); err != nil || back[0].Subject != strings.ToValidUTF8(nasty, "\ufffd") ||
		back[0].Fact != back[0].Subject {
		t.Errorf("%q, %v", back, err)
	}
}
