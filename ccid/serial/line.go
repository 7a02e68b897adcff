package serial

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"

	"pam_pkcs11/ccid/device"
	"pam_pkcs11/ccid/message"
)

// line is a Transport over a serial port. One goroutine reads while the port is open.
type line struct {
	port  serialPort
	model *model

	events chan lineEvent
	closed chan struct{} // closed by Close
	gone   chan struct{} // closed when the port cannot be read any more
	once   sync.Once
	work   sync.WaitGroup

	mu      sync.Mutex // guards the fields below
	decoder decoder
	frame   []byte // the last command, framed
	repeats int    // how often it was sent again
}

// mostRepeats is how often a command is sent again when the reader did not receive it whole.
const mostRepeats = 3

var (
	errDamaged = errors.New("a damaged frame on the serial line")
	errNAK     = errors.New("the reader does not get the command whole")
)

func newLine(p serialPort, m *model) *line {
	l := &line{
		port:   p,
		model:  m,
		events: make(chan lineEvent, 16),
		closed: make(chan struct{}),
		gone:   make(chan struct{}),
	}
	l.work.Go(l.read)
	return l
}

// read turns bytes into events until the port is closed or gone.
func (l *line) read() {
	defer close(l.gone)

	buffer := make([]byte, 512)
	for {
		n, err := l.port.Read(buffer)
		if err != nil {
			return
		}

		for _, b := range buffer[:n] {
			l.mu.Lock()
			event := l.decoder.take(b)
			l.mu.Unlock()

			// Slots of serial readers are polled for cards: a notice has nothing to add.
			if event.kind == noEvent || event.kind == cardMoved {
				continue
			}

			select {
			case l.events <- event:
			case <-l.closed:
				return
			}
		}
	}
}

// BulkOut sends a command. Events from before it are dropped: none of them is about this command.
func (l *line) BulkOut(ctx context.Context, command []byte) error {
	if len(command) < message.HeaderLength || len(command) > maxMessage {
		return fmt.Errorf("a message of %d bytes, %d fit the serial line", len(command), maxMessage)
	}

	for drained := false; !drained; {
		select {
		case <-l.events:
		default:
			drained = true
		}
	}

	l.mu.Lock()
	l.decoder.reset()
	// The previous command may have held a PIN.
	clear(l.frame)
	l.frame = appendFrame(l.frame[:0], command)
	l.repeats = 0
	// A copy: the write may still be in progress when the next command is framed.
	frame := append([]byte(nil), l.frame...)
	l.mu.Unlock()

	return l.write(ctx, frame)
}

// write sends a frame, and clears it. A line that takes no bytes (its other end is stuck) is given
// up when ctx ends.
func (l *line) write(ctx context.Context, frame []byte) error {
	// In a goroutine of its own: a write to a port cannot be interrupted, other than by Close.
	done := make(chan error, 1)
	go func() {
		defer clear(frame)
		for rest := frame; len(rest) > 0; {
			n, err := l.port.Write(rest)
			if err != nil {
				done <- err
				return
			}
			rest = rest[n:]
		}
		done <- nil
	}()

	select {
	case err := <-done:
		if err != nil {
			return fmt.Errorf("%w: %w", l.end(), err)
		}
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-l.closed:
		return device.ErrClosed
	}
}

// end is the error of a port that cannot be used any more: ErrClosed when we have closed it, else
// ErrGone.
func (l *line) end() error {
	select {
	case <-l.closed:
		return device.ErrClosed
	default:
		return device.ErrGone
	}
}

// BulkIn receives a message. The echo of a command is dropped, for every model: no answer has a
// type below 80. A request for time is returned as the message that a USB reader would send for it.
func (l *line) BulkIn(ctx context.Context, p []byte) (int, error) {
	for {
		select {
		case event := <-l.events:
			if n, err, ok := l.take(ctx, event, p); ok {
				return n, err
			}
		case <-ctx.Done():
			return 0, ctx.Err()
		case <-l.closed:
			return 0, device.ErrClosed
		case <-l.gone:
			return 0, l.end()
		}
	}
}

// take handles an event; ok when it ends the transfer.
func (l *line) take(ctx context.Context, event lineEvent, p []byte) (n int, err error, ok bool) {
	switch event.kind {
	case messageCame:
		// An echo, of a command that may have held a PIN.
		if event.message[0] < 0x80 {
			clear(event.message)
			return 0, nil, false
		}

		l.forget(event.message)
		if n = copy(p, event.message); n < len(event.message) {
			return 0, device.ErrOverflow, true
		}
		return n, nil, true

	case timeWanted:
		return copy(p, l.extension()), nil, true

	case frameDamaged:
		return 0, errDamaged, true

	case nakCame:
		err = l.resend(ctx)
		return 0, err, err != nil
	}
	return 0, nil, false
}

// forget clears the data of the last command when its answer has come: it may have held a PIN, and
// will not be sent again. The header stays, for requests for time.
func (l *line) forget(answer []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	// Two bytes of the frame stand before the message, whose byte 6 is the sequence number.
	if len(l.frame) > 2+message.HeaderLength && l.frame[2+6] == answer[6] {
		clear(l.frame[2+message.HeaderLength:])
	}
}

// extension is the message by which a reader extends the time for the last command (CCID 1.1,
// section 6.2.6).
func (l *line) extension() []byte {
	l.mu.Lock()
	defer l.mu.Unlock()

	b := make([]byte, message.HeaderLength)
	if len(l.frame) < 2+message.HeaderLength {
		return b
	}

	// For the slot and with the number of the command, with the multiplier 1.
	command := l.frame[2:]
	b[0] = byte(message.Type(command[0]).Answer())
	b[5] = command[5]
	b[6] = command[6]
	b[7] = 0x80
	b[8] = 1
	return b
}

// resend sends the last command again.
func (l *line) resend(ctx context.Context) error {
	l.mu.Lock()
	l.repeats++
	repeats := l.repeats
	frame := append([]byte(nil), l.frame...)
	l.mu.Unlock()

	if repeats > mostRepeats {
		return errNAK
	}
	return l.write(ctx, frame)
}

// Interrupt is not supported: a serial line has no notifications.
func (l *line) Interrupt(context.Context, []byte) (int, error) { return 0, errors.ErrUnsupported }

// Control answers in the reader's place what the model's table has: the data rates.
func (l *line) Control(_ context.Context, setup device.Setup, data []byte) (int, error) {
	if !setup.In() || setup.Request != device.RequestDataRates {
		return 0, errors.ErrUnsupported
	}

	var raw []byte
	for _, rate := range l.model.rates {
		raw = binary.LittleEndian.AppendUint32(raw, rate)
	}
	return copy(data, raw), nil
}

// Reclaim empties the buffers of the line.
func (l *line) Reclaim(context.Context) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.decoder.reset()
	return l.port.flush()
}

// Reset is not supported: nothing resets a device at a serial line.
func (l *line) Reset(context.Context) error { return errors.ErrUnsupported }

// Close closes the port.
func (l *line) Close() error {
	var err error
	l.once.Do(func() {
		// First, so that calls in progress end with ErrClosed and not with ErrGone.
		close(l.closed)
		err = l.port.Close()
		l.mu.Lock()
		clear(l.frame)
		l.mu.Unlock()
	})
	l.work.Wait()
	return err
}
