package wire

import (
	"bytes"
	"fmt"
	"os"
	"reflect"
	"regexp"
	"strings"
	"testing"
)

// messages are pcsc-lite's structures and ours.
var messages = map[string]any{
	"rxHeader":                 Header{},
	"version_struct":           VersionMessage{},
	"establish_struct":         EstablishMessage{},
	"release_struct":           ContextMessage{},
	"connect_struct":           ConnectMessage{},
	"reconnect_struct":         ReconnectMessage{},
	"disconnect_struct":        DispositionMessage{},
	"begin_struct":             HandleMessage{},
	"transmit_struct":          TransmitMessage{},
	"control_struct":           ControlMessage{},
	"getset_struct":            AttribMessage{},
	"wait_reader_state_change": WaitMessage{},
	"get_reader_events":        ReaderEventsMessage{},
	"pubReaderStatesList":      ReaderStateMessage{},
	"readers_state_size":       SizeMessage{},
}

// TestLayout: every field is where pcsc-lite's compiler puts it, and nothing lies between fields.
func TestLayout(t *testing.T) {
	golden, err := os.ReadFile("testdata/layout.txt")
	if err != nil {
		t.Fatal(err)
	}
	next := map[string]int{} // number of the next field
	for line := range strings.Lines(string(golden)) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		var structure, field string
		var offset, size uintptr
		if _, err := fmt.Sscan(line, &structure, &field, &offset, &size); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		m, known := messages[structure]
		if !known {
			t.Errorf("%s is not one of ours", structure)
			continue
		}

		ours, n := reflect.TypeOf(m), next[structure]
		next[structure]++
		switch {
		case field == "-": // the end
			if n != ours.NumField() || ours.Size() != offset {
				t.Errorf("%v has %d fields and %d bytes, want %d and %d", ours, ours.NumField(), ours.Size(), n, offset)
			}
		case n >= ours.NumField():
			t.Errorf("%v has no field for %s", ours, field)
		default:
			if f := ours.Field(n); f.Offset != offset || f.Type.Size() != size {
				t.Errorf("%v.%s: %d bytes at %d, but %s has %d at %d", ours, f.Name, f.Type.Size(), f.Offset, field, size, offset)
			}
		}
	}
	if len(next) != len(messages) {
		t.Errorf("%d structures of %d have golden numbers", len(next), len(messages))
	}
}

// TestLimits: the lengths are those of the header that is installed.
func TestLimits(t *testing.T) {
	const header = "/usr/include/PCSC/pcsclite.h"
	text, err := os.ReadFile(header)
	if err != nil {
		t.Fatal("install the Debian package libpcsclite-dev: ", err)
	}
	for name, ours := range map[string]int{
		"MAX_READERNAME":  MaxReaderName,
		"MAX_ATR_SIZE":    MaxATR,
		"MAX_BUFFER_SIZE": MaxAttribute,
	} {
		found := regexp.MustCompile(`#define\s+` + name + `\s+(\d+)`).FindSubmatch(text)
		if found == nil || string(found[1]) != fmt.Sprint(ours) {
			t.Errorf("%s is %d, but %q in %s", name, ours, found, header)
		}
	}
}

// TestCodec: what is decoded is what was appended, in its size and no other.
func TestCodec(t *testing.T) {
	m := ConnectMessage{Context: 1, Mode: 2, Protocols: 3, Handle: 4, Active: 5, Result: 0x80100001}
	copy(m.Reader[:], "R")
	b := Append([]byte("before"), &m)[len("before"):]
	if len(b) != Size[ConnectMessage]() {
		t.Fatalf("%d bytes", len(b))
	}
	var again ConnectMessage
	if err := Decode(&again, b); err != nil || again != m {
		t.Errorf("%v, %v", again, err)
	}
	if Decode(&again, b[1:]) == nil || Decode(&again, append(b, 0)) == nil {
		t.Error("another size was decoded")
	}

	other := make([]byte, len(b)+1)
	Put(other, &m)
	if !bytes.Equal(other, append(b, 0)) {
		t.Errorf("put %X, want %X", other, b)
	}
	if got := Text(m.Reader[:]); got != "R" {
		t.Errorf("text %q", got)
	}
}

// TestDataLength: only TRANSMIT and CONTROL bring data, as much as they say.
func TestDataLength(t *testing.T) {
	transmit := Append(nil, &TransmitMessage{SendLength: 7})
	control := Append(nil, &ControlMessage{SendLength: 8})
	for _, row := range []struct {
		command Command
		body    []byte
		want    uint32
	}{
		{CmdTransmit, transmit, 7},
		{CmdControl, control, 8},
		{CmdStatus, transmit[:8], 0},
		{CmdTransmit, transmit[:8], 0},
	} {
		if got := DataLength(row.command, row.body); got != row.want {
			t.Errorf("command %X: %d, want %d", row.command, got, row.want)
		}
	}
}

// TestCodecAllocatesNothing: a message is read and written in the way of every exchange with a
// card.
func TestCodecAllocatesNothing(t *testing.T) {
	b := Append(nil, &TransmitMessage{SendLength: 7})
	out := make([]byte, 0, 64)
	if n := testing.AllocsPerRun(100, func() {
		var m TransmitMessage
		if Decode(&m, b) == nil {
			out = Append(out[:0], &m)
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
