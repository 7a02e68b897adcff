// Package serial drives smart-card readers at serial lines: those of Gemalto and SMSC that
// libccidtwin drives.
package serial

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"go.bug.st/serial"

	"pam_pkcs11/ccid"
	"pam_pkcs11/ccid/device"
	"pam_pkcs11/ccid/internal/link"
	"pam_pkcs11/ccid/message"
	"pam_pkcs11/ccid/plan"
)

// serialPort is a serial line as this package needs it. Close ends a Read in progress.
type serialPort interface {
	io.ReadWriteCloser
	setRate(baud int) error
	flush() error
}

// port is a serial port of the machine.
type port struct{ serial.Port }

// portMode is how readers use the line: 8 data bits, no parity, 2 stop bits, no flow control.
func portMode(baud int) *serial.Mode {
	return &serial.Mode{
		BaudRate: baud,
		DataBits: 8,
		Parity:   serial.NoParity,
		StopBits: serial.TwoStopBits,
	}
}

// openPort opens a serial port. RTS is lowered first of all: it keeps a reader from announcing
// itself as plug and play. A line without modem control (a pseudo-terminal, some adapters) has none
// to lower.
func openPort(device string, baud int, log *slog.Logger) (serialPort, error) {
	p, err := serial.Open(device, portMode(baud))
	if err != nil {
		return nil, fmt.Errorf("opening %s: %w", device, err)
	}

	if err := p.SetRTS(false); err != nil {
		log.Debug("RTS cannot be lowered", "device", device, "err", err)
	}
	// What a reader has sent before is no answer to anything.
	if err := (port{p}).flush(); err != nil {
		return nil, errors.Join(fmt.Errorf("opening %s: %w", device, err), p.Close())
	}

	return port{p}, nil
}

func (p port) setRate(baud int) error { return p.SetMode(portMode(baud)) }

func (p port) flush() error { return errors.Join(p.ResetInputBuffer(), p.ResetOutputBuffer()) }

// Times of opening a serial reader.
const (
	probeTime  = 2 * time.Second
	wakeTime   = time.Second
	switchTime = 250 * time.Millisecond // a GemCore SIM Pro 2 needs this to change its rate
)

// Open opens the reader of a model, "" is GemPCTwin, at a serial line such as /dev/ttyS0. log may
// be nil.
func Open(
	ctx context.Context, device, model string, o plan.Options, log *slog.Logger,
) (*ccid.Reader, error) {
	r, _, err := open(ctx, device, model, o, log)
	return r, err
}

// open is Open, and returns the line as well, so that its end can be waited for.
func open(
	ctx context.Context, device, model string, o plan.Options, log *slog.Logger,
) (*ccid.Reader, *line, error) {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}

	m, err := modelOf(model)
	if err != nil {
		return nil, nil, err
	}

	p, err := openPort(device, m.baud, log)
	if err != nil {
		return nil, nil, err
	}

	line := newLine(p, m)
	if err := line.wake(ctx, log); err != nil {
		err = fmt.Errorf("no %s answers at %s: %w", m.name, device, err)
		return nil, nil, errors.Join(err, line.Close())
	}

	r, err := ccid.Open(ctx, line, m.info(device), m.describe(), o, log)
	return r, line, err
}

// wake checks that the reader is there, and brings it to the rate that it is used at. One that has
// just been plugged in may miss the first commands.
func (l *line) wake(ctx context.Context, log *slog.Logger) error {
	b := link.NewBulk(l, link.Config{
		Slots:      1,
		MaxMessage: maxMessage,
		Reset:      func() {},
		Log:        log,
	})
	var err error
	for range link.OpenTries {
		err = l.identify(ctx, b, log)
		if err == nil || device.IsGone(err) || ctx.Err() != nil {
			return err
		}
		// The reader may be at its first rate again.
		if problem := l.port.setRate(l.model.baud); problem != nil {
			return errors.Join(err, problem)
		}
	}
	return err
}

// identify asks for the firmware, by an escape. Notices of card movements are switched off: they
// would come in the middle of answers.
func (l *line) identify(ctx context.Context, b *link.Bulk, log *slog.Logger) error {
	if l.model.startsSlow {
		if err := l.raiseRate(ctx, b); err != nil {
			return err
		}
	}

	// A reader that refuses the escape is there, too.
	a, _, err := b.Once(ctx, 0, message.Escape{Data: []byte{l.model.probe}}, probeTime)
	if err != nil && message.AsError(err) == nil {
		return err
	}

	log.Debug("serial reader", "model", l.model.name, "firmware", fmt.Sprintf("%q", a.Data))
	if l.model.quiet {
		return nil
	}
	noNotices := message.Escape{Data: []byte{0x01, 0x01, 0x01}}
	if _, _, err = b.Once(ctx, 0, noNotices, probeTime); message.AsError(err) != nil {
		return nil
	}
	return err
}

// raiseRate tells a reader that is still at its first rate to use the usual one. A reader that does
// not answer at the first rate uses the usual one already.
func (l *line) raiseRate(ctx context.Context, b *link.Bulk) error {
	_, _, err := b.Once(ctx, 0, message.GetSlotStatus{}, wakeTime)
	if err == nil || message.AsError(err) != nil {
		faster := message.Escape{Data: []byte{0x01, 0x10, 0x20}}
		if _, _, err := b.Once(ctx, 0, faster, probeTime); err != nil {
			return err
		}
		if err := link.Pause(ctx, switchTime); err != nil {
			return err
		}
	}
	return l.port.setRate(lineRate)
}
