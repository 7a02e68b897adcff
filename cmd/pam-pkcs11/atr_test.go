package main

import (
	"os"
	"strings"
	"testing"
)

// TestDebiansList reads the list of the package pcsc-tools: thousands of real ATRs.
func TestDebiansList(t *testing.T) {
	f, err := os.Open("/usr/share/pcsc/smartcard_list.txt")
	if err != nil {
		t.Fatal("the package pcsc-tools is missing: ", err)
	}
	defer f.Close()
	s, err := readList(f)
	if err != nil {
		t.Fatal(err)
	}
	if s.read < 3000 || s.unread*50 > s.read || s.read+s.unread+s.wildcards != s.entries {
		t.Errorf("%d entries, %d read, %d patterns, %d cut short", s.entries, s.read, s.wildcards, s.unread)
	}
}

// FuzzExplainATR: whatever the bytes, they are explained or refused in words.
func FuzzExplainATR(f *testing.F) {
	for _, s := range []string{"3B00", "3BFA1300FF813180450031C173C00100009000B1", "3BD0960281B1FE451FC717", "3F", "3BFFFF"} {
		raw, _ := parseHex([]string{s})
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		var out strings.Builder
		if err := explainATR(&output{out: &out}, raw); err == nil && !strings.Contains(out.String(), "protocols: ") {
			t.Errorf("%x: %s", raw, out.String())
		}
	})
}

// FuzzATRList: a list is read or refused, and every entry is accounted for.
func FuzzATRList(f *testing.F) {
	f.Add("# x\n3B 00\n\tone\n3B ..\n3B02\n")
	f.Fuzz(func(t *testing.T, list string) {
		s, err := readList(strings.NewReader(list))
		if err == nil && s.read+s.unread+s.wildcards != s.entries {
			t.Errorf("%+v", s)
		}
	})
}
