package setup

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"
)

// pamAuthUpdateProgram is Debian's tool for /etc/pam.d/common-*, of the package libpam-runtime.
const pamAuthUpdateProgram = "/usr/sbin/pam-auth-update"

// toolTime bounds a run of the distribution's tool.
const toolTime = 2 * time.Minute

// PAMAuthUpdate switches profiles by pam-auth-update. Its exit status is 0 also where it has changed
// nothing: callers read the files afterwards.
type PAMAuthUpdate struct{}

// HasPAMAuthUpdate reports whether the stacks of this machine are pam-auth-update's.
func HasPAMAuthUpdate() bool {
	_, err := os.Stat(pamAuthUpdateProgram)
	return err == nil
}

// Switch switches profiles off and on. It implements undo.Profiles.
func (PAMAuthUpdate) Switch(ctx context.Context, off, on []string) error {
	args := []string{"--package"}
	if len(off) > 0 {
		args = append(append(args, "--disable"), off...)
	}
	if len(on) > 0 {
		args = append(append(args, "--enable"), on...)
	}
	_, err := runTool(ctx, pamAuthUpdateProgram, args...)
	return err
}

// Settle runs pam-auth-update without an order, as each package does. What it says is empty where
// the block is its own; a block that it does not recognise is frozen, and it says so.
func (PAMAuthUpdate) Settle(ctx context.Context) (said string, err error) {
	return runTool(ctx, pamAuthUpdateProgram, "--package")
}

// runTool runs a tool of the distribution that must not ask, and returns what it said.
func runTool(ctx context.Context, program string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, toolTime)
	defer cancel()

	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Env = []string{
		"PATH=/usr/sbin:/usr/bin:/sbin:/bin",
		"DEBIAN_FRONTEND=noninteractive",
		"DEBCONF_NOWARNINGS=yes",
		"LC_ALL=C",
	}
	cmd.WaitDelay = 5 * time.Second // for what a child of it still holds open

	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	err := cmd.Run()
	text := strings.TrimSpace(said.String())
	if ctx.Err() != nil {
		err = ctx.Err()
	}
	if err != nil {
		return text, fmt.Errorf("%s %s: %w: %s", program, strings.Join(args, " "), err, text)
	}
	return text, nil
}
