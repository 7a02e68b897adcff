// Command pcscd-sim is pcscd with simulated readers in place of real ones, for the demo and the
// tests: readers that answer the resource manager (sim), or USB devices that the driver of real
// readers drives (usb). It is never packaged.
package main

import (
	"context"
	"os"

	"pam_pkcs11/cmd/pcscd/daemon"
)

func main() {
	p := daemon.Program{
		Name:   "pcscd-sim",
		Args:   os.Args[1:],
		Env:    os.Getenv,
		Stdout: os.Stdout,
		Stderr: os.Stderr,
		Readers: []daemon.Readers{
			{Name: "sim", Usage: "sim:piv|sim:FILE", Plug: plug},
			{Name: "usb", Usage: "usb:piv|usb:FILE", Plug: plugUSB},
		},
		Default: "sim:piv",
	}
	os.Exit(p.Run(context.Background()))
}
