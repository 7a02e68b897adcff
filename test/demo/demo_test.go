//go:build cgo

package main

import (
	"os"
	"strings"
	"testing"

	"pam_pkcs11/test/storytest"
)

// TestTheStory plays the whole demo and compares it with the README.
func TestTheStory(t *testing.T) {
	said := storytest.Play(t, run)
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	if shown := transcript(string(readme)); shown != said {
		t.Errorf("the README shows another transcript:\n%s\nthe demo's is:\n%s", shown, said)
	}
}

// transcript returns the indented text of the README that follows "$ make demo".
func transcript(readme string) string {
	_, rest, _ := strings.Cut(readme, "    $ make demo\n\n")
	var b strings.Builder
	for line := range strings.Lines(rest) {
		text, indented := strings.CutPrefix(line, "    ")
		if !indented && line != "\n" {
			break
		}
		b.WriteString(text)
	}
	return strings.TrimRight(b.String(), "\n") + "\n"
}

func TestUsage(t *testing.T) { storytest.Usage(t, run) }
