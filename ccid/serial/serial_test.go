package serial_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"pam_pkcs11/ccid"
	"pam_pkcs11/ccid/ccidtest"
	"pam_pkcs11/ccid/device"
	"pam_pkcs11/ccid/internal/readertest"
	"pam_pkcs11/ccid/plan"
	"pam_pkcs11/ccid/serial"
)

// serialReader is a simulated reader at a pseudo-terminal.
type serialReader struct {
	*ccidtest.Terminal
	line   *ccidtest.SerialLine
	device *ccidtest.Device
}

// newSerialReader plays a model; change may set its faults before it is played.
func newSerialReader(t *testing.T, model string, change func(*serialReader)) *serialReader {
	t.Helper()
	slots := map[string]int{"GemCorePOSPro": 5, "GemCoreSIMPro": 2, "GemCoreSIMPro2": 2, "SEC1210UR2": 2, "SEC1210": 2}
	features := device.Feature(0x10230)
	if model == "SEC1210UR2" || model == "SEC1210URT" || model == "SEC1210" {
		features = 0x100B2
	}
	terminal, err := ccidtest.NewTerminal()
	if err != nil {
		t.Fatal(err)
	}
	device := ccidtest.SerialReader(max(slots[model], 1), features, "GemTwin-V2.00-SIM")
	r := &serialReader{terminal, &ccidtest.SerialLine{Device: device}, device}
	r.line.Echo = model == "" || model == "GemPCTwin" || model == "GemPCPinPad"
	if change != nil {
		change(r)
	}
	wait := terminal.Serve(r.line)
	t.Cleanup(func() {
		terminal.Close()
		wait()
	})
	return r
}

func openSerial(t *testing.T, r *serialReader, model string) *ccid.Reader {
	t.Helper()
	reader, err := serial.Open(t.Context(), r.Name, model, plan.Options{}, readertest.Log(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { reader.Close() })
	return reader
}

// serialExchanges sends APDUs of all cases and sizes that fit the reader.
func serialExchanges(t *testing.T, s *ccid.Slot, protocol uint32, atr []byte) {
	t.Helper()
	got, err := s.PowerUp(t.Context())
	if err != nil || !bytes.Equal(got, atr) {
		t.Fatalf("ATR % X, %v", got, err)
	}
	if err := s.SetProtocol(t.Context(), protocol); err != nil {
		t.Fatal(err)
	}
	for _, n := range [][2]int{{0, 0}, {0, 1}, {0, 255}, {0, 256}, {1, 0}, {255, 0}, {255, 256}} {
		command := readertest.APDU(n[0], n[1])
		if protocol == readertest.T0 && n[0] > 0 && n[1] > 0 {
			continue // case 4 is two commands in T=0
		}
		reply, err := s.Transmit(t.Context(), protocol, command, nil)
		if want := ccidtest.Pattern(command); err != nil || !bytes.Equal(reply, want) {
			t.Errorf("%d bytes out, %d in: %v, %d bytes of answer, want %d", n[0], n[1], err, len(reply), len(want))
		}
	}
}

func TestSerialModels(t *testing.T) {
	for _, model := range append(serial.Models(), "", "SEC1210") {
		t.Run("model "+model, func(t *testing.T) {
			t.Parallel()
			var fast atomic.Bool
			sim := newSerialReader(t, model, func(r *serialReader) {
				if model == "GemCoreSIMPro2" { // at 9600 until it is told otherwise
					r.line.Rate = func() bool { return r.Is9600() != fast.Load() }
					r.line.Interfere = func(_ int, command []byte) ([]byte, bool) {
						if bytes.HasSuffix(command, []byte{0x01, 0x10, 0x20}) {
							fast.Store(true)
						}
						return nil, false
					}
				}
			})
			reader := openSerial(t, sim, model)
			if !sim.Is8N2() || sim.Is9600() {
				t.Error("the line is not at 115200 bit/s with 8 data bits, no parity and 2 stop bits")
			}
			for i, s := range reader.Slots() {
				sim.device.Insert(0, i, &ccidtest.PatternCard{Bytes: readertest.ATRBoth})
				for _, protocol := range []uint32{readertest.T0, readertest.T1} {
					serialExchanges(t, s, protocol, readertest.ATRBoth)
				}
			}
			if n := sim.device.Counts().Violations; n != 0 {
				t.Errorf("%d violations", n)
			}
		})
	}
}

func TestSerialPresence(t *testing.T) {
	sim := newSerialReader(t, "", nil)
	s := openSerial(t, sim, "").Slots()[0]
	for _, want := range []bool{false, true, false} {
		if want {
			sim.device.Insert(0, 0, &ccidtest.PatternCard{Bytes: readertest.ATRT0})
		} else {
			sim.device.Remove(0, 0)
		}
		if got, err := s.Present(t.Context()); got != want || err != nil {
			t.Errorf("present %v, %v, want %v", got, err, want)
		}
	}
	if s.Events() != nil {
		t.Error("a serial reader tells of movements")
	}
}

// TestSerialReaderMisbehaves: what readers do on the line, in the middle of a dialogue that must go on.
func TestSerialReaderMisbehaves(t *testing.T) {
	tests := map[string]struct {
		change func(r *serialReader)
	}{
		"asks for the command again": {func(r *serialReader) {
			last := -1
			r.line.Interfere = func(n int, _ []byte) ([]byte, bool) {
				if lost := n%2 == 0 && n > last; lost {
					last = n
					return []byte{0x03, 0x15, 0x16}, true
				}
				return nil, false
			}
		}},
		"asks for time": {func(r *serialReader) {
			r.line.Interfere = func(int, []byte) ([]byte, bool) { return []byte{0x80, 0xFF}, false }
		}},
		"tells of movements between frames": {func(r *serialReader) {
			r.line.Interfere = func(int, []byte) ([]byte, bool) { return []byte{0x50, 0x02, 0x50, 0x03}, false }
		}},
		"sends noise between frames": {func(r *serialReader) {
			r.line.Interfere = func(int, []byte) ([]byte, bool) { return []byte{0x00, 0xFE, 0x03, 0x00, 0x50, 0x55, 0x03}, false }
		}},
		"echoes though its model does not": {func(r *serialReader) { r.line.Echo = !r.line.Echo }},
		"sends an answer twice": {func(r *serialReader) {
			r.line.Spoil = func(_ int, frame []byte) []byte { return slices.Concat(frame, frame) }
		}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			sim := newSerialReader(t, "", tt.change)
			sim.device.Insert(0, 0, &ccidtest.PatternCard{Bytes: readertest.ATRT1})
			serialExchanges(t, openSerial(t, sim, "").Slots()[0], readertest.T1, readertest.ATRT1)
		})
	}
}

