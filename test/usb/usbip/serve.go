package usbip

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"sync"

	"golang.org/x/sys/unix"

	"pam_pkcs11/test/usb/device"
)

// Messages of the USB/IP protocol after the import (Documentation/usb/usbip_protocol.rst): 48 bytes, most significant
// byte first, and what is sent or received.
const (
	cmdSubmit = 1
	cmdUnlink = 2
	retSubmit = 3
	retUnlink = 4

	headerSize  = 48
	mostData    = 16 << 20
	directionIn = 1
)

// header is the head of every message; the last words have other meanings in each.
type header struct {
	Command, Sequence, Device, Direction, Endpoint uint32
	// In SUBMIT: flags, length, start frame, packets, interval. In its answer: status, length. In UNLINK: the sequence
	// number of what is to be unlinked; in its answer: status.
	Words [5]uint32
	Setup [device.SetupLength]byte
}

// serving is one device on one socket.
type serving struct {
	conn    net.Conn
	device  *device.Device
	mu      sync.Mutex // of writing, and of what follows
	pending map[uint32]*device.Transfer
}

// serve carries transfers until the socket is closed.
func serve(conn net.Conn, d *device.Device) {
	s := &serving{conn: conn, device: d, pending: make(map[uint32]*device.Transfer)}
	for {
		b := make([]byte, headerSize)
		if _, err := io.ReadFull(conn, b); err != nil {
			return
		}
		var h header
		if _, err := binary.Decode(b, binary.BigEndian, &h); err != nil {
			return
		}
		if err := s.handle(&h); err != nil {
			conn.Close()
			return
		}
	}
}

func (s *serving) handle(h *header) error {
	switch h.Command {
	case cmdSubmit:
		return s.submit(h)
	case cmdUnlink:
		s.unlink(h)
		return nil
	}
	return fmt.Errorf("unknown command %d of the kernel", h.Command)
}

func (s *serving) submit(h *header) error {
	length := h.Words[1]
	if length > mostData {
		return fmt.Errorf("transfer of %d bytes", length)
	}
	t := &device.Transfer{Length: int(length), Setup: device.ParseSetup(h.Setup)}
	if h.Direction != directionIn {
		t.Data = make([]byte, length)
		if _, err := io.ReadFull(s.conn, t.Data); err != nil {
			return err
		}
	}
	if h.Endpoint != 0 {
		t.Endpoint = byte(h.Endpoint) | byte(h.Direction)<<7
	}
	sequence := h.Sequence
	t.Done = func(status unix.Errno, data []byte, n int) { s.done(sequence, status, data, n) }
	s.mu.Lock()
	s.pending[sequence] = t
	s.mu.Unlock()
	if !s.device.Submit(t) {
		s.done(sequence, unix.EPIPE, nil, 0)
	}
	return nil
}

// done answers SUBMIT. A transfer that was unlinked gets no answer but that of UNLINK.
func (s *serving) done(sequence uint32, status unix.Errno, data []byte, n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.pending, sequence)
	if status == unix.ENOENT {
		return
	}
	s.write(retSubmit, sequence, [5]uint32{uint32(-int32(status)), uint32(n)}, data)
}

func (s *serving) unlink(h *header) {
	s.mu.Lock()
	t := s.pending[h.Words[0]]
	s.mu.Unlock()
	var status int32
	if t != nil && s.device.Cancel(t) {
		status = -int32(unix.ECONNRESET)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.write(retUnlink, h.Sequence, [5]uint32{uint32(status)}, nil)
}

// write sends a message, under the lock. An error is the end of the socket, which serve sees too.
func (s *serving) write(command, sequence uint32, words [5]uint32, data []byte) {
	b, err := binary.Append(nil, binary.BigEndian, header{Command: command, Sequence: sequence, Words: words})
	if err == nil {
		_, err = s.conn.Write(append(b, data...))
	}
	if err != nil {
		s.conn.Close()
	}
}
