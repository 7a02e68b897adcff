package main

import (
	"context"
	"errors"
	"log/slog"

	"pam_pkcs11/ccid"
	"pam_pkcs11/cmd/pcscd/daemon"
	"pam_pkcs11/pcsc"
)

// readers are the kinds of readers that this daemon drives.
func readers() []daemon.Readers {
	return []daemon.Readers{
		{Name: "usb", Usage: "usb[:OPTION+...]", Plug: plugUSB},
		{Name: "serial", Usage: "serial:DEV", Plug: notYet},
	}
}

// plugUSB drives the USB readers. argument is options of the driver, with plus signs between them.
func plugUSB(ctx context.Context, m *pcsc.Manager, argument string, log *slog.Logger) (<-chan error, error) {
	o, err := ccid.ParseOptions(argument)
	if err != nil {
		return nil, err
	}
	return pcsc.Plug(ctx, m, ccid.NewDriver(o, log)), nil
}

// notYet stands where package ccid is plugged in.
func notYet(context.Context, *pcsc.Manager, string, *slog.Logger) (<-chan error, error) {
	return nil, errors.New("this build has no driver for them")
}
