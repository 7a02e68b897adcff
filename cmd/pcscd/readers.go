package main

import (
	"context"
	"log/slog"

	"pam_pkcs11/ccid/plan"
	"pam_pkcs11/ccid/serial"
	"pam_pkcs11/ccid/usb"
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
func plugUSB(
	ctx context.Context, m *resmgr.Manager, argument string, log *slog.Logger,
) (<-chan error, error) {
	o, err := plan.ParseOptions(argument)
	if err != nil {
		return nil, err
	}
	return resmgr.Plug(ctx, m, usb.NewDriver(o, log)), nil
}

// plugSerial drives the reader at a serial line. argument is the line, and after a colon the model.
func plugSerial(
	ctx context.Context, m *resmgr.Manager, argument string, log *slog.Logger,
) (<-chan error, error) {
	device, model, err := serial.Parse(argument)
	if err != nil {
		return nil, err
	}
	return resmgr.Plug(ctx, m, &serial.Driver{Device: device, Model: model, Log: log}), nil
}
