package ccidtest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Terminal is a pseudo-terminal in the place of a serial port.
type Terminal struct {
	Name string // of the end that a driver opens: "/dev/pts/3"
	far  *os.File
	near *os.File // held open: without it the far end ends whenever a driver closes the port
}

// NewTerminal makes a pseudo-terminal that does not change bytes.
func NewTerminal() (*Terminal, error) {
	far, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, err
	}
	t := &Terminal{far: far}
	if err := t.open(); err != nil {
		return nil, errors.Join(err, far.Close())
	}
	return t, nil
}

// open unlocks the near end and opens it.
func (t *Terminal) open() error {
	raw, err := t.far.SyscallConn()
	if err != nil {
		return err
	}

	// Through SyscallConn: far.Fd would make the file blocking, so that Close could not end a read.
	var number int
	var problem error
	err = raw.Control(func(fd uintptr) {
		if problem = unix.IoctlSetPointerInt(int(fd), unix.TIOCSPTLCK, 0); problem == nil {
			number, problem = unix.IoctlGetInt(int(fd), unix.TIOCGPTN)
		}
	})
	if err != nil || problem != nil {
		return errors.Join(err, problem)
	}

	t.Name = fmt.Sprintf("/dev/pts/%d", number)
	if t.near, err = os.OpenFile(t.Name, os.O_RDWR|unix.O_NOCTTY, 0); err != nil {
		return err
	}
	return t.makeRaw()
}

// settings reads the settings of the line.
func (t *Terminal) settings() (*unix.Termios, error) {
	raw, err := t.near.SyscallConn()
	if err != nil {
		return nil, err
	}
	var s *unix.Termios
	var problem error
	err = raw.Control(func(fd uintptr) { s, problem = unix.IoctlGetTermios(int(fd), unix.TCGETS) })
	return s, errors.Join(err, problem)
}

// makeRaw switches off everything that a terminal does to bytes.
func (t *Terminal) makeRaw() error {
	s, err := t.settings()
	if err != nil {
		return err
	}
	// No echo, no editing of lines, no translation of CR and NL: the bytes are no text.
	s.Iflag = 0
	s.Oflag = 0
	s.Lflag = 0

	raw, err := t.near.SyscallConn()
	if err != nil {
		return err
	}
	var problem error
	err = raw.Control(func(fd uintptr) { problem = unix.IoctlSetTermios(int(fd), unix.TCSETS, s) })
	return errors.Join(err, problem)
}

// Is9600 reports whether the driver has set 9600 bit/s.
func (t *Terminal) Is9600() bool {
	s, err := t.settings()
	return err == nil && s.Cflag&unix.CBAUD == unix.B9600
}

// Is8N2 reports whether the driver has set 8 data bits, no parity and 2 stop bits.
func (t *Terminal) Is8N2() bool {
	s, err := t.settings()
	if err != nil || s.Cflag&unix.CSTOPB == 0 {
		return false
	}
	return s.Cflag&unix.PARENB == 0 && s.Cflag&unix.CSIZE == unix.CS8
}

// settleTime is how long the reader of a terminal may take to end.
const settleTime = 10 * time.Second

// Serve runs a reader at the far end until the function that it returns is called, which waits for
// the reader's end.
func (t *Terminal) Serve(l *SerialLine) (wait func()) {
	done := make(chan struct{})
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		defer close(done)
		_ = l.Serve(ctx, t.far)
	}()
	return func() {
		cancel()
		select {
		case <-done:
		case <-time.After(settleTime):
		}
	}
}

// Close removes the line, as when a USB adapter is unplugged.
func (t *Terminal) Close() error { return errors.Join(t.near.Close(), t.far.Close()) }
