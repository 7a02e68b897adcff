package serial

import (
	"bytes"
	"encoding/hex"
	"slices"
	"testing"

	"pam_pkcs11/ccid/message"
)

// decode gives all events of a stream of bytes.
func decode(stream []byte) []lineEvent {
	var d decoder
	var all []lineEvent
	for _, b := range stream {
		if e := d.take(b); e.kind != noEvent {
			all = append(all, e)
		}
	}
	return all
}

func TestSerialFrames(t *testing.T) {
	message := message.AppendCommand(nil, message.XfrBlock{Data: []byte{0x00, 0xA4, 0x00, 0x00}}, 0, 7)
	frame := appendFrame(nil, message)
	broken := slices.Clone(frame)
	broken[5] ^= 1
	tests := map[string]struct {
		stream []byte
		want   []eventKind
	}{
		"a frame":                     {frame, []eventKind{messageCame}},
		"two":                         {slices.Concat(frame, frame), []eventKind{messageCame, messageCame}},
		"NAK":                         {[]byte{0x03, 0x15, 0x16}, []eventKind{nakCame}},
		"NAK with a wrong check byte": {[]byte{0x03, 0x15, 0x17}, nil},
		"time, then a frame":          {slices.Concat([]byte{0x80, 0xA0}, frame), []eventKind{timeWanted, timeWanted, messageCame}},
		"card out, card in, a frame":  {slices.Concat([]byte{0x50, 0x02, 0x50, 0x03}, frame), []eventKind{cardMoved, cardMoved, messageCame}},
		"noise is no time":            {slices.Concat([]byte{0x00, 0x80, 0xFF}, frame, []byte{0x80}), []eventKind{messageCame, timeWanted}},
		"03 twice":                    {slices.Concat([]byte{0x03}, frame), []eventKind{messageCame}},
		"a damaged frame, and a good": {slices.Concat(broken, frame), []eventKind{frameDamaged, messageCame}},
		"a length beyond all":         {slices.Concat([]byte{3, 6, 0x80, 0xFF, 0xFF, 0xFF, 0xFF, 0, 0, 0, 0, 0}, frame), []eventKind{frameDamaged, messageCame}},
		"half a frame":                {frame[:9], nil},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			var kinds []eventKind
			for _, e := range decode(tt.stream) {
				kinds = append(kinds, e.kind)
				if e.kind == messageCame && !bytes.Equal(e.message, message) {
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
	for i := range models {
		m := &models[i]
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
	f.Add(appendFrame(nil, message.AppendCommand(nil, message.Escape{Data: []byte{2}}, 0, 0)))
	f.Fuzz(func(t *testing.T, stream []byte) {
		var d decoder
		for i, b := range stream {
			e := d.take(b)
			if e.kind != messageCame {
				continue
			}
			framed := appendFrame(nil, e.message)
			if len(e.message) < message.HeaderLength || len(e.message) > maxMessage || !bytes.HasSuffix(stream[:i+1], framed) {
				t.Fatalf("message % X was not sent", e.message)
			}
		}
		message := message.AppendCommand(nil, message.GetSlotStatus{}, 0, 1)
		if d.state == betweenFrames {
			var last lineEvent
			for _, b := range appendFrame(nil, message) {
				last = d.take(b)
			}
			if last.kind != messageCame || !bytes.Equal(last.message, message) {
				t.Fatal("a frame after noise is not found")
			}
		}
	})
}
