package usb

import (
	"context"
	"encoding/binary"
	"fmt"
	"sync"

	"pam_pkcs11/test/usb/device"
)

// recorder stands between a bus and a reader and writes down what they say to each other.
type recorder struct {
	device.Function
	mu     sync.Mutex
	device *device.Device
	lines  []line
}

// line is one message or request, or one of what comes from the reader by itself.
type line struct {
	number byte // of the interface
	slot   byte
	text   string
}

// record puts a recorder before a function.
func (r *recorder) record(f device.Function) device.Function {
	r.Function = f
	return r
}

// take gives what was said so far about one slot, and begins anew.
func (r *recorder) take(p place) []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var said []string
	for _, l := range r.lines {
		if l.number == p.number && int(l.slot) == p.slot {
			said = append(said, l.text)
		}
	}
	r.lines = nil
	return said
}

// attach tells what the recorder stands before.
func (r *recorder) attach(d *device.Device) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.device = d
}

// say writes a line of an endpoint; the message, if it is one, says which slot it is about.
func (r *recorder) say(endpoint byte, about []byte, format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	l := line{text: fmt.Sprintf(format, args...)}
	if r.device != nil {
		l.number, _ = r.device.InterfaceOf(endpoint)
	}
	if len(about) > slotAt {
		l.slot = about[slotAt]
	}
	r.lines = append(r.lines, l)
}

const slotAt = 5 // of bSlot in every CCID message

func (r *recorder) request(number byte, format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lines = append(r.lines, line{number: number, text: fmt.Sprintf(format, args...)})
}

// Control records requests, but for those of USB itself.
func (r *recorder) Control(ctx context.Context, s device.Setup, data []byte) ([]byte, error) {
	answer, err := r.Function.Control(ctx, s, data)
	head := fmt.Sprintf("control %02X %02X value %04X index %04X", s.RequestType, s.Request, s.Value, s.Index)
	switch {
	case err != nil:
		r.request(byte(s.Index), "%s: % X -> %v", head, data, err)
	case s.ToHost():
		r.request(byte(s.Index), "%s -> % X", head, answer)
	default:
		r.request(byte(s.Index), "%s: % X", head, data)
	}
	return answer, err
}

// Out records messages of the host.
func (r *recorder) Out(ctx context.Context, endpoint byte, data []byte) error {
	r.say(endpoint, data, "> %s", message(data))
	err := r.Function.Out(ctx, endpoint, data)
	if err != nil {
		r.say(endpoint, data, "> refused: %v", err)
	}
	return err
}

// In records messages of the reader.
func (r *recorder) In(ctx context.Context, endpoint byte) ([]byte, error) {
	data, err := r.Function.In(ctx, endpoint)
	switch {
	case ctx.Err() != nil:
	case err != nil:
		r.say(endpoint, nil, "< %v", err)
	case len(data) > 0 && (data[0] == 0x50 || data[0] == 0x51):
		r.say(endpoint, nil, "! % X", data)
	default:
		r.say(endpoint, data, "< %s", message(data))
	}
	return data, err
}

// messageNames are those of CCID 1.1, tables 6.1-1 and 6.2-1.
var messageNames = map[byte]string{
	0x61: "SetParameters", 0x62: "PowerOn", 0x63: "PowerOff", 0x65: "GetSlotStatus", 0x69: "Secure", 0x6A: "T0APDU",
	0x6B: "Escape", 0x6C: "GetParameters", 0x6D: "ResetParameters", 0x6E: "Clock", 0x6F: "XfrBlock", 0x71: "Mechanical",
	0x72: "Abort", 0x73: "SetDataRateAndClockFrequency",
	0x80: "DataBlock", 0x81: "SlotStatus", 0x82: "Parameters", 0x83: "Escape", 0x84: "DataRateAndClockFrequency",
}

// message writes a CCID message without its sequence number and length, which follow from the rest.
func message(b []byte) string {
	const header = 10
	if len(b) < header || int(binary.LittleEndian.Uint32(b[1:])) != len(b)-header || messageNames[b[0]] == "" {
		return fmt.Sprintf("% X", b)
	}
	text := fmt.Sprintf("%s slot %d, % X", messageNames[b[0]], b[5], b[7:header])
	if len(b) > header {
		text += fmt.Sprintf(": % X", b[header:])
	}
	return text
}
