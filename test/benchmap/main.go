// Command benchmap compares what mapping a certificate to a user adds to a login: through this module and through
// Debian's libpam-pkcs11, on the same SoftHSM token, in whole processes in alternation. What a feature adds is the
// time of a login with it less that of the same module's login without it in the same round; what counts is the
// median over the rounds.
//
//	benchmap [-rounds N] [-only NAME] DIRECTORY-OF-THE-MODULE
//
// It runs as root, in a mount namespace of its own where there is one account more. It fails when a feature adds more
// than its limit, or when this module needs more memory for it than is promised.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// inside tells the second run of this program that it is in its own namespace.
const inside = "PAM_PKCS11_BENCHMAP_INSIDE"

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

func run(args []string, stdout, stderr io.Writer) int {
	flags := flag.NewFlagSet("benchmap", flag.ContinueOnError)
	flags.SetOutput(stderr)
	rounds := flags.Int("rounds", 15, "rounds for each feature")
	only := flags.String("only", "", "measure only features whose name begins so")
	if err := flags.Parse(args); err != nil || flags.NArg() != 1 || *rounds < 3 {
		fmt.Fprintln(stderr, "usage: benchmap [-rounds N] [-only NAME] DIRECTORY-OF-THE-MODULE")
		return 2
	}
	if os.Getenv(inside) == "" {
		return again(args, stdout, stderr)
	}
	good, err := compare(flags.Arg(0), *rounds, func(name string) bool { return strings.HasPrefix(name, *only) }, stdout)
	if err != nil {
		fmt.Fprintln(stderr, "benchmap:", err)
		return 1
	}
	if !good {
		return 1
	}
	return 0
}

// again runs this program once more, in a mount namespace of its own.
func again(args []string, stdout, stderr io.Writer) int {
	if os.Geteuid() != 0 {
		fmt.Fprintln(stderr, "benchmap: only root can add an account to a mount namespace")
		return 1
	}
	self, err := os.Executable()
	if err != nil {
		fmt.Fprintln(stderr, "benchmap:", err)
		return 1
	}
	cmd := exec.Command(self, args...)
	cmd.Stdout, cmd.Stderr = stdout, stderr
	cmd.Env = append(os.Environ(), inside+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGTERM}
	if err := cmd.Run(); err != nil {
		var ended *exec.ExitError
		if !errors.As(err, &ended) {
			fmt.Fprintln(stderr, "benchmap:", err)
		}
		return 1
	}
	return 0
}

// addAccounts lays a copy of /etc/passwd with more lines over it, in this namespace.
func addAccounts(duplicate, lines string) error {
	text, err := os.ReadFile("/etc/passwd")
	if err != nil {
		return err
	}
	if err := os.WriteFile(duplicate, append(text, lines...), 0o644); err != nil {
		return err
	}
	return unix.Mount(duplicate, "/etc/passwd", "", unix.MS_BIND, "")
}
