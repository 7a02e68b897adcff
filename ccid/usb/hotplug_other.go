//go:build !linux

package usb

import (
	"context"
	"errors"
	"log/slog"
)

// listenUevents has nothing to listen to.
func listenUevents(*slog.Logger) (news, error) { return nil, errors.ErrUnsupported }

// watchSleep has nothing to watch.
func watchSleep(context.Context, *slog.Logger, chan<- struct{}) {}
