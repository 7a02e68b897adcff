package ccid

import (
	"bytes"
	"encoding/hex"
	"slices"
	"testing"
)

// decode gives all events of a stream of bytes.
func decode(stream []byte) []serialEvent {
	var d serialDecoder
	var all []serialEvent
	for _, b := range stream {
		if e := d.take(b); e.kind != serialNothing {
			all = append(all, e)
		}
	}
	return all
}

func TestSerialFrames(t *testing.T) {
	message := AppendCommand(nil, XfrBlock{Data: []byte{0x00, 0xA4, 0x00, 0x00}}, 0, 7)
	frame := appendSerialFrame(nil, message)
	broken := slices.Clone(frame)
	broken[5] ^= 1
	tests := map[string]struct {
		stream []byte
		want   []serialEventKind
	}{
		"a frame":                     {frame, []serialEventKind{serialMessage}},
		"two":                         {slices.Concat(frame, frame), []serialEventKind{serialMessage, serialMessage}},
		"NAK":                         {[]byte{0x03, 0x15, 0x16}, []serialEventKind{serialNAK}},
		"NAK with a wrong check byte": {[]byte{0x03, 0x15, 0x17}, nil},
		"time, then a frame":          {slices.Concat([]byte{0x80, 0xA0}, frame), []serialEventKind{serialTime, serialTime, serialMessage}},
		"card out, card in, a frame":  {slices.Concat([]byte{0x50, 0x02, 0x50, 0x03}, frame), []serialEventKind{serialMoved, serialMoved, serialMessage}},
		"noise is no time":            {slices.Concat([]byte{0x00, 0x80, 0xFF}, frame, []byte{0x80}), []serialEventKind{serialMessage, serialTime}},
		"03 twice":                    {slices.Concat([]byte{0x03}, frame), []serialEventKind{serialMessage}},
		"a damaged frame, and a good": {slices.Concat(broken, frame), []serialEventKind{serialDamaged, serialMessage}},
		"a length beyond all":         {slices.Concat([]byte{3, 6, 0x80, 0xFF, 0xFF, 0xFF, 0xFF, 0, 0, 0, 0, 0}, frame), []serialEventKind{serialDamaged, serialMessage}},
		"half a frame":                {frame[:9], nil},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			var kinds []serialEventKind
			for _, e := range decode(tt.stream) {
				kinds = append(kinds, e.kind)
				if e.kind == serialMessage && !bytes.Equal(e.message, message) {
					t.Errorf("message % X", e.message)
				}
			}
			if !slices.Equal(kinds, tt.want) {
				t.Errorf("%v, want %v", kinds, tt.want)
			}
		})
	}
}

// TestSerialTables: the models' tables are in order, and no rate is above what the reader does.
func TestSerialTables(t *testing.T) {
	for i := range serialModels {
		m := &serialModels[i]
		if !slices.IsSorted(m.rates) || len(m.rates) > 0 && m.rates[len(m.rates)-1] > m.maxRate {
			t.Errorf("%s: rates %v", m.name, m.rates)
		}
	}
	if len(rates4) != 40 || len(rates48) != 53 {
		t.Errorf("%d and %d rates", len(rates4), len(rates48))
	}
}

// FuzzSerialFrames: whatever comes over the line, messages are framed ones of a length that CCID allows; and a frame
// after any noise that does not end in the middle of one is found.
func FuzzSerialFrames(f *testing.F) {
	for _, s := range []string{"", "031516", "5002", "80", "0306", "03068000000000000000000000", "0306ff"} {
		b, _ := hex.DecodeString(s)
		f.Add(b)
	}
	f.Add(appendSerialFrame(nil, AppendCommand(nil, Escape{[]byte{2}}, 0, 0)))
	f.Fuzz(func(t *testing.T, stream []byte) {
		var d serialDecoder
		for i, b := range stream {
			e := d.take(b)
			if e.kind != serialMessage {
				continue
			}
			framed := appendSerialFrame(nil, e.message)
			if len(e.message) < headerLength || len(e.message) > serialMaxMessage || !bytes.HasSuffix(stream[:i+1], framed) {
				t.Fatalf("message % X was not sent", e.message)
			}
		}
		message := AppendCommand(nil, GetSlotStatus{}, 0, 1)
		if d.state == betweenFrames {
			var last serialEvent
			for _, b := range appendSerialFrame(nil, message) {
				last = d.take(b)
			}
			if last.kind != serialMessage || !bytes.Equal(last.message, message) {
				t.Fatal("a frame after noise is not found")
			}
		}
	})
}
