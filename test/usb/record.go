package usb

import (
	"context"
	"encoding/binary"
	"fmt"
	"strings"
	"sync"

	"pam_pkcs11/test/usb/device"
)

// recorder stands between a bus and a reader and writes down what they say to each other.
type recorder struct {
	device.Function
	mu    sync.Mutex
	lines []string
}

// record puts a recorder before a function.
func (r *recorder) record(f device.Function) device.Function {
	r.Function = f
	return r
}

// take gives what was said so far, and begins anew.
func (r *recorder) take() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	lines := r.lines
	r.lines = nil
	return lines
}

func (r *recorder) write(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lines = append(r.lines, fmt.Sprintf(format, args...))
}

// Control records requests, but for those of USB itself.
func (r *recorder) Control(ctx context.Context, s device.Setup, data []byte) ([]byte, error) {
	answer, err := r.Function.Control(ctx, s, data)
	switch {
	case err != nil:
		r.write("control %02X %02X value %04X index %04X: % X -> %v", s.RequestType, s.Request, s.Value, s.Index, data, err)
	case s.ToHost():
		r.write("control %02X %02X value %04X index %04X -> % X", s.RequestType, s.Request, s.Value, s.Index, answer)
	default:
		r.write("control %02X %02X value %04X index %04X: % X", s.RequestType, s.Request, s.Value, s.Index, data)
	}
	return answer, err
}

// Out records messages of the host.
func (r *recorder) Out(ctx context.Context, endpoint byte, data []byte) error {
	r.write("> %s", message(data))
	err := r.Function.Out(ctx, endpoint, data)
	if err != nil {
		r.write("> refused: %v", err)
	}
	return err
}

// In records messages of the reader.
func (r *recorder) In(ctx context.Context, endpoint byte) ([]byte, error) {
	data, err := r.Function.In(ctx, endpoint)
	switch {
	case ctx.Err() != nil:
	case err != nil:
		r.write("< %v", err)
	case len(data) > 0 && (data[0] == 0x50 || data[0] == 0x51):
		r.write("! % X", data)
	default:
		r.write("< %s", message(data))
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

// withoutPolls leaves out the questions whether a card is there, and the notices: when they come is a matter of time.
func withoutPolls(lines []string) []string {
	var kept []string
	for _, line := range lines {
		if !strings.HasPrefix(line, "> GetSlotStatus") && !strings.HasPrefix(line, "< SlotStatus") && !strings.HasPrefix(line, "!") {
			kept = append(kept, line)
		}
	}
	return kept
}
