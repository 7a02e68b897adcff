//go:build !linux

package usb

import (
	"context"
	"errors"
	"log/slog"
)

// listenUevents is not supported here: Driver scans periodically.
func listenUevents(*slog.Logger) (news, error) { return nil, errors.ErrUnsupported }

// watchSleep is not supported here.
func watchSleep(context.Context, *slog.Logger, chan<- struct{}) {}
