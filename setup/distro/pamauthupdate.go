package distro

import (
	"context"
	"os"
)

// pamAuthUpdateProgram is Debian's tool for /etc/pam.d/common-*, of the package libpam-runtime.
const pamAuthUpdateProgram = "/usr/sbin/pam-auth-update"

// PAMAuthUpdate switches profiles by pam-auth-update. Its exit status is 0 also where it has
// changed nothing: callers read the files afterwards.
type PAMAuthUpdate struct{}

// HasPAMAuthUpdate reports whether the stacks of this machine are pam-auth-update's.
func HasPAMAuthUpdate() bool {
	_, err := os.Stat(pamAuthUpdateProgram)
	return err == nil
}

// Switch switches profiles off and on. It implements undo.Profiles.
func (PAMAuthUpdate) Switch(ctx context.Context, off, on []string) error {
	// --package keeps it from asking, and from changing what an administrator has edited.
	args := []string{"--package"}
	if len(off) > 0 {
		args = append(append(args, "--disable"), off...)
	}

	if len(on) > 0 {
		args = append(append(args, "--enable"), on...)
	}

	_, err := Run(ctx, pamAuthUpdateProgram, args...)
	return err
}

// Settle runs pam-auth-update without an order, as each package does. What it says is empty where
// the block is its own; a block that it does not recognise is frozen, and it says so.
func (PAMAuthUpdate) Settle(ctx context.Context) (said string, err error) {
	return Run(ctx, pamAuthUpdateProgram, "--package")
}
