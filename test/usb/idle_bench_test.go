//go:build bench

package usb

import (
	"os/exec"
	"path/filepath"
	"testing"
)

// TestBenchIdle counts on the bus in user space, which asks for more: a question for each reader in each poll.
func TestBenchIdle(t *testing.T) {
	program := filepath.Join(t.TempDir(), "pcscd")
	if out, err := exec.Command("go", "build", "-o", program, "pam_pkcs11/cmd/pcscd").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	idles(t, program)
}