// TestSerialAnswerIsDamaged: one answer is lost, the next command has its own.
func TestSerialAnswerIsDamaged(t *testing.T) {
	var spoil atomic.Bool
	sim := newSerialReader(t, "", func(r *serialReader) {
		r.line.Spoil = func(_ int, frame []byte) []byte {
			if spoil.CompareAndSwap(true, false) {
				frame[len(frame)-1] ^= 0x40
			}
			return frame
		}
	})
	sim.device.Insert(0, 0, &ccidtest.PatternCard{Bytes: readertest.ATRT0})
	s := openSerial(t, sim, "").Slots()[0]
	readertest.Ready(t, s, readertest.T0)
	spoil.Store(true)
	if reply, err := s.Transmit(t.Context(), readertest.T0, readertest.APDU(0, 16), nil); err == nil {
		t.Errorf("an answer from a damaged frame: % X", reply)
	}
	readertest.Ready(t, s, readertest.T0)
	command := readertest.APDU(0, 17)
	if reply, err := s.Transmit(t.Context(), readertest.T0, command, nil); err != nil || !bytes.Equal(reply, ccidtest.Pattern(command)) {
		t.Errorf("after it: % X, %v", reply, err)
	}
}

func TestSerialReaderThatIsNotThere(t *testing.T) {
	terminal, err := ccidtest.NewTerminal()
	if err != nil {
		t.Fatal(err)
	}
	defer terminal.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := serial.Open(ctx, terminal.Name, "", plan.Options{}, nil); err == nil {
		t.Error("a reader where nothing answers")
	}
	if _, err := serial.Open(t.Context(), "/dev/null", "", plan.Options{}, nil); err == nil {
		t.Error("/dev/null is a serial line")
	}
	for _, text := range []string{"", "ttyS0", "/dev/ttyS0:Unknown", ":GemPCTwin"} {
		if _, _, err := serial.Parse(text); err == nil {
			t.Errorf("%q is taken", text)
		}
	}
	if device, model, err := serial.Parse("/dev/ttyS0:gempcpinpad"); device != "/dev/ttyS0" || model != "gempcpinpad" || err != nil {
		t.Error(device, model, err)
	}
}

// TestSerialDriver: the reader is found when it comes, lost when its line goes, and found again.
func TestSerialDriver(t *testing.T) {
	sim := newSerialReader(t, "", nil)
	happened := make(chan string, 16)
	ctx, cancel := context.WithCancel(t.Context())
	driver := &serial.Driver{Device: sim.Name, Log: readertest.Log(t), Retry: 10 * time.Millisecond}
	ended := make(chan error, 1)
	go func() {
		ended <- driver.Run(ctx,
			func(id, product, _, _ string, slots []*ccid.Slot) {
				happened <- fmt.Sprint("attach ", id, product, len(slots))
			},
			func(id string) { happened <- "detach " + id },
			func() { happened <- "settled" })
	}()
	expect := func(want string) {
		t.Helper()
		select {
		case got := <-happened:
			if got != want {
				t.Fatalf("%q, want %q", got, want)
			}
		case <-time.After(time.Minute):
			t.Fatalf("no %q", want)
		}
	}
	expect(fmt.Sprint("attach ", sim.Name, "Gemalto GemPC Twin (serial)", 1))
	expect("settled")
	sim.Close()
	expect("detach " + sim.Name)
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}
