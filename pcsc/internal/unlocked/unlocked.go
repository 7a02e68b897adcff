// Package unlocked remembers which connections have opened a card with a PIN. A card stays unlocked
// until it is reset or locked again: one whose program dies in between would be left open to
// everybody who may use the reader.
package unlocked

import (
	"encoding/binary"
	"slices"
)

// PINs are those that were verified at one card and have not been taken back; C is a program's
// connection. The zero value has none.
type PINs[C comparable] struct{ all []pin[C] }

type pin[C comparable] struct {
	by        C
	reference byte // P2 of the command: which PIN
}

// Instructions of ISO 7816-4 that open a card when they are answered 9000.
const (
	insVerify    = 0x20
	insVerifyTLV = 0x21
	// CHANGE REFERENCE DATA, which PIV counts as a verification (SP 800-73-4 part 2, 3.2.2).
	insChange = 0x24
)

// lockAgain is P1 of the VERIFY that takes a verification back (SP 800-73-4 part 2, 3.2.1).
const lockAgain = 0xFF

// mostPINs bounds what is kept. A card that has so many is reset with any of those who are known.
const mostPINs = 64

// Note looks at a command APDU and the answer to it, and reports whether it has opened the card.
func (p *PINs[C]) Note(by C, command, answer []byte) (opened bool) {
	if !Concerns(command) || len(answer) < 2 {
		return false
	}
	if status := binary.BigEndian.Uint16(answer[len(answer)-2:]); status != 0x9000 {
		return false
	}

	// The card has one state for each PIN, whoever verified it: locking takes it from all.
	reference := command[3]
	if locks(command) {
		p.all = slices.DeleteFunc(p.all, func(u pin[C]) bool { return u.reference == reference })
		return false
	}

	// Without data VERIFY only asks for the state: 9000 says that the PIN was verified before.
	if !hasData(command) {
		return false
	}

	if u := (pin[C]{by, reference}); len(p.all) < mostPINs && !slices.Contains(p.all, u) {
		p.all = append(p.all, u)
	}
	return true
}

// NoteLost is Note for a command whose answer was lost: the card may have accepted the PIN. A
// command that locks the card is not taken for done.
func (p *PINs[C]) NoteLost(by C, command []byte) (opened bool) {
	return Concerns(command) && !locks(command) && p.Note(by, command, []byte{0x90, 0x00})
}

// locks reports whether a command that Concerns takes a verification back.
func locks(command []byte) bool { return command[1] == insVerify && command[2] == lockAgain }

// Concerns reports whether a command APDU may be one that Note acts on.
func Concerns(command []byte) bool {
	if len(command) < 4 {
		return false
	}
	switch command[1] {
	case insVerify, insVerifyTLV, insChange:
		return true
	}
	return false
}

// hasData reports whether a command APDU of four bytes or more has data: it is neither of case 1
// nor of case 2, short or extended (ISO 7816-3, 12.1.3).
func hasData(command []byte) bool {
	return len(command) > 5 && (command[4] != 0 || len(command) > 7)
}

// Lengths of what precedes the command in a PIN_VERIFY_STRUCTURE and in a PIN_MODIFY_STRUCTURE
// (PC/SC part 10, 2.5.2 and 2.5.3). Its last four bytes are the command's length.
const (
	padVerifyHead = 19
	padModifyHead = 24
)

// PadCommand is the command APDU that a reader with a PIN pad sends for a reader command, with one
// byte in place of the PIN that the user types; nil when in asks for no PIN.
func PadCommand(in []byte) []byte {
	command := commandBehind(in, padVerifyHead)
	if command == nil {
		command = commandBehind(in, padModifyHead)
	}

	if !Concerns(command) || command[2] == lockAgain {
		return nil
	}

	// Lc and a byte of data: Note takes a VERIFY without data for a question.
	return append(slices.Clone(command[:4]), 1, 0)
}

// commandBehind is what follows a structure's head; nil when in is not such a structure.
func commandBehind(in []byte, head int) []byte {
	if len(in) < head+4 || uint32(len(in)-head) != binary.LittleEndian.Uint32(in[head-4:]) {
		return nil
	}
	return in[head:]
}

// By reports whether a connection has opened the card, which is open still.
func (p *PINs[C]) By(c C) bool {
	return slices.ContainsFunc(p.all, func(u pin[C]) bool { return u.by == c })
}

// Forget is for a connection that has ended.
func (p *PINs[C]) Forget(c C) {
	p.all = slices.DeleteFunc(p.all, func(u pin[C]) bool { return u.by == c })
}

// Clear is for a card that was reset, or has gone.
func (p *PINs[C]) Clear() { p.all = nil }
