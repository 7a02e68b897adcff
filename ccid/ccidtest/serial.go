package ccidtest

import (
	"bufio"
	"context"
	"encoding/binary"
	"io"
	"sync"

	"pam_pkcs11/ccid/device"
)

// SerialLine makes a serial reader of one interface of a Device: frames of 03 06, a CCID message
// and a check byte.
type SerialLine struct {
	Device *Device
	Number byte // of the interface
	// Echo returns every command before it is performed, as GemPC Twin and PinPad do.
	Echo bool
	// Rate is called before each command: false is a line at another rate than the reader's, over
	// which no command arrives. nil is always true.
	Rate func() bool
	// Interfere is called for each command, by its number from 0. It returns bytes that the reader
	// sends before its answer, and whether the command did not arrive (as with a NAK). nil does
	// nothing.
	Interfere func(n int, command []byte) (before []byte, lost bool)
	// Spoil changes an answer's frame on its way, by its number from 0. nil does nothing.
	Spoil func(n int, frame []byte) []byte

	mu       sync.Mutex // guards commands
	commands [][]byte
}

// SerialFrame is a message as it travels on the line.
func SerialFrame(message []byte) []byte {
	b := append([]byte{0x03, 0x06}, message...)
	var check byte
	for _, x := range b {
		check ^= x
	}
	return append(b, check)
}

// Commands returns the messages that the reader has received, in order.
func (l *SerialLine) Commands() [][]byte {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([][]byte(nil), l.commands...)
}

// Serve plays the reader at the far end of a line until ctx ends or the line does.
func (l *SerialLine) Serve(ctx context.Context, line io.ReadWriter) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()

	// Echoes and answers come from two goroutines: a frame must not be cut by another.
	var writing sync.Mutex
	send := func(b []byte) error {
		writing.Lock()
		defer writing.Unlock()
		_, err := line.Write(b)
		return err
	}

	// cancel is deferred again, because deferred calls run in reverse: it ends what Wait waits for.
	var answering sync.WaitGroup
	defer answering.Wait()
	defer cancel()
	answering.Go(func() { l.answer(ctx, send) })

	in := bufio.NewReader(line)
	for n := 0; ; n++ {
		message, err := readSerialFrame(in)
		if err != nil {
			return err
		}
		// A command at the wrong rate has not been a command: it gets no number.
		if l.Rate != nil && !l.Rate() {
			n--
			continue
		}

		if err := l.command(ctx, n, message, send); err != nil {
			return err
		}
	}
}

// command handles one command: the echo, what is sent before the answer, and then the device
// performs it.
func (l *SerialLine) command(
	ctx context.Context, n int, message []byte, send func([]byte) error,
) error {
	l.mu.Lock()
	l.commands = append(l.commands, message)
	l.mu.Unlock()

	var before []byte
	lost := false
	if l.Interfere != nil {
		before, lost = l.Interfere(n, message)
	}
	// A reader that has not received the command has nothing to echo.
	if l.Echo && !lost {
		before = append(SerialFrame(message), before...)
	}

	if len(before) > 0 {
		if err := send(before); err != nil {
			return err
		}
	}

	if lost {
		return nil
	}
	_, err := l.Device.Out(ctx, l.endpoint(false), message)
	return err
}

// endpoint is the address of the interface's bulk endpoint, in or out.
func (l *SerialLine) endpoint(in bool) byte {
	l.Device.mu.Lock()
	defer l.Device.mu.Unlock()
	r := l.Device.reader(l.Number)
	if in {
		return r.in.bulkIn()
	}
	return r.in.bulkOut()
}

// answer sends the answers of the device.
func (l *SerialLine) answer(ctx context.Context, send func([]byte) error) {
	endpoint := l.endpoint(true)
	buffer := make([]byte, maxMessage)
	for n := 0; ; n++ {
		got, err := l.Device.In(ctx, endpoint, buffer)
		if err != nil {
			return
		}

		frame := SerialFrame(buffer[:got])
		if l.Spoil != nil {
			frame = l.Spoil(n, frame)
		}
		if err := send(frame); err != nil {
			return
		}
	}
}

// readSerialFrame reads the next frame that is whole, and skips bytes that are none.
func readSerialFrame(in *bufio.Reader) ([]byte, error) {
	for {
		b, err := in.ReadByte()
		if err != nil {
			return nil, err
		}
		if b != 0x03 {
			continue
		}

		if b, err = in.ReadByte(); err != nil {
			return nil, err
		}
		if b != 0x06 {
			continue
		}

		message := make([]byte, headerLength, 271)
		if _, err := io.ReadFull(in, message); err != nil {
			return nil, err
		}

		// No frame is longer: these bytes were no header.
		length := binary.LittleEndian.Uint32(message[1:])
		if length > 271 {
			continue
		}

		rest := make([]byte, length+1)
		if _, err := io.ReadFull(in, rest); err != nil {
			return nil, err
		}

		message = append(message, rest[:length]...)
		if frame := SerialFrame(message); frame[len(frame)-1] == rest[length] {
			return message, nil
		}
	}
}

// SerialReader is a device with the interface of a serial reader of Gemalto or SMSC, as libccidtwin
// assumes it, and with the escapes by which the driver asks for the firmware.
func SerialReader(slots int, features device.Feature, firmware string) *Device {
	class := device.ClassDescriptor{
		Release:          0x0100,
		MaxSlotIndex:     byte(slots - 1),
		VoltageSupport:   7,
		Protocols:        3,
		DefaultClock:     4000,
		MaximumClock:     4000,
		DataRate:         10753,
		MaxDataRate:      825806,
		MaxIFSD:          254,
		Features:         features,
		MaxMessageLength: 271,
		MaxBusySlots:     1,
	}
	d := New(Profile{Info: device.Info{Name: "serial"}, Interfaces: []Interface{{CCID: class}}})

	d.Escapes(0, func(_ int, command []byte) ([]byte, bool) {
		switch string(command) {
		case "\x02", "\x06":
			return []byte(firmware), true
		case "\x01\x01\x01", "\x01\x10\x20":
			return nil, true
		}
		return nil, false
	})

	return d
}
