package iso7816

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func TestCommand(t *testing.T) {
	data := unhex("A0000003 08")
	long := bytes.Repeat([]byte{0x5A}, 256)
	tests := map[string]struct {
		command  Command
		kind     int
		extended bool
		want     string
	}{
		"case 1":               {Command{CLA: 0x80, INS: 0x01, P1: 2, P2: 3}, 1, false, "80010203"},
		"case 1 is never long": {Command{INS: 0x01, Extended: true}, 1, false, "00010000"},
		"case 2":               {Command{INS: 0xC0, Ne: 16}, 2, false, "00C0000010"},
		"case 2, 256":          {Command{INS: 0xC0, Ne: 256}, 2, false, "00C0000000"},
		"case 2, 257":          {Command{INS: 0xC0, Ne: 257}, 2, true, "00C00000 000101"},
		"case 2, 65536":        {Command{INS: 0xC0, Ne: 65536}, 2, true, "00C00000 000000"},
		"case 2, asked long":   {Command{INS: 0xC0, Ne: 1, Extended: true}, 2, true, "00C00000 000001"},
		"case 3":               {Command{INS: 0xA4, P1: 4, Data: data}, 3, false, "00A40400 05 A000000308"},
		"case 3, 256":          {Command{INS: 0xA4, Data: long}, 3, true, "00A40000 000100" + strings.Repeat("5A", 256)},
		"case 4":               {Command{INS: 0xA4, P1: 4, Data: data, Ne: 256}, 4, false, "00A40400 05 A000000308 00"},
		"case 4, Le too long":  {Command{INS: 0xA4, Data: data, Ne: 300}, 4, true, "00A40000 000005 A000000308 012C"},
		"case 4, all of it":    {Command{INS: 0xA4, Data: long, Ne: 65536}, 4, true, "00A40000 000100" + strings.Repeat("5A", 256) + "0000"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := tt.command.Marshal()
			if err != nil || !bytes.Equal(got, unhex(tt.want)) {
				t.Fatalf("%x, %v", got, err)
			}
			if tt.command.Case() != tt.kind || tt.command.IsExtended() != tt.extended {
				t.Errorf("case %d, extended %v", tt.command.Case(), tt.command.IsExtended())
			}
			back, err := ParseCommand(got)
			tt.command.Extended = tt.extended
			if diff := cmp.Diff(tt.command, back); err != nil || diff != "" {
				t.Error(err, diff)
			}
		})
	}
}

func TestCommandsThatAreNone(t *testing.T) {
	for _, s := range []string{
		"", "00A404", "00A40400 05 A0", "00A40400 01 A00000", "00A40400 0000", "00A40400 000000 00", "00A40400 000002 A0",
		"00A40400 000001 A0 00", "00A40400 000001 A0 0000 00",
	} {
		if c, err := ParseCommand(unhex(s)); !errors.Is(err, ErrAPDU) {
			t.Errorf("%s: %+v, %v", s, c, err)
		}
	}
	for _, c := range []Command{{Ne: -1}, {Ne: 65537}, {Data: make([]byte, 65536)}} {
		if _, err := c.Marshal(); !errors.Is(err, ErrAPDU) {
			t.Errorf("%d bytes, Ne %d: %v", len(c.Data), c.Ne, err)
		}
	}
	for _, s := range []string{"", "90"} {
		if _, _, err := ParseResponse(unhex(s)); !errors.Is(err, ErrAPDU) {
			t.Errorf("response %q: %v", s, err)
		}
	}
}

func TestEveryCommandComesBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := Command{
			CLA: rapid.Byte().Draw(t, "CLA"), INS: rapid.Byte().Draw(t, "INS"),
			P1: rapid.Byte().Draw(t, "P1"), P2: rapid.Byte().Draw(t, "P2"),
			Ne:       rapid.OneOf(rapid.Just(0), rapid.IntRange(0, 300), rapid.IntRange(0, 65536)).Draw(t, "Ne"),
			Extended: rapid.Bool().Draw(t, "extended"),
		}
		if n := rapid.OneOf(rapid.Just(0), rapid.IntRange(1, 300), rapid.IntRange(1, 65535)).Draw(t, "Nc"); n > 0 {
			c.Data = bytes.Repeat([]byte{rapid.Byte().Draw(t, "data")}, n)
		}
		b, err := c.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		back, err := ParseCommand(b)
		c.Extended = c.IsExtended()
		if diff := cmp.Diff(c, back); err != nil || diff != "" {
			t.Fatal(err, diff)
		}
	})
}

// FuzzCommand: what is read as a command is written as the same bytes, or it is no command.
func FuzzCommand(f *testing.F) {
	for _, s := range []string{"", "00A40400", "00C0000000", "00A40400 05 A000000308 00", "00C00000 000000", "00A40000 000001 5A 0000"} {
		f.Add(unhex(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := ParseCommand(b)
		if err != nil {
			return
		}
		back, err := c.Marshal()
		if err != nil || !bytes.Equal(back, b) {
			t.Fatalf("%x comes back as %x, %v", b, back, err)
		}
	})
}

func TestStatus(t *testing.T) {
	tests := map[Status]string{
		0x9000: "9000 success", 0x6100: "6100 success, 256 bytes wait", 0x6C20: "6C20 wrong Le, 32 is right",
		0x63C2: "63C2 verification failed, 2 tries left", 0x6A82: "6A82 file or application not found",
		0x6A99: "6A99 wrong parameters", 0x6202: "6202 the card has a query of 2 bytes", 0x0000: "0000 not a status word",
		0x6000: "6000 not a status word", 0x9001: "9001 of the card's own meaning", 0x6B12: "6B12 wrong parameters P1-P2",
		0x6383: "6383 verification failed", 0xFFFF: "FFFF not a status word",
	}
	for sw, want := range tests {
		if sw.Error() != want {
			t.Errorf("%q, want %q", sw.Error(), want)
		}
		if ok := sw == 0x9000 || sw == 0x6100; sw.OK() != ok || (sw.Err() == nil) != ok {
			t.Errorf("%v: OK %v", sw, sw.OK())
		}
	}
	if n, ok := Status(0x63C5).Tries(); n != 5 || !ok || StatusTries(5) != 0x63C5 || StatusTries(99) != 0x63CF {
		t.Error("63Cx")
	}
	if _, ok := StatusOK.Tries(); ok {
		t.Error("9000 names no tries")
	}
	if n, ok := Status(0x6C00).RightLe(); n != 256 || !ok {
		t.Error("6C00")
	}
	data, sw, err := ParseResponse(AppendResponse(nil, []byte{1, 2}, 0x9000))
	if !bytes.Equal(data, []byte{1, 2}) || sw != StatusOK || err != nil {
		t.Error(data, sw, err)
	}
}

func TestHistorical(t *testing.T) {
	tests := map[string]struct {
		bytes string
		want  Historical
	}{
		"nothing": {"", Historical{}},
		"with a status at the end": {"00 31C1 73C00100 009000", Historical{
			Objects: []Compact{{3, unhex("C1")}, {7, unhex("C00100")}}, Status: unhex("009000"),
		}},
		"objects only":     {"80 31C1", Historical{Category: 0x80, Objects: []Compact{{3, unhex("C1")}}}},
		"an object cut":    {"80 31C1 7301", Historical{Category: 0x80, Objects: []Compact{{3, unhex("C1")}}, Rest: unhex("7301")}},
		"the maker's own":  {"4A434F50", Historical{Category: 0x4A, Rest: unhex("434F50")}},
		"no status at all": {"00 3101", Historical{Objects: []Compact{{3, unhex("01")}}}},
	}
	for name, tt := range tests {
		if diff := cmp.Diff(tt.want, ParseHistorical(unhex(tt.bytes))); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}
