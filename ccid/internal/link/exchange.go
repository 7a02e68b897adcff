// Package link exchanges one command with a reader for one answer, over bulk endpoints (Bulk) or by
// control transfers (ICCD). It handles time extensions, frames that answer nothing, and the
// recovery of readers that do not answer.
package link

import (
	"context"
	"encoding/binary"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"pam_pkcs11/ccid/device"
	"pam_pkcs11/ccid/internal/ifd"
	"pam_pkcs11/ccid/message"
)

// LongestAnswer is the longest response APDU: 65536 bytes and the status word.
const LongestAnswer = 65536 + 2

// OpenTries is how often a reader gets the first command: one that wakes from sleep may miss it.
const OpenTries = 3

// LongestWait bounds the wait for one answer, with all extensions.
const LongestWait = 15 * time.Minute

// Bounds of an exchange.
const (
	writeTimeout  = 5 * time.Second
	mostExtension = 20000 // time extensions to one command
	mostStrays    = 1000  // frames that answer nothing, during one wait
)

// Bulk exchanges messages over bulk endpoints (bInterfaceProtocol 0).
//
// Slots that work at the same time share the IN endpoint. A slot that waits for an answer and has
// the token reads for all, and puts a frame of another slot into that slot's mailbox. Without a
// waiting slot there is no read in progress, and so no goroutine to stop.
type Bulk struct {
	Config

	t device.Transport

	sending  sync.Mutex // guards sequence and out
	sequence byte       // of the next command
	out      []byte

	reading chan struct{} // holds one token: its owner reads the IN endpoint for all slots
	in      []byte        // guarded by the token
	boxes   []mailbox     // one for each slot

	surplus atomic.Int64 // messages with bytes behind them, which were cut off
}

// mailbox takes the frames of a slot that another slot has read. Its buffer and timer belong to the
// call that uses the slot.
type mailbox struct {
	frames chan []byte
	buffer []byte // the last answer
	timer  waitTimer
}

// Config describes the reader to Bulk.
type Config struct {
	Number     byte   // bInterfaceNumber, for ABORT
	Slots      int    // 1 to 16
	MaxMessage int    // longest message, header included
	Reset      func() // called when a recovery has cost all cards their power
	Log        *slog.Logger
}

// NewBulk returns a Bulk that exchanges messages over t.
func NewBulk(t device.Transport, c Config) *Bulk {
	b := &Bulk{
		Config:  c,
		t:       t,
		reading: make(chan struct{}, 1),
		in:      make([]byte, readSize(c.MaxMessage)),
		boxes:   make([]mailbox, c.Slots),
	}
	b.reading <- struct{}{}

	for i := range b.boxes {
		// Room for an answer, and for the late ones of a command that was given up.
		b.boxes[i].frames = make(chan []byte, 4)
	}
	return b
}

// readSize is the size of a read: whole packets of every speed, and one packet more than the reader
// states, in case that is too little: a transfer that does not fit is lost.
func readSize(maxMessage int) int { return (max(maxMessage, 512)/512 + 1) * 512 }

// SurplusMessages returns how many messages had bytes behind them, which were cut off.
func (b *Bulk) SurplusMessages() int64 { return b.surplus.Load() }

// Exchange sends a command and returns the answer to it. A failed command is a *message.Error
// beside the answer. Frames that are not its answer, by sequence number, slot or type, are dropped,
// however many come before the deadline. When no answer comes, the reader is brought back to a
// defined state before Exchange returns (recover.go).
func (b *Bulk) Exchange(
	ctx context.Context, slot int, c message.Command, timeout time.Duration,
) (message.Answer, error) {
	a, sequence, err := b.Once(ctx, slot, c, timeout)
	answered := err == nil || message.AsError(err) != nil
	if answered || device.IsGone(err) || ctx.Err() != nil {
		return a, err
	}

	b.Log.Warn("the reader does not answer", "slot", slot, "err", err)
	if problem := b.recover(ctx, slot, sequence); problem != nil {
		b.Log.Error("the reader does not answer any more", "slot", slot, "err", problem)
		if device.IsGone(problem) {
			return message.Answer{}, problem
		}
	}
	// The command's own error, even when the recovery succeeded: the answer is lost.
	return message.Answer{}, err
}

// Once is Exchange without recovery. It also returns the sequence number of the command.
func (b *Bulk) Once(
	ctx context.Context, slot int, c message.Command, timeout time.Duration,
) (message.Answer, byte, error) {
	b.empty(slot)

	b.sending.Lock()
	sequence := b.sequence
	b.sequence++
	err := b.write(ctx, slot, sequence, c)
	b.sending.Unlock()
	if err != nil {
		return message.Answer{}, sequence, err
	}

	a, err := b.await(ctx, slot, sequence, message.TypeOf(c), timeout)
	return a, sequence, err
}

// empty drops what has come for a slot since its last command: none of it is an answer to the next.
func (b *Bulk) empty(slot int) {
	for {
		select {
		case <-b.boxes[slot].frames:
		default:
			return
		}
	}
}

// write sends a command with a sequence number. The caller holds b.sending.
func (b *Bulk) write(
	ctx context.Context, slot int, sequence byte, c message.Command,
) error {
	b.out = message.AppendCommand(b.out[:0], c, byte(slot), sequence)

	w := &b.boxes[slot].timer
	err := b.t.BulkOut(w.start(ctx, writeTimeout), b.out)
	if err != nil {
		err = w.explain(err)
	}
	w.stop()

	// The command may have held a PIN, which must not stay in the buffer.
	if message.TypeOf(c) == message.TypeSecure || message.TypeOf(c) == message.TypeXfrBlock {
		clear(b.out)
	}

	if err != nil {
		return ifd.TransportError("sending to the reader", err)
	}
	return nil
}

