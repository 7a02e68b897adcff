package resmgr

import (
	"encoding/binary"
	"slices"

	"pam_pkcs11/pcsc"
)

// A card stays unlocked after a PIN until it is reset or locked again. A program that dies in between would leave it open
// to everybody who may use the reader: the manager resets the card for it. Who disconnects has had its say
// (SCardDisconnect's disposition).

// unlocking is a PIN that a connection has verified and that nobody has taken back.
type unlocking struct {
	h         *Connection
	reference byte // P2 of the command: which PIN
}

// Instructions of ISO 7816-4 that open a card when they are answered 9000.
const (
	insVerify    = 0x20
	insVerifyTLV = 0x21
	insChange    = 0x24 // CHANGE REFERENCE DATA: PIV cards count it as a verification (SP 800-73-4 part 2, 3.2.2)
)

// lockAgain is P1 of the VERIFY that takes a verification back (SP 800-73-4 part 2, 3.2.1).
const lockAgain = 0xFF

// mostUnlockings bounds what is kept for one reader. A PIN more than that is taken for one of those kept.
const mostUnlockings = 64

// noteUnlocking looks at a command of h and its answer; r.driver is held. gone says that h was given up meanwhile, with
// the card open.
func (r *reader) noteUnlocking(h *Connection, command, answer []byte) (gone bool) {
	if len(command) < 4 || len(answer) < 2 || binary.BigEndian.Uint16(answer[len(answer)-2:]) != 0x9000 {
		return false
	}
	instruction, p1, reference := command[1], command[2], command[3]
	switch {
	case instruction == insVerify && p1 == lockAgain:
		r.mu.Lock()
		defer r.mu.Unlock()
		r.unlocked = slices.DeleteFunc(r.unlocked, func(u unlocking) bool { return u.reference == reference })
	case hasData(command) && (instruction == insVerify || instruction == insVerifyTLV || instruction == insChange):
		r.mu.Lock()
		defer r.mu.Unlock()
		if u := (unlocking{h, reference}); len(r.unlocked) < mostUnlockings && !slices.Contains(r.unlocked, u) {
			r.unlocked = append(r.unlocked, u)
		}
		return h.closed
	}
	return false
}

// hasData reports whether a command APDU of four bytes or more has data: it is neither of case 1 nor of case 2, short or
// extended (ISO 7816-3, 12.1.3).
func hasData(command []byte) bool {
	return len(command) > 5 && (command[4] != 0 || len(command) > 7)
}

// Lengths of what precedes the command in a PIN_VERIFY_STRUCTURE and in a PIN_MODIFY_STRUCTURE (PC/SC part 10, 2.5.2 and
// 2.5.3). The last four bytes of it are the command's length.
const (
	padVerifyHead = 19
	padModifyHead = 24
)

// padCommand is the command that a reader with a PIN pad completes and sends; nil when in is not such a structure.
func padCommand(in []byte, head int) []byte {
	if len(in) < head+4 || uint32(len(in)-head) != binary.LittleEndian.Uint32(in[head-4:]) {
		return nil
	}
	return in[head:]
}

// notePad is noteUnlocking for a command that went to the reader. The PIN is put in by the reader, so that the command
// may look as if it had no data.
func (r *reader) notePad(h *Connection, in, out []byte) (gone bool) {
	if len(out) != 2 {
		return false
	}
	command := padCommand(in, padVerifyHead)
	if command == nil {
		command = padCommand(in, padModifyHead)
	}
	if command == nil || command[2] == lockAgain {
		return false
	}
	return r.noteUnlocking(h, append(slices.Clone(command[:4]), 1, 0), out)
}

// hasUnlocked reports whether h has opened the card, which is open still; r.mu is held.
func (r *reader) hasUnlocked(h *Connection) bool {
	return slices.ContainsFunc(r.unlocked, func(u unlocking) bool { return u.h == h })
}

// forgetUnlocking forgets what h has opened; r.mu is held.
func (r *reader) forgetUnlocking(h *Connection) {
	r.unlocked = slices.DeleteFunc(r.unlocked, func(u unlocking) bool { return u.h == h })
}

// takeTurn gives h the transaction lock, after the transaction of another that runs now; r.driver is not held. It reports
// whether h has it: not when the card was reset or removed meanwhile, or the reader given up.
func (h *Connection) takeTurn() bool {
	r := h.r
	r.mu.Lock()
	if !r.lockedByOther(h) {
		defer r.mu.Unlock()
		if r.owner == nil {
			r.owner, r.depth = h, 1
		}
		return true
	}
	w := &lockWait{h: h, begin: true, result: make(chan pcsc.Error, 1)}
	r.enqueue(w)
	r.mu.Unlock()

	select {
	case e := <-w.result:
		return e == pcsc.ErrSuccess
	case <-r.ctx.Done():
		return false
	}
}
