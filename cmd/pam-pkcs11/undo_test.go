package main

import (
	"bytes"
	"strings"
	"testing"

	"pam_pkcs11/setup/undo"
)

// TestUndoneSentences: each thing that went wrong has a sentence of its own, and none is called clean.
func TestUndoneSentences(t *testing.T) {
	const clean, tool, profile = "All is as it was before", "has not taken its own files up again", "profile could not be switched off"
	for _, tt := range []struct {
		name   string
		result undo.Result
		says   []string
		not    []string
	}{
		{"clean", undo.Result{}, []string{clean}, []string{tool, profile}},
		{"a tool that fails afterwards", undo.Result{Untidy: "exit status 2"},
			[]string{tool + "; they count for no login: exit status 2", "but for what that tool keeps"}, []string{clean, profile, "edited since"}},
		{"a profile that stays on", undo.Result{Failed: "exit status 1"}, []string{profile + ": exit status 1"}, []string{clean, tool}},
		{"both", undo.Result{Failed: "one", Untidy: "two"}, []string{profile + ": one", "login: two"}, []string{clean}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var out bytes.Buffer
			if err := showUndone(&output{out: &out}, &tt.result); err != nil {
				t.Fatal(err)
			}
			for _, text := range tt.says {
				if !strings.Contains(out.String(), text) {
					t.Errorf("%q does not say %q", out.String(), text)
				}
			}
			for _, text := range tt.not {
				if strings.Contains(out.String(), text) {
					t.Errorf("%q says %q", out.String(), text)
				}
			}
		})
	}
}
