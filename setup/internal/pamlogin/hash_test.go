//go:build cgo

package pamlogin

import (
	"os/exec"
	"strings"
	"testing"
)

// TestHash: what another program makes of the same password and salt.
func TestHash(t *testing.T) {
	const word = "a made one"
	hash, err := Hash(word)
	if err != nil {
		t.Fatal(err)
	}
	fields := strings.Split(hash, "$")
	if len(fields) != 4 || len(fields[2]) != 16 {
		t.Fatal(hash)
	}
	want, err := exec.Command("openssl", "passwd", "-6", "-salt", fields[2], word).Output()
	if err != nil || strings.TrimSpace(string(want)) != hash {
		t.Errorf("%s, not %s: %v", hash, want, err)
	}
	if other, err := Hash(word); err != nil || other == hash {
		t.Errorf("the same salt again: %v", err)
	}
}
