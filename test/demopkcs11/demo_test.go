//go:build cgo

package main

import (
	"os"
	"testing"

	"pam_pkcs11/test/storytest"
)

// TestTheStory plays the whole demo and compares it with the transcript that is kept.
func TestTheStory(t *testing.T) {
	said := storytest.Play(t, run)
	kept, err := os.ReadFile("transcript.txt")
	if err != nil {
		t.Fatal(err)
	}
	if string(kept) != said {
		t.Errorf("transcript.txt has:\n%s\nthe demo's is:\n%s", kept, said)
	}
}

func TestUsage(t *testing.T) { storytest.Usage(t, run) }
