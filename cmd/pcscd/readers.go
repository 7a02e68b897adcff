package main

import (
	"context"
	"errors"
	"log/slog"

	"pam_pkcs11/cmd/pcscd/daemon"
	"pam_pkcs11/pcsc"
)

// readers are the kinds of readers that this daemon drives.
func readers() []daemon.Readers {
	return []daemon.Readers{
		{Name: "usb", Usage: "usb", Plug: notYet},
		{Name: "serial", Usage: "serial:DEV", Plug: notYet},
	}
}

// notYet stands where package ccid is plugged in.
func notYet(context.Context, *pcsc.Manager, string, *slog.Logger) (<-chan error, error) {
	return nil, errors.New("this build has no driver for them")
}
