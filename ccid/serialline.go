package ccid

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
)

// serialLine is a Transport over a serial port. One goroutine reads as long as the port is open.
type serialLine struct {
	port  serialPort
	model *serialModel

	events chan serialEvent
	closed chan struct{} // closed by Close
	gone   chan struct{} // closed when the port cannot be read any more
	once   sync.Once
	work   sync.WaitGroup

	mu      sync.Mutex // guards the decoder and what was sent last
	decoder serialDecoder
	frame   []byte // the last command, framed
	repeats int    // how often it was sent again
}

// serialRepeats is how often a command is sent again that the reader did not get whole.
const serialRepeats = 3

var (
	errSerialDamaged = errors.New("a damaged frame on the serial line")
	errSerialNAK     = errors.New("the reader does not get the command whole")
)

func newSerialLine(p serialPort, m *serialModel) *serialLine {
	l := &serialLine{port: p, model: m, events: make(chan serialEvent, 16), closed: make(chan struct{}), gone: make(chan struct{})}
	l.work.Go(l.read)
	return l
}

// read turns bytes into events until the port is closed or gone.
func (l *serialLine) read() {
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
			if event.kind == serialNothing || event.kind == serialMoved {
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

// BulkOut sends a command. What the reader has said before is an answer to nothing.
func (l *serialLine) BulkOut(ctx context.Context, command []byte) error {
	if len(command) < headerLength || len(command) > serialMaxMessage {
		return fmt.Errorf("a message of %d bytes, %d fit the serial line", len(command), serialMaxMessage)
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
	clear(l.frame) // may have held a PIN
	l.frame, l.repeats = appendSerialFrame(l.frame[:0], command), 0
	frame := append([]byte(nil), l.frame...)
	l.mu.Unlock()
	return l.write(ctx, frame)
}

// write sends a frame. A line that takes nothing (its other end is stuck) is given up when ctx ends.
func (l *serialLine) write(ctx context.Context, frame []byte) error {
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
		return ErrClosed
	}
}

// end is ErrClosed when we have closed the port, else ErrGone.
func (l *serialLine) end() error {
	select {
	case <-l.closed:
		return ErrClosed
	default:
		return ErrGone
	}
}

// BulkIn receives a message. The echo of a command is dropped, by whatever model: no answer has a type below 80. A
// request for time becomes the message that a USB reader would send for it.
func (l *serialLine) BulkIn(ctx context.Context, p []byte) (int, error) {
	for {
		select {
		case event := <-l.events:
			if n, err, ok := l.take(ctx, event, p); ok {
				return n, err
			}
		case <-ctx.Done():
			return 0, ctx.Err()
		case <-l.closed:
			return 0, ErrClosed
		case <-l.gone:
			return 0, l.end()
		}
	}
}

// take acts on an event; ok when that is the end of a transfer.
func (l *serialLine) take(ctx context.Context, event serialEvent, p []byte) (n int, err error, ok bool) {
	switch event.kind {
	case serialMessage:
		if event.message[0] < 0x80 {
			clear(event.message) // an echo of what may have held a PIN
			return 0, nil, false
		}
		l.forget(event.message)
		if n = copy(p, event.message); n < len(event.message) {
			return 0, ErrOverflow, true
		}
		return n, nil, true
	case serialTime:
		return copy(p, l.extension()), nil, true
	case serialDamaged:
		return 0, errSerialDamaged, true
	case serialNAK:
		err = l.again(ctx)
		return 0, err, err != nil
	}
	return 0, nil, false
}

// forget drops the last command when its answer has come: it may have held a PIN, and will not be sent again. Its header
// stays, for requests for time.
func (l *serialLine) forget(answer []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.frame) > 2+headerLength && l.frame[2+6] == answer[6] {
		clear(l.frame[2+headerLength:])
	}
}

// extension is the message by which a reader extends the time for the last command (CCID 1.1, section 6.2.6).
func (l *serialLine) extension() []byte {
	l.mu.Lock()
	defer l.mu.Unlock()
	b := make([]byte, headerLength)
	if len(l.frame) < 2+headerLength {
		return b
	}
	command := l.frame[2:]
	b[0] = byte(MessageType(command[0]).answer())
	b[5], b[6], b[7], b[8] = command[5], command[6], 0x80, 1
	return b
}

// again sends the last command again.
func (l *serialLine) again(ctx context.Context) error {
	l.mu.Lock()
	l.repeats++
	repeats, frame := l.repeats, append([]byte(nil), l.frame...)
	l.mu.Unlock()
	if repeats > serialRepeats {
		return errSerialNAK
	}
	return l.write(ctx, frame)
}

// Interrupt is what a serial line has not.
func (l *serialLine) Interrupt(context.Context, []byte) (int, error) { return 0, errors.ErrUnsupported }

// Control answers in the reader's place what the model's table knows: its data rates.
func (l *serialLine) Control(_ context.Context, setup Setup, data []byte) (int, error) {
	if !setup.In() || setup.Request != RequestDataRates {
		return 0, errors.ErrUnsupported
	}
	var raw []byte
	for _, rate := range l.model.rates {
		raw = binary.LittleEndian.AppendUint32(raw, rate)
	}
	return copy(data, raw), nil
}

// Reclaim drops what lies in the buffers of the line.
func (l *serialLine) Reclaim(context.Context) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.decoder.reset()
	return l.port.flush()
}

// Reset is what a serial line cannot do.
func (l *serialLine) Reset(context.Context) error { return errors.ErrUnsupported }

// Close closes the port.
func (l *serialLine) Close() error {
	var err error
	l.once.Do(func() {
		close(l.closed)
		err = l.port.Close()
		l.mu.Lock()
		clear(l.frame)
		l.mu.Unlock()
	})
	l.work.Wait()
	return err
}
