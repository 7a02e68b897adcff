// Command pcscd is the PC/SC daemon: smart-card readers shared between programs, on the socket that
// every libpcsclite knows. See pcscd(8).
package main

import (
	"context"
	"os"

	"pam_pkcs11/cmd/pcscd/daemon"
)

func main() {
	p := daemon.Program{
		Name:    "pcscd",
		Args:    os.Args[1:],
		Env:     os.Getenv,
		Stdout:  os.Stdout,
		Stderr:  os.Stderr,
		Readers: readers(),
		Default: "usb",
	}
	os.Exit(p.Run(context.Background()))
}
