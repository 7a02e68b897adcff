package ccid

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"go.bug.st/serial"
)

// serialPort is a serial line as this package needs it. Close ends a Read that waits.
type serialPort interface {
	io.ReadWriteCloser
	setRate(baud int) error
	flush() error
}

// port is a serial port of the machine.
type port struct{ serial.Port }

// serialMode is how readers speak: 8 data bits, no parity, 2 stop bits, no flow control.
func serialMode(baud int) *serial.Mode {
	return &serial.Mode{BaudRate: baud, DataBits: 8, Parity: serial.NoParity, StopBits: serial.TwoStopBits}
}

// openPort opens a serial port. RTS is lowered first of all: it keeps a reader from announcing itself as plug and play.
// A line without modem control (a pseudo-terminal, some adapters) does without.
func openPort(device string, baud int, log *slog.Logger) (serialPort, error) {
	p, err := serial.Open(device, serialMode(baud))
	if err != nil {
		return nil, fmt.Errorf("opening %s: %w", device, err)
	}
	if err := p.SetRTS(false); err != nil {
		log.Debug("RTS cannot be lowered", "device", device, "err", err)
	}
	if err := (port{p}).flush(); err != nil {
		return nil, errors.Join(fmt.Errorf("opening %s: %w", device, err), p.Close())
	}
	return port{p}, nil
}

func (p port) setRate(baud int) error { return p.SetMode(serialMode(baud)) }

func (p port) flush() error { return errors.Join(p.ResetInputBuffer(), p.ResetOutputBuffer()) }

// Times of opening a serial reader.
const (
	serialProbeTime = 2 * time.Second
	serialWakeTime  = time.Second
	serialSwitch    = 250 * time.Millisecond // a GemCore SIM Pro 2 needs this to change its rate
)

// OpenSerial opens the reader of a model, "" is GemPCTwin, at a serial line such as /dev/ttyS0. log may be nil.
func OpenSerial(ctx context.Context, device, model string, o Options, log *slog.Logger) (*Reader, error) {
	r, _, err := openSerial(ctx, device, model, o, log)
	return r, err
}

func openSerial(ctx context.Context, device, model string, o Options, log *slog.Logger) (*Reader, *serialLine, error) {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	m, err := serialModelOf(model)
	if err != nil {
		return nil, nil, err
	}
	p, err := openPort(device, m.baud, log)
	if err != nil {
		return nil, nil, err
	}
	line := newSerialLine(p, m)
	if err := line.wake(ctx, log); err != nil {
		return nil, nil, errors.Join(fmt.Errorf("no %s answers at %s: %w", m.name, device, err), line.Close())
	}
	r, err := Open(ctx, line, m.info(device), m.describe(), o, log)
	return r, line, err
}

// wake finds out that the reader is there, and brings it to the rate that it is used at. One that has just been plugged
// in may miss the first commands.
func (l *serialLine) wake(ctx context.Context, log *slog.Logger) error {
	b := newBulk(l, bulkConfig{slots: 1, maxMessage: serialMaxMessage, reset: func() {}, log: log})
	var err error
	for range openTries {
		if err = l.greet(ctx, b, log); err == nil || IsGone(err) || ctx.Err() != nil {
			return err
		}
		if problem := l.port.setRate(l.model.baud); problem != nil {
			return errors.Join(err, problem)
		}
	}
	return err
}

// greet asks for the firmware, by an escape. Notices of card movements are switched off: they would come in the middle
// of answers.
func (l *serialLine) greet(ctx context.Context, b *bulk, log *slog.Logger) error {
	if l.model.wakes {
		if err := l.quicken(ctx, b); err != nil {
			return err
		}
	}
	a, _, err := b.once(ctx, 0, Escape{[]byte{l.model.probe}}, serialProbeTime)
	if err != nil && failedCommand(err) == nil {
		return err
	}
	log.Debug("serial reader", "model", l.model.name, "firmware", fmt.Sprintf("%q", a.Data))
	if l.model.quiet {
		return nil
	}
	if _, _, err = b.once(ctx, 0, Escape{[]byte{0x01, 0x01, 0x01}}, serialProbeTime); failedCommand(err) != nil {
		return nil
	}
	return err
}

// quicken tells a reader that is still at its first rate to go to the usual one. One that does not answer is there
// already.
func (l *serialLine) quicken(ctx context.Context, b *bulk) error {
	if _, _, err := b.once(ctx, 0, GetSlotStatus{}, serialWakeTime); err == nil || failedCommand(err) != nil {
		if _, _, err := b.once(ctx, 0, Escape{[]byte{0x01, 0x10, 0x20}}, serialProbeTime); err != nil {
			return err
		}
		if err := pause(ctx, serialSwitch); err != nil {
			return err
		}
	}
	return l.port.setRate(serialRate)
}
