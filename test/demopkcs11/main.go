// Command demopkcs11 shows the PAM module at work through the real libpam, with a PKCS#11 library of others: a
// certificate authority and smart cards (SoftHSM tokens) are made in a directory of their own, alice logs in, and is
// refused in the ways that matter. The machine is not touched and nothing is left behind. It fails when any answer is
// not the one the story tells.
//
// The argument is the directory with the built module.
package main

import (
	"fmt"
	"io"
	"os"

	"pam_pkcs11/test/scene"
)

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

func run(args []string, stdout, stderr io.Writer) int {
	if len(args) != 1 {
		fmt.Fprintln(stderr, "usage: demopkcs11 DIRECTORY-OF-THE-MODULE")
		return 2
	}
	if err := scene.InEnglish(); err != nil {
		fmt.Fprintln(stderr, "demo:", err)
		return 1
	}
	if err := tell(args[0], stdout); err != nil {
		fmt.Fprintln(stderr, "demo:", err)
		return 1
	}
	return 0
}
