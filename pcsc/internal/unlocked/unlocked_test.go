package unlocked

import "testing"

func TestNote(t *testing.T) {
	good, bad := []byte{0x90, 0x00}, []byte{0x63, 0xC2}
	for _, row := range []struct {
		name    string
		command []byte
		answer  []byte
		opened  bool
	}{
		{"VERIFY", []byte{0, 0x20, 0, 0x80, 1, 2}, good, true},
		{"VERIFY with Le", []byte{0, 0x20, 0, 0x80, 1, 2, 0}, good, true},
		{"VERIFY of extended length", []byte{0, 0x20, 0, 0x80, 0, 0, 1, 2}, good, true},
		{"VERIFY with TLV", []byte{0x0C, 0x21, 0, 0x80, 1, 2}, good, true},
		{"CHANGE REFERENCE DATA", []byte{0, 0x24, 0, 0x80, 1, 2}, good, true},
		{"refused", []byte{0, 0x20, 0, 0x80, 1, 2}, bad, false},
		{"case 1: the tries left", []byte{0, 0x20, 0, 0x80}, good, false},
		{"case 2", []byte{0, 0x20, 0, 0x80, 0}, good, false},
		{"case 2 of extended length", []byte{0, 0x20, 0, 0x80, 0, 0, 0}, good, false},
		{"lock again", []byte{0, 0x20, 0xFF, 0x80}, good, false},
		{"another", []byte{0, 0xA4, 4, 0, 1, 2}, good, false},
		{"no command", []byte{0, 0x20}, good, false},
		{"no answer", []byte{0, 0x20, 0, 0x80, 1, 2}, nil, false},
	} {
		var p PINs[int]
		if got := p.Note(7, row.command, row.answer); got != row.opened || p.By(7) != row.opened || p.By(8) {
			t.Errorf("%s: opened %v, known %v", row.name, got, p.By(7))
		}
	}
}

func TestNoteLost(t *testing.T) {
	verify, lock := []byte{0, 0x20, 0, 0x80, 1, 2}, []byte{0, 0x20, 0xFF, 0x80}

	var p PINs[int]
	if p.NoteLost(7, lock) || p.NoteLost(7, verify[:4]) || p.NoteLost(7, nil) || p.By(7) {
		t.Error("a card that nobody can have opened is open")
	}
	if !p.NoteLost(7, verify) || p.NoteLost(7, lock) || !p.By(7) {
		t.Error("a card that may be open is not")
	}
}

func TestPINsOfSeveral(t *testing.T) {
	good := []byte{0x90, 0x00}
	verify := func(reference byte) []byte { return []byte{0, 0x20, 0, reference, 1, 2} }
	lock := func(reference byte) []byte { return []byte{0, 0x20, 0xFF, reference} }
	var p PINs[int]
	p.Note(1, verify(0x80), good)
	p.Note(1, verify(0x80), good)
	p.Note(1, verify(0x00), good)
	p.Note(2, verify(0x80), good)
	p.Note(3, lock(0x80), good) // of whomever
	if !p.By(1) || p.By(2) {
		t.Error("the PIN that was not locked again is forgotten, or the other is not")
	}
	p.Forget(1)
	if p.By(1) {
		t.Error("a connection that has ended is known")
	}
	for i := range 1000 {
		p.Note(i, verify(byte(i)), good)
	}
	if len(p.all) != mostPINs {
		t.Errorf("%d are kept", len(p.all))
	}
	p.Clear()
	if p.By(5) {
		t.Error("known after a reset")
	}
}

// FuzzNote: whatever programs send, and cards answer.
func FuzzNote(f *testing.F) {
	f.Add([]byte{0, 0x20, 0, 0x80, 1, 2}, []byte{0x90, 0x00})
	f.Add(append(make([]byte, 15), 6, 0, 0, 0, 0, 0x20, 0, 0x80, 1, 2), []byte{0x90, 0x00})
	f.Fuzz(func(t *testing.T, command, answer []byte) {
		var p PINs[int]
		if p.Note(1, command, answer) != p.By(1) {
			t.Error("opened, and not known")
		}
		if pad := PadCommand(command); pad != nil && !hasData(pad) {
			t.Error("a command of a PIN pad without a PIN")
		}
	})
}
