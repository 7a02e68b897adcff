package serial

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"pam_pkcs11/ccid/ccidtest"
	"pam_pkcs11/ccid/device"
	"pam_pkcs11/ccid/message"
	"pam_pkcs11/ccid/plan"
	"pam_pkcs11/ccid/serial"
)

// library is Debian's driver of serial readers.
const library = "/usr/lib/pcsc/drivers/serial/libccidtwin.so"

// patience is how long a whole dialogue may take on a loaded machine.
const patience = 2 * time.Minute

// host is the program that uses the library, built once; see ifdhost.c.
var host = sync.OnceValues(func() (string, error) {
	flags, err := exec.Command("pkg-config", "--cflags", "libpcsclite").Output()
	if err != nil {
		return "", fmt.Errorf("the package libpcsclite-dev is missing: %w", err)
	}
	program := filepath.Join(buildDir, "ifdhost")
	args := slices.Concat([]string{"-O2", "-rdynamic", "-o", program, "ifdhost/ifdhost.c"}, strings.Fields(string(flags)), []string{"-ldl"})
	if out, err := exec.Command("gcc", args...).CombinedOutput(); err != nil {
		return "", fmt.Errorf("building ifdhost: %w: %s", err, out)
	}
	return program, nil
})

var buildDir string

func TestMain(m *testing.M) {
	os.Exit(func() int {
		var err error
		if buildDir, err = os.MkdirTemp("", "pam_pkcs11-serial-"); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(buildDir)
		return m.Run()
	}())
}

// Cards that offer one protocol each, and a fast one that has to be asked by PPS.
var (
	atrT0   = []byte{0x3B, 0x00}
	atrT1   = complete(0x3B, 0x80, 0x81, 0x31, 0xFE, 0x45)
	atrFast = complete(0x3B, 0x90, 0x95, 0x81, 0x31, 0xFE, 0x45)
)

func complete(b ...byte) []byte {
	var check byte
	for _, x := range b[1:] {
		check ^= x
	}
	return append(b, check)
}

// reader is what a test knows of a model.
type reader struct {
	model    string
	slots    int
	features device.Feature
	echo     bool
	firmware string
	// second says that our driver gives the second slot the rates of the first. libccidtwin holds every second slot to
	// 125000 bit/s, which only GemCore POS Pro and SIM Pro need.
	second bool
}

var readers = []reader{
	{"GemPCTwin", 1, 0x10230, true, "GemTwin-V2.00-GM02", false},
	{"GemCorePOSPro", 5, 0x10230, false, "GemCore POS Pro", false},
	{"GemCoreSIMPro", 2, 0x10230, false, "GemCore SIM Pro", false},
	{"GemCoreSIMPro2", 2, 0x10230, false, "GemCore SIM Pro 2", true},
	{"SEC1210", 2, 0x100B2, false, "SEC1210", true},
}

// play makes a simulated reader with a card in a slot, and returns what it has been told, without what differs for its
// own reasons: sequence numbers, and commands other than those that reach the card.
func (r reader) play(t *testing.T, slot int, atr []byte, drive func(device string)) (told []string) {
	t.Helper()
	terminal, err := ccidtest.NewTerminal()
	if err != nil {
		t.Fatal(err)
	}
	device := ccidtest.SerialReader(r.slots, r.features, r.firmware)
	device.Insert(0, slot, &ccidtest.PatternCard{Bytes: atr})
	line := &ccidtest.SerialLine{Device: device, Echo: r.echo}
	wait := terminal.Serve(line)
	drive(terminal.Name)
	if err := terminal.Close(); err != nil {
		t.Error(err)
	}
	wait()
	if n := device.Counts().Violations; n != 0 {
		t.Errorf("%d messages that the reader must not get", n)
	}
	for _, c := range line.Commands() {
		switch message.Type(c[0]) {
		case message.TypePowerOn, message.TypeSetParameters, message.TypeXfrBlock:
			c[6] = 0
			told = append(told, fmt.Sprintf("% X", c))
		}
	}
	return told
}

