package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
)

// insideVariable tells this program that it has /var/cache for itself.
const insideVariable = "BENCH_CARD_INSIDE"

// inside runs this program again with the same arguments and a /var/cache of its own, since the
// built-in card's cache has no other place, and what is measured leaves nothing behind.
func inside(args []string, stdout, stderr io.Writer) (code int, err error) {
	if os.Geteuid() != 0 {
		return 0, errors.New("only root can measure logins with the built-in card's cache")
	}
	self, err := os.Executable()
	if err != nil {
		return 0, err
	}
	const prepare = `mount -t tmpfs none /var/cache && mkdir -m 0700 /var/cache/pam_pkcs11 && exec "$@"`
	cmd := exec.Command("unshare", append([]string{"--mount", "sh", "-c", prepare, "sh", self}, args...)...)
	cmd.Env = append(os.Environ(), insideVariable+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, stdout, stderr
	err = cmd.Run()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		return exit.ExitCode(), nil
	}
	if err != nil {
		return 0, fmt.Errorf("unshare: %w", err)
	}
	return 0, nil
}
