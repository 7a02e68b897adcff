package usb

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// capture is the file in which QEMU writes down what goes over the bus to its own reader: the format of libpcap with
// usbmon's packets (link type 220).
type capture struct {
	path string
	read int // bytes of the file that have been looked at
}

// packet is the head of each packet (struct usbmon_packet of the kernel, 64 bytes).
type packet struct {
	ID                            uint64
	Event, Kind, Endpoint, Device byte
	Bus                           uint16
	NoSetup, NoData               byte
	Seconds                       int64
	Microseconds, Status          int32
	Length, Captured              uint32
	Setup                         [8]byte
	_                             [4]uint32
}

const (
	captureHeader = 24
	recordHeader  = 16
	packetHeader  = 64

	kindOfInterrupt, kindOfBulk = 1, 3
)

// take gives what was said since the last call, in the words of recorder.
func (c *capture) take() ([]string, error) {
	b, err := os.ReadFile(c.path)
	if err != nil {
		return nil, err
	}
	from := max(c.read, captureHeader)
	if len(b) < from {
		return nil, fmt.Errorf("the capture has %d bytes, and had %d", len(b), c.read)
	}
	b = b[from:]
	var lines []string
	var halves talk
	for len(b) >= recordHeader {
		n := int(binary.NativeEndian.Uint32(b[8:]))
		if n < packetHeader || recordHeader+n > len(b) {
			break // being written
		}
		var p packet
		if _, err := binary.Decode(b[recordHeader:], binary.NativeEndian, &p); err != nil {
			return nil, err
		}
		lines = append(lines, halves.add(&p, bytes.Clone(b[recordHeader+packetHeader:recordHeader+n]))...)
		b, from = b[recordHeader+n:], from+recordHeader+n
	}
	c.read = from
	return lines, nil
}

// talk puts messages together of packets.
type talk struct{ out, in []byte }

// add takes one packet and gives what is complete with it. Data that goes to the device is in the packet that submits
// it, data from it in the one that completes it; a packet that the device was not ready for says so in its status.
func (t *talk) add(p *packet, data []byte) []string {
	const submitted, completed, toHost = 'S', 'C', 0x80
	if p.Event != submitted && p.Event != completed {
		return nil
	}
	in := p.Endpoint&toHost != 0
	if p.Event == completed && p.Status != 0 {
		if p.Status == -int32(unix.EPIPE) {
			return []string{"< stall"}
		}
		return nil
	}
	if in == (p.Event == submitted) || len(data) == 0 {
		return nil
	}
	switch {
	case p.Kind == kindOfInterrupt:
		return []string{fmt.Sprintf("! % X", data)}
	case p.Kind == kindOfBulk && in:
		return complete("< ", &t.in, data)
	case p.Kind == kindOfBulk:
		return complete("> ", &t.out, data)
	}
	return nil
}

// complete adds to a message and gives it when it has the length that it says.
func complete(direction string, half *[]byte, data []byte) []string {
	const header = 10
	*half = append(*half, data...)
	if len(*half) < header || len(*half) < header+int(binary.LittleEndian.Uint32((*half)[1:])) {
		return nil
	}
	line := direction + message(*half)
	*half = nil
	return []string{line}
}