// theirs drives a reader by libccidtwin, in a process of its own. It answers the ATR, then the answers.
func theirs(t *testing.T, device, model string, slot int, protocol uint32, commands [][]byte) (answers []string, err error) {
	t.Helper()
	program, err := host()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(library); err != nil {
		t.Fatal("the package libccid is missing: ", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, library, device+":"+model, fmt.Sprint(protocol), fmt.Sprint(slot))
	var in, failure bytes.Buffer
	for _, c := range commands {
		fmt.Fprintf(&in, "%X\n", c)
	}
	cmd.Stdin, cmd.Stderr = &in, &failure
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("%w: %s%s", err, out, failure.String())
	}
	return strings.Fields(string(out)), nil
}

// theirTries is how often libccidtwin may try: it gives a reader up that does not answer within a second or two, which on
// a loaded machine is the simulation's fault.
const theirTries = 5

// ours does the same with our driver.
func ours(t *testing.T, device, model string, slot int, protocol uint32, commands [][]byte) (answers []string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	r, err := serial.Open(ctx, device, model, plan.Options{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	s := r.Slots()[slot]
	atr, err := s.PowerUp(ctx)
	if err != nil {
		t.Fatal(err)
	}
	answers = append(answers, strings.ToUpper(hex.EncodeToString(atr)))
	if err := s.SetProtocol(ctx, protocol); err != nil {
		t.Fatal(err)
	}
	for _, c := range commands {
		reply, err := s.Transmit(ctx, protocol, c, nil)
		if err != nil {
			t.Fatalf("% X: %v", c, err)
		}
		answers = append(answers, strings.ToUpper(hex.EncodeToString(reply)))
	}
	return answers
}

// commands are APDUs of all cases and sizes; in T=0 those that one TPDU carries.
func commands(protocol uint32) [][]byte {
	long := func(header []byte, n int) []byte {
		return append(append(header, byte(n)), bytes.Repeat([]byte{0x5A}, n)...)
	}
	all := [][]byte{
		{0x80, 0x00, 0x00, 0x00, 0x00}, {0x80, 0x04, 0x00, 0x01, 0x01}, {0x80, 0x04, 0x01, 0x00, 0x00},
		long([]byte{0x80, 0x02, 0x00, 0x00}, 1), long([]byte{0x80, 0x02, 0x00, 0x00}, 255),
	}
	if protocol == 2 {
		all = append(all, []byte{0x80, 0x00, 0x00, 0x00}, append(long([]byte{0x80, 0x06, 0x01, 0x00}, 255), 0x00))
	}
	return all
}

// TestBothDriversSayTheSame: the same answers, by the same messages. GemPC PinPad is left out: libccid's own test of it is to
// load texts by an escape, whose echo of 175 bytes it then does not understand itself.
func TestBothDriversSayTheSame(t *testing.T) {
	for _, r := range readers {
		for _, card := range []struct {
			name     string
			atr      []byte
			protocol uint32
		}{{"T=0", atrT0, 1}, {"T=1", atrT1, 2}, {"T=1 fast", atrFast, 2}} {
			for slot := range min(r.slots, 2) {
				t.Run(fmt.Sprintf("%s %s slot %d", r.model, card.name, slot), func(t *testing.T) {
					t.Parallel()
					var a, b, theirTold []string
					err := errors.New("not tried")
					for n := 0; n < theirTries && err != nil; n++ {
						theirTold = r.play(t, slot, card.atr, func(device string) {
							a, err = theirs(t, device, r.model, slot, card.protocol, commands(card.protocol))
						})
					}
					if err != nil {
						t.Fatal(err)
					}
					ourTold := r.play(t, slot, card.atr, func(device string) {
						b = ours(t, device, r.model, slot, card.protocol, commands(card.protocol))
					})
					if diff := cmp.Diff(a, b); diff != "" {
						t.Error("answers, libccidtwin and ours:", diff)
					}
					same := !r.second || slot == 0 || !bytes.Equal(card.atr, atrFast)
					if diff := cmp.Diff(theirTold, ourTold); same != (diff == "") {
						t.Error("messages, libccidtwin and ours:", diff)
					}
				})
			}
		}
	}
}
