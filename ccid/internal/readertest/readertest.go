// Package readertest has what the tests of the driver's packages share: simulated readers of each
// kind, and the steps of a dialogue with a card in one.
package readertest

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"pam_pkcs11/ccid"
	"pam_pkcs11/ccid/ccidtest"
	"pam_pkcs11/ccid/device"
	"pam_pkcs11/ccid/plan"
)

// Protocols as PC/SC numbers them.
const (
	T0 = 1
	T1 = 2
)

// ATR completes an ATR with its check byte.
func ATR(b ...byte) []byte {
	var check byte
	for _, x := range b[1:] {
		check ^= x
	}
	return append(b, check)
}

// ATRs of cards that offer one protocol or both, at 4 MHz 172043 bit/s.
var (
	ATRT0   = []byte{0x3B, 0x10, 0x96}
	ATRT1   = ATR(0x3B, 0x90, 0x96, 0x81, 0x31, 0xFE, 0x45)
	ATRBoth = ATR(0x3B, 0x90, 0x96, 0x80, 0x31, 0xFE, 0x45)
)

// Features of readers of TPDU level and of extended APDUs.
const (
	TPDU     = device.FeatureTPDU | 0xBA
	Extended = device.FeatureExtendedAPDU | 0xBE
)

// Log writes to the test's log.
func Log(t testing.TB) *slog.Logger {
	return slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// Profile is a reader with one interface.
func Profile(d device.ClassDescriptor) ccidtest.Profile {
	return ccidtest.Profile{
		Info: device.Info{
			Vendor:       0x1234,
			Product:      0x5678,
			Release:      0x0100,
			Manufacturer: "ACME",
			Name:         "Reader",
		},
		Interfaces: []ccidtest.Interface{{Interrupt: true, CCID: d}},
	}
}

// Descriptor is that of a full-speed reader with these features.
func Descriptor(f device.Feature) device.ClassDescriptor {
	return device.ClassDescriptor{
		Release:          0x0110,
		VoltageSupport:   7,
		Protocols:        3,
		DefaultClock:     4000,
		MaximumClock:     4000,
		DataRate:         10752,
		MaxDataRate:      344086,
		MaxIFSD:          254,
		Features:         f,
		MaxMessageLength: 271,
		MaxBusySlots:     1,
	}
}

// InterfaceOf parses the descriptors of a device as the driver does.
func InterfaceOf(t testing.TB, d *ccidtest.Device, number byte) *device.Interface {
	t.Helper()
	all, err := device.ParseConfigurations(d.Configuration())
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

// Open opens an interface of a device.
func Open(t testing.TB, d *ccidtest.Device, number byte, o plan.Options) *ccid.Reader {
	t.Helper()
	in := InterfaceOf(t, d, number)
	r, err := ccid.Open(t.Context(), d.Transport(number), d.Info(), in, o, Log(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r
}

// Ready powers the card up under a protocol.
func Ready(t testing.TB, s *ccid.Slot, protocol uint32) {
	t.Helper()
	if _, err := s.PowerUp(t.Context()); err != nil {
		t.Fatalf("PowerUp: %v", err)
	}
	if err := s.SetProtocol(t.Context(), protocol); err != nil {
		t.Fatalf("SetProtocol %d: %v", protocol, err)
	}
}

// APDU makes a command for a PatternCard: nc bytes of data, ne bytes wanted.
func APDU(nc, ne int) []byte {
	// INS and P1-P2 tell the card what the fields say: see ccidtest.PatternCard.
	ins := byte(0)
	if nc > 0 {
		ins |= 2
	}
	if ne > 0 {
		ins |= 4
	}

	c := []byte{0x80, ins, byte(ne >> 8), byte(ne)}
	// Data that differs by place and by length, so that a shifted or cut piece is noticed.
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

// application exchanges an APDU as applications do: under T=0 the Le of a case 4 command is left
// out, 61xx and 6Cxx are followed.
func application(
	ctx context.Context, s *ccid.Slot, protocol uint32, command []byte,
) ([]byte, error) {
	if protocol == T1 {
		return s.Transmit(ctx, protocol, command, nil)
	}

	if len(command) > 5 && len(command) == 6+int(command[4]) {
		command = command[:len(command)-1]
	}

	// More rounds than the longest answer has pieces: a card that never ends fails the test.
	var all []byte
	for range 600 {
		answer, err := s.Transmit(ctx, protocol, command, nil)
		if err != nil || len(answer) < 2 {
			return answer, err
		}

		n := len(answer) - 2
		sw := answer[n:]
		all = append(all, answer[:n]...)
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

// Exchange checks the answer to one command of a PatternCard.
func Exchange(t testing.TB, s *ccid.Slot, protocol uint32, command []byte) {
	t.Helper()
	got, err := application(t.Context(), s, protocol, command)
	if err != nil {
		t.Fatalf("command of %d bytes (% X...): %v",
			len(command), command[:min(len(command), 7)], err)
	}
	if want := ccidtest.Pattern(command); !bytes.Equal(got, want) {
		t.Fatalf("command of %d bytes (% X...): answer of %d bytes, want %d",
			len(command), command[:min(len(command), 7)], len(got), len(want))
	}
}

// Events checks that these events come next, and no other soon after.
func Events(t testing.TB, s *ccid.Slot, want ...bool) {
	t.Helper()
	for _, b := range want {
		select {
		case got := <-s.Events():
			if got != b {
				t.Fatalf("event %v, want %v", got, b)
			}
		case <-time.After(10 * time.Second):
			t.Fatalf("no event, want %v", b)
		}
	}

	select {
	case got := <-s.Events():
		t.Fatalf("event %v after all", got)
	case <-time.After(time.Second):
	}
}

// Code is the number of the IFD handler API of an error, 0 when it has none.
func Code(err error) int {
	var coded interface{ IFDCode() int }
	if errors.As(err, &coded) {
		return coded.IFDCode()
	}
	return 0
}

// Models are readers of each kind.
func Models() map[string]ccidtest.Profile {
	all := map[string]ccidtest.Profile{
		"TPDU, host does all":     Profile(Descriptor(device.FeatureTPDU | 0x30)),
		"TPDU, reader does PPS":   Profile(Descriptor(device.FeatureTPDU | 0xBA)),
		"TPDU, reader does all":   Profile(Descriptor(device.FeatureTPDU | device.FeatureIFSD | 0x7A)),
		"short APDU":              Profile(Descriptor(device.FeatureShortAPDU | 0xBA)),
		"short APDU, 5 V":         Profile(Descriptor(device.FeatureShortAPDU | 0xB2)),
		"extended APDU":           Profile(Descriptor(device.FeatureExtendedAPDU | 0xBE)),
		"character":               Profile(Descriptor(0x30)),
		"character, reads in two": Profile(Descriptor(0x30)),
	}

	// The slice is copied: the entry that the profile is from has the same array.
	big := all["extended APDU"]
	big.Interfaces = []ccidtest.Interface{big.Interfaces[0]}
	big.Interfaces[0].CCID.MaxMessageLength = 65554
	all["extended APDU at once"] = big

	small := Profile(Descriptor(device.FeatureTPDU | 0x30))
	small.Interfaces[0].CCID.MaxMessageLength = 64
	all["TPDU, 64 bytes"] = small

	// The numbers of O2Micro's Oz776, so that its quirks apply.
	o2 := all["character, reads in two"]
	o2.Info.Vendor = 0x0B97
	o2.Info.Product = 0x7762
	o2.Interfaces[0].BehindEndpoint = true
	all["character, reads in two"] = o2

	// ICCD has no interrupt endpoint, and one protocol.
	iccdB := Profile(Descriptor(device.FeatureShortAPDU | 0x840))
	iccdB.Interfaces[0].Protocol = device.ProtocolICCDB
	iccdB.Interfaces[0].Interrupt = false
	iccdB.Interfaces[0].CCID.Protocols = 2
	all["ICCD-B"] = iccdB

	iccdA := Profile(Descriptor(0x840))
	iccdA.Interfaces[0].Protocol = device.ProtocolICCDA
	iccdA.Interfaces[0].Interrupt = false
	iccdA.Interfaces[0].CCID.Protocols = 1
	all["ICCD-A"] = iccdA
	return all
}
