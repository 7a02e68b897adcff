package main

import (
	"context"
	"log/slog"

	"pam_pkcs11/ccid"
	"pam_pkcs11/cmd/pcscd/daemon"
	"pam_pkcs11/pcsc/resmgr"
)

// readers are the kinds of readers that this daemon drives.
func readers() []daemon.Readers {
	return []daemon.Readers{
		{Name: "usb", Usage: "usb[:OPTION+...]", Plug: plugUSB},
		{Name: "serial", Usage: "serial:DEVICE[:MODEL]", Plug: plugSerial},
	}
}

// plugUSB drives the USB readers. argument is options of the driver, with plus signs between them.
func plugUSB(ctx context.Context, m *resmgr.Manager, argument string, log *slog.Logger) (<-chan error, error) {
	o, err := ccid.ParseOptions(argument)
	if err != nil {
		return nil, err
	}
	return resmgr.Plug(ctx, m, ccid.NewDriver(o, log)), nil
}

// plugSerial drives the reader at a serial line. argument is the line, and after a colon the model.
func plugSerial(ctx context.Context, m *resmgr.Manager, argument string, log *slog.Logger) (<-chan error, error) {
	device, model, err := ccid.ParseSerial(argument)
	if err != nil {
		return nil, err
	}
	return resmgr.Plug(ctx, m, &ccid.SerialDriver{Device: device, Model: model, Log: log}), nil
}
