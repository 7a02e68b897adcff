package ccid_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"pam_pkcs11/ccid"
	"pam_pkcs11/ccid/ccidtest"
	"pam_pkcs11/pcsc"
)

// The resource manager takes our slots as they are.
var _ pcsc.Slot = (*ccid.Slot)(nil)

// Protocols as PC/SC numbers them.
const (
	t0 = 1
	t1 = 2
)

// atr completes an ATR with its check byte.
func atr(b ...byte) []byte {
	var check byte
	for _, x := range b[1:] {
		check ^= x
	}
	return append(b, check)
}

// ATRs of cards that offer one protocol or both, at 4 MHz 172043 bit/s.
var (
	atrT0   = []byte{0x3B, 0x10, 0x96}
	atrT1   = atr(0x3B, 0x90, 0x96, 0x81, 0x31, 0xFE, 0x45)
	atrBoth = atr(0x3B, 0x90, 0x96, 0x80, 0x31, 0xFE, 0x45)
)

// testLog writes to the test's log.
func testLog(t testing.TB) *slog.Logger {
	return slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// profile is a reader of one interface.
func profile(d ccid.ClassDescriptor) ccidtest.Profile {
	return ccidtest.Profile{Info: ccid.DeviceInfo{Vendor: 0x1234, Product: 0x5678, Release: 0x0100, Manufacturer: "ACME", Name: "Reader"},
		Interfaces: []ccidtest.Interface{{Interrupt: true, CCID: d}}}
}

// descriptor is that of a reader of full speed with the features of a model.
func descriptor(f ccid.Feature) ccid.ClassDescriptor {
	return ccid.ClassDescriptor{Release: 0x0110, VoltageSupport: 7, Protocols: 3, DefaultClock: 4000, MaximumClock: 4000,
		DataRate: 10752, MaxDataRate: 344086, MaxIFSD: 254, Features: f, MaxMessageLength: 271, MaxBusySlots: 1}
}

// interfaceOf parses the descriptors of a device as the driver does.
func interfaceOf(t testing.TB, d *ccidtest.Device, number byte) *ccid.Interface {
	t.Helper()
	all, err := ccid.ParseConfigurations(d.Configuration())
	if err != nil {
		t.Fatal(err)
	}
	for i := range all[0].Interfaces {
		if all[0].Interfaces[i].Number == number {
			return &all[0].Interfaces[i]
		}
	}
	t.Fatalf("no interface %d", number)
	return nil
}

// open opens an interface of a device.
func open(t testing.TB, d *ccidtest.Device, number byte, o ccid.Options) *ccid.Reader {
	t.Helper()
	r, err := ccid.Open(t.Context(), d.Transport(number), d.Info(), interfaceOf(t, d, number), o, testLog(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r
}

// ready powers the card up under a protocol.
func ready(t testing.TB, s *ccid.Slot, protocol uint32) {
	t.Helper()
	if _, err := s.PowerUp(t.Context()); err != nil {
		t.Fatalf("PowerUp: %v", err)
	}
	if err := s.SetProtocol(t.Context(), protocol); err != nil {
		t.Fatalf("SetProtocol %d: %v", protocol, err)
	}
}

// apdu makes a command for a PatternCard: nc bytes of data, ne bytes wanted.
func apdu(nc, ne int) []byte {
	ins := byte(0)
	if nc > 0 {
		ins |= 2
	}
	if ne > 0 {
		ins |= 4
	}
	c := []byte{0x80, ins, byte(ne >> 8), byte(ne)}
	data := make([]byte, nc)
	for i := range data {
		data[i] = byte(i*7 + nc)
	}
	if nc <= 255 && ne <= 256 {
		if nc > 0 {
			c = append(append(c, byte(nc)), data...)
		}
		if ne > 0 {
			c = append(c, byte(ne))
		}
		return c
	}
	if nc > 0 {
		c = append(append(c, 0, byte(nc>>8), byte(nc)), data...)
	} else {
		c = append(c, 0)
	}
	if ne > 0 {
		c = binary.BigEndian.AppendUint16(c, uint16(ne))
	}
	return c
}

// application exchanges an APDU as applications do: under T=0 a case 4 command is cut, 61xx and 6Cxx are followed.
func application(ctx context.Context, s *ccid.Slot, protocol uint32, command []byte) ([]byte, error) {
	if protocol == t1 {
		return s.Transmit(ctx, protocol, command, nil)
	}
	if len(command) > 5 && len(command) == 6+int(command[4]) {
		command = command[:len(command)-1]
	}
	var all []byte
	for range 600 {
		answer, err := s.Transmit(ctx, protocol, command, nil)
		if err != nil || len(answer) < 2 {
			return answer, err
		}
		data, sw := answer[:len(answer)-2], answer[len(answer)-2:]
		all = append(all, data...)
		switch sw[0] {
		case 0x61:
			command = []byte{0, 0xC0, 0, 0, sw[1]}
		case 0x6C:
			command = append(bytes.Clone(command[:4]), sw[1])
		default:
			return append(all, sw...), nil
		}
	}
	return nil, fmt.Errorf("no end of 61xx")
}

// exchange checks the answer to one command of a PatternCard.
func exchange(t testing.TB, s *ccid.Slot, protocol uint32, command []byte) {
	t.Helper()
	got, err := application(t.Context(), s, protocol, command)
	if err != nil {
		t.Fatalf("command of %d bytes (% X...): %v", len(command), command[:min(len(command), 7)], err)
	}
	if want := ccidtest.Pattern(command); !bytes.Equal(got, want) {
		t.Fatalf("command of %d bytes (% X...): answer of %d bytes, want %d", len(command), command[:min(len(command), 7)], len(got), len(want))
	}
}

// sizes are lengths of short fields at which something changes: packets, IFSC, fields.
var sizes = []int{1, 2, 31, 32, 33, 53, 54, 55, 117, 118, 127, 128, 129, 182, 250, 251, 252, 253, 254, 255, 256}

// exchangeAll exchanges APDUs of all cases and sizes up to what the reader can do. extended: longer ones too.
func exchangeAll(t testing.TB, s *ccid.Slot, p *ccid.Plan, protocol uint32, extended bool) {
	t.Helper()
	largest := 255 // of Lc
	if p.Level == ccid.LevelShortAPDU || p.Level == ccid.LevelTPDU && protocol == t0 {
		largest = min(largest, p.MaxMessage-10-6)
	}
	exchange(t, s, protocol, apdu(0, 0))
	for _, n := range sizes {
		exchange(t, s, protocol, apdu(0, n))
		if n <= largest {
			exchange(t, s, protocol, apdu(n, 0))
			exchange(t, s, protocol, apdu(n, 1))
			exchange(t, s, protocol, apdu(n, 256))
		}
	}
	if !extended {
		return
	}
	for _, n := range []int{257, 511, 512, 1000, 4096, 65535} {
		exchange(t, s, protocol, apdu(0, n))
		exchange(t, s, protocol, apdu(n, 0))
		exchange(t, s, protocol, apdu(n, n))
	}
	exchange(t, s, protocol, apdu(65535, 65536))
}

// longest is more than any wait of the driver.
const longest = time.Hour