// await waits for the answer to a command, by its number and type, through time extensions.
func (b *Bulk) await(
	ctx context.Context, slot int, sequence byte, command message.Type, timeout time.Duration,
) (message.Answer, error) {
	// The reader decides how often it asks for time, so the sum needs a bound of its own.
	end := time.Now().Add(LongestWait)
	wait := timeout
	for range mostExtension {
		a, err := b.awaitFrame(ctx, slot, sequence, command, min(wait, time.Until(end)))
		if err != nil {
			return a, err
		}

		switch a.Result() {
		case message.ResultDone:
			return a, nil
		case message.ResultFailed:
			return a, &message.Error{Slot: slot, Status: a.Status, Code: a.Error}
		}

		// bError of a time extension multiplies the time (CCID 1.1, section 6.2.6); 0 counts as 1.
		wait = timeout * time.Duration(max(a.Error, 1))
	}
	return message.Answer{}, ifd.Errorf(
		ifd.Timeout, "the reader asks for more time again and again")
}

// awaitFrame waits for one frame that answers a command.
func (b *Bulk) awaitFrame(
	ctx context.Context, slot int, sequence byte, command message.Type, timeout time.Duration,
) (message.Answer, error) {
	w := &b.boxes[slot].timer
	ctx = w.start(ctx, timeout)
	defer w.stop()

	for range mostStrays {
		raw, err := b.frame(ctx, slot)
		if err != nil {
			return message.Answer{}, ifd.TransportError("reading from the reader", w.explain(err))
		}

		if command == message.TypePowerOn || command == message.TypeEscape {
			raw = b.cut(raw)
		}
		a, err := message.ParseAnswer(raw)
		switch {
		case len(raw) == 0:
			// A stray empty packet is no message.
		case isAnswer(raw, command, slot, sequence):
			// Ours, but cut off or too long: no other answer will come.
			if err != nil {
				return message.Answer{}, &ifd.Fault{
					Code:  ifd.Communication,
					Text:  "answer of the reader",
					Cause: err,
				}
			}
			return a, nil
		case err == nil && refuses(&a, slot, sequence):
			return a, nil
		default:
			b.Log.Debug("dropping a frame that answers nothing", "slot", slot, "bytes", len(raw))
		}
	}
	return message.Answer{}, ifd.Errorf(
		ifd.Communication, "the reader sends nothing but frames that answer nothing")
}

// isAnswer reports whether a frame is the answer to a command, by type, slot and sequence number.
// Its length may still be wrong.
func isAnswer(raw []byte, command message.Type, slot int, sequence byte) bool {
	return len(raw) >= message.HeaderLength && raw[0] == byte(command.Answer()) &&
		raw[5] == byte(slot) && raw[6] == sequence
}

// cut removes bytes behind a message. libccid accepts such answers to PowerOn and Escape, so there
// are readers that send them. Answers to other commands are not cut: dwLength alone shows whether
// all of an answer is there.
func (b *Bulk) cut(raw []byte) []byte {
	if len(raw) < message.HeaderLength {
		return raw
	}

	// Compared as uint64: dwLength is the reader's, and must not overflow where int has 32 bits.
	said := uint64(binary.LittleEndian.Uint32(raw[1:]))
	there := uint64(len(raw) - message.HeaderLength)
	if said >= there {
		return raw
	}

	// Logged once: a reader that does it may do it with each message.
	if b.surplus.Add(1) == 1 {
		b.Log.Info("the reader sends bytes behind its messages: they are cut off",
			"bytes", there-said, "type", raw[0])
	}
	return raw[:message.HeaderLength+int(said)]
}

// refuses reports whether a frame says that a command has failed, in place of the answer to it:
// some readers, QEMU's among them, answer every command that they do not know with a slot status.
// Nothing but a failure is accepted from such a frame.
func refuses(a *message.Answer, slot int, sequence byte) bool {
	isOurs := int(a.Slot) == slot && a.Sequence == sequence
	isFailure := a.Type == message.TypeSlotStatus && a.Result() == message.ResultFailed
	return isOurs && isFailure && len(a.Data) == 0
}

// frame returns the next frame for a slot, from its mailbox or read now. A frame that names no slot
// of the reader goes to the caller that read it.
func (b *Bulk) frame(ctx context.Context, slot int) ([]byte, error) {
	box := &b.boxes[slot]
	for {
		select {
		case raw := <-box.frames:
			return raw, nil
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-b.reading:
		}

		raw, mine, err := b.read(ctx, slot)
		// Given back after each transfer: the next one may be another slot's to wait for.
		b.reading <- struct{}{}
		if err != nil {
			return nil, err
		}
		if mine {
			return raw, nil
		}
	}
}

// read reads one transfer. The caller holds the token. mine is false when it was another slot's.
func (b *Bulk) read(ctx context.Context, slot int) (raw []byte, mine bool, err error) {
	// Another slot may have read our answer while we waited for the token: reading now would wait
	// for a frame that has come already.
	select {
	case raw := <-b.boxes[slot].frames:
		return raw, true, nil
	default:
	}

	n, err := b.t.BulkIn(ctx, b.in)
	if err != nil {
		return nil, false, err
	}

	frame := b.in[:n]
	if n >= message.HeaderLength && int(frame[5]) != slot && int(frame[5]) < len(b.boxes) {
		select {
		case b.boxes[frame[5]].frames <- append([]byte(nil), frame...):
		default:
			// Its mailbox is full of late frames: the slot waits for none.
		}
		return nil, false, nil
	}

	// Copied: b.in belongs to the next owner of the token.
	box := &b.boxes[slot]
	box.buffer = append(box.buffer[:0], frame...)
	return box.buffer, true, nil
}
