// Command pcscd-sim is pcscd with simulated readers besides the real ones, for the demo and the tests. It is never
// packaged.
package main

import (
	"context"
	"os"

	"pam_pkcs11/cmd/pcscd/daemon"
)

func main() {
	p := daemon.Program{
		Name: "pcscd-sim", Args: os.Args[1:], Env: os.Getenv, Stdout: os.Stdout, Stderr: os.Stderr,
		Readers: []daemon.Readers{{Name: "sim", Usage: "sim:piv|sim:FILE", Plug: plug}},
		Default: "sim:piv",
	}
	os.Exit(p.Run(context.Background()))
}
