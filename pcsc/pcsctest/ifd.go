package pcsctest

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
)

// IFD makes the slots of a test readers of Debian's pcscd, by an IFD handler that forwards every
// call (ifd/forward.c).
type IFD struct {
	readers  []Reader
	listener net.Listener

	mu    sync.Mutex // guards conns
	conns map[net.Conn]struct{}
	work  sync.WaitGroup
}

// BuildIFD compiles one of the IFD handlers written in C, "forward" or another beside it, to a file
// in directory. It needs gcc and libpcsclite-dev.
func BuildIFD(source, directory string) (library string, err error) {
	flags, err := exec.Command("pkg-config", "--cflags", "libpcsclite").Output()
	if err != nil {
		return "", errors.New("pkg-config or libpcsclite is missing: " +
			"install the Debian packages pkg-config and libpcsclite-dev")
	}

	library = filepath.Join(directory, "lib"+strings.TrimSuffix(filepath.Base(source), ".c")+".so")
	args := []string{"-O2", "-Wall", "-Wextra", "-shared", "-fPIC", "-o", library, source}
	args = append(args, strings.Fields(string(flags))...)
	args = append(args, "-lpthread")
	if out, err := exec.Command("gcc", args...).CombinedOutput(); err != nil {
		return "", fmt.Errorf("gcc %s: %w\n%s", source, err, out)
	}
	return library, nil
}

// ForwardSource is the path of the IFD handler that forwards.
func ForwardSource() string {
	_, file, _, _ := runtime.Caller(0)
	return filepath.Join(filepath.Dir(file), "ifd", "forward.c")
}

// ServeIFD answers the handler at a socket in directory, and writes the reader.conf that makes
// pcscd load library for these readers. Names and numbers come out as with our own daemon.
func ServeIFD(directory, library string, readers ...Reader) (i *IFD, config string, err error) {
	socket := filepath.Join(directory, "ifd")
	var text strings.Builder
	// The names in the form of our daemon (resmgr.NameOptions); pcscd adds the numbers.
	for n, r := range readers {
		name := r.Product
		if r.Interface != "" {
			name += " [" + r.Interface + "]"
		}
		if r.Serial != "" {
			name += " (" + r.Serial + ")"
		}
		// forward.c takes the socket and the reader's number from the name of the device.
		fmt.Fprintf(&text, "FRIENDLYNAME %q\nDEVICENAME %s:%d\nLIBPATH %s\n\n",
			name, socket, n, library)
	}

	config = filepath.Join(directory, "reader.conf")
	if err := os.WriteFile(config, []byte(text.String()), 0o600); err != nil {
		return nil, "", err
	}

	i = &IFD{readers: readers, conns: map[net.Conn]struct{}{}}
	i.listener, err = net.Listen("unix", socket)
	if err != nil {
		return nil, "", err
	}
	i.work.Go(i.accept)
	return i, config, nil
}

// Close ends the service; the daemon should have ended before.
func (i *IFD) Close() {
	// accept and serve end with what they read from.
	i.listener.Close()
	i.mu.Lock()
	for c := range i.conns {
		c.Close()
	}
	i.mu.Unlock()
	i.work.Wait()
}

func (i *IFD) accept() {
	for {
		c, err := i.listener.Accept()
		if err != nil {
			return
		}

		i.mu.Lock()
		i.conns[c] = struct{}{}
		i.mu.Unlock()

		i.work.Go(func() {
			i.serve(c)
			c.Close()
			i.mu.Lock()
			delete(i.conns, c)
			i.mu.Unlock()
		})
	}
}

// serve reads the number of the reader and of the slot, and answers calls or
// reports card movements.
func (i *IFD) serve(c net.Conn) {
	hello := make([]byte, 12)
	if _, err := io.ReadFull(c, hello); err != nil {
		return
	}

	reader := binary.NativeEndian.Uint32(hello)
	slot := binary.NativeEndian.Uint32(hello[4:])
	kind := binary.NativeEndian.Uint32(hello[8:])
	if int(reader) >= len(i.readers) || int(slot) >= len(i.readers[reader].Slots) {
		return
	}

	s := i.readers[reader].Slots[slot]
	// pcscd waits for movements in a thread of its own, with a connection of its own.
	if kind == 1 {
		i.sendEvents(c, s)
		return
	}

	head := make([]byte, 12)
	for {
		if _, err := io.ReadFull(c, head); err != nil {
			return
		}
		// A bound for lengths that are wrong.
		in := make([]byte, min(binary.NativeEndian.Uint32(head), 1<<20))
		if _, err := io.ReadFull(c, in); err != nil {
			return
		}

		function := binary.NativeEndian.Uint32(head[4:])
		argument := binary.NativeEndian.Uint32(head[8:])
		out, code := s.ifdCall(function, argument, in, len(i.readers[reader].Slots))
		answer := binary.NativeEndian.AppendUint32(nil, uint32(len(out)))
		answer = append(binary.NativeEndian.AppendUint32(answer, uint32(code)), out...)
		if _, err := c.Write(answer); err != nil {
			return
		}
	}
}

// sendEvents sends a byte for every movement, until the handler closes the connection.
func (i *IFD) sendEvents(c net.Conn, s *Slot) {
	gone := make(chan struct{})
	i.work.Go(func() {
		defer close(gone)
		io.Copy(io.Discard, c)
	})

	for {
		select {
		case <-s.Events():
			if _, err := c.Write([]byte{1}); err != nil {
				return
			}
		case <-gone:
			return
		}
	}
}

// ifdCall is one call of the handler, by its number in forward.c.
func (s *Slot) ifdCall(function, argument uint32, in []byte, slots int) (out []byte, code int) {
	ctx := context.Background()
	var err error
	switch function {
	case 1:
		switch argument {
		// IFD_POWER_UP and IFD_POWER_DOWN of pcsc-lite's ifdhandler.h; the third is IFD_RESET.
		case 500:
			out, err = s.PowerUp(ctx)
		case 501:
			err = s.PowerDown(ctx)
		default:
			out, err = s.Reset(ctx)
		}
	case 2:
		out, err = s.Transmit(ctx, argument, in, nil)
	case 3:
		out, err = s.Control(ctx, argument, in, 1<<20)
	case 4:
		var present bool
		if present, err = s.Present(ctx); err == nil && !present {
			err = IFDError(616)
		}
	case 5:
		out, err = s.Attribute(ctx, argument)
		// pcscd asks the driver for the ATR, which our manager knows itself.
		if err != nil && argument == 0x90303 && s.Powered() {
			out = s.card.ATR()
			err = nil
		}
	case 6:
		err = s.SetAttribute(ctx, argument, in)
	case 7:
		err = s.SetProtocol(ctx, argument)
	case 8:
		out = []byte{byte(slots)}
	default:
		err = IFDError(614)
	}

	var coded IFDError
	switch {
	case err == nil:
		return out, 0
	case errors.As(err, &coded):
		return nil, coded.IFDCode()
	case errors.Is(err, errors.ErrUnsupported):
		return nil, 614
	}
	return nil, 612
}
