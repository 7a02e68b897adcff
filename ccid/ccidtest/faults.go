package ccidtest

import (
	"encoding/binary"
	"slices"
	"time"

	"pam_pkcs11/ccid/message"
)

// Offsets in the header of a message.
const (
	atType     = 0
	atSlot     = 5
	atSequence = 6
	atStatus   = 7
	atError    = 8
	atSpecial  = 9
)

// To applies a fault only to requests of one type.
func To(kind message.Type, f Fault) Fault {
	return func(x *Exchange) bool { return x.Request[atType] == byte(kind) && f(x) }
}

// After lets a number of requests of one type pass before the fault is applied.
func After(n int, kind message.Type, f Fault) Fault {
	return func(x *Exchange) bool {
		if x.Request[atType] != byte(kind) {
			return false
		}
		n--
		return n < 0 && f(x)
	}
}

// Times applies a fault a number of times.
func Times(n int, f Fault) Fault {
	return func(x *Exchange) bool {
		if f(x) {
			n--
		}
		return n <= 0
	}
}

// Always applies a fault for ever.
func Always(f Fault) Fault {
	return func(x *Exchange) bool {
		f(x)
		return false
	}
}

// clone copies a frame.
func clone(t Transfer) Transfer {
	return Transfer{Data: slices.Clone(t.Data), Err: t.Err, After: t.After}
}

// change applies a change to the first answer.
func change(f func(b []byte) []byte) Fault {
	return func(x *Exchange) bool {
		if len(x.Answers) == 0 || len(x.Answers[0].Data) < headerLength {
			return false
		}
		x.Answers[0].Data = f(slices.Clone(x.Answers[0].Data))
		return true
	}
}

// before puts a changed copy of the answer before it.
func before(f func(b []byte) []byte) Fault {
	return func(x *Exchange) bool {
		if len(x.Answers) == 0 {
			return false
		}
		stray := clone(x.Answers[0])
		stray.Data = f(stray.Data)
		x.Answers = append([]Transfer{stray}, x.Answers...)
		return true
	}
}

// Stale sends n frames with earlier sequence numbers, and other contents, before the answer.
func Stale(n int) Fault {
	return func(x *Exchange) bool {
		for i := range n {
			// Each is made from the frame that comes first now, and put before it.
			before(func(b []byte) []byte {
				b[atSequence] -= byte(i + 1)
				return spoil(b)
			})(x)
		}
		return true
	}
}

// spoil changes the contents of a frame, so that a driver which takes it returns wrong data.
func spoil(b []byte) []byte {
	for i := headerLength; i < len(b); i++ {
		b[i] ^= 0x5A
	}
	return b
}

// ForeignSlot sends a frame of another slot before the answer.
func ForeignSlot(slot byte) Fault {
	return before(func(b []byte) []byte { b[atSlot] = slot; return spoil(b) })
}

// ForeignType sends a frame of another type before the answer.
func ForeignType(kind message.Type) Fault {
	return before(func(b []byte) []byte { b[atType] = byte(kind); return spoil(b) })
}

// Cut leaves n bytes of the answer; dwLength stays.
func Cut(n int) Fault { return change(func(b []byte) []byte { return b[:min(n, len(b))] }) }

// Length sends another dwLength than that of the data.
func Length(n uint32) Fault {
	return change(func(b []byte) []byte { binary.LittleEndian.PutUint32(b[1:], n); return b })
}

// Longer sends n bytes more than dwLength says.
func Longer(n int) Fault {
	return change(func(b []byte) []byte { return append(b, make([]byte, n)...) })
}

// Status sets bStatus and bError of the answer.
func Status(status, code byte) Fault {
	return change(func(b []byte) []byte {
		b[atStatus] = status
		b[atError] = code
		return b
	})
}

// Special sets byte 9 of the answer, bChainParameter among others.
func Special(value byte) Fault {
	return change(func(b []byte) []byte { b[atSpecial] = value; return b })
}

// Data replaces the answer's data, and sets dwLength.
func Data(f func(data []byte) []byte) Fault {
	return change(func(b []byte) []byte {
		// The capacity is cut off, because f may return a part of b.
		b = append(b[:headerLength:headerLength], f(b[headerLength:])...)
		binary.LittleEndian.PutUint32(b[1:], uint32(len(b)-headerLength))
		return b
	})
}

// Fails makes the command fail: bError, with the card present, and no data.
func Fails(code byte) Fault {
	return func(x *Exchange) bool {
		if len(x.Answers) == 0 {
			return false
		}

		b := x.Answers[0].Data
		status := b[atStatus]&3 | 0x40
		x.Answers[0].Data = answer(b[atType], b[atSlot], b[atSequence], status, code, 0, nil)
		return true
	}
}

// Unknown answers a command with a slot status that reports failure, as readers do for a command
// that they do not know.
func Unknown(x *Exchange) bool {
	if len(x.Answers) == 0 {
		return false
	}

	b := x.Answers[0].Data
	kind := byte(message.TypeSlotStatus)
	status := b[atStatus]&3 | 0x40
	x.Answers[0].Data = answer(kind, b[atSlot], b[atSequence], status, 0, 0, nil)
	return true
}

// Doubled sends the answer twice.
func Doubled(x *Exchange) bool {
	if len(x.Answers) > 0 {
		x.Answers = append(x.Answers, clone(x.Answers[0]))
	}
	return true
}

// Silent sends no answer.
func Silent(x *Exchange) bool {
	x.Answers = nil
	return true
}

// Late sends the answer later.
func Late(d time.Duration) Fault {
	return func(x *Exchange) bool {
		for i := range x.Answers {
			x.Answers[i].After += d
		}
		return true
	}
}

// Extensions asks n times for time before the answer comes, at an interval, with a multiplier in
// bError.
func Extensions(n int, multiplier byte, every time.Duration) Fault {
	return func(x *Exchange) bool {
		if len(x.Answers) == 0 {
			return false
		}

		// The answer, and what comes with it, is put off until the last extension has passed.
		b := x.Answers[0].Data
		var all []Transfer
		for i := range n {
			all = append(all, Transfer{
				Data:  answer(b[atType], b[atSlot], b[atSequence], 0x80, multiplier, 0, nil),
				After: time.Duration(i) * every,
			})
		}
		for _, t := range x.Answers {
			t.After += time.Duration(n) * every
			all = append(all, t)
		}

		x.Answers = all
		return true
	}
}

// EmptyPackets sends n empty packets before the answer.
func EmptyPackets(n int) Fault {
	return func(x *Exchange) bool {
		x.Answers = append(make([]Transfer, n), x.Answers...)
		return true
	}
}

// Breaks ends the host's read with an error in place of the answer: device.ErrStall or ErrOverflow.
func Breaks(err error) Fault {
	return func(x *Exchange) bool {
		x.Answers = []Transfer{{Err: err}}
		return true
	}
}

// Refuses ends the host's write with an error: the message has not arrived.
func Refuses(err error) Fault {
	return func(x *Exchange) bool {
		x.Answers = nil
		x.Refuse = err
		return true
	}
}

// Unplugs removes the device in the middle of the exchange.
func Unplugs(x *Exchange) bool {
	x.Answers = nil
	x.device.unplug()
	return true
}

// Deaf answers nothing any more, until the device is reset, or, without reset, its interface
// reclaimed.
func Deaf(reset bool) Fault {
	// Counted from the first exchange: the device may have been reset before.
	start := Counts{Resets: -1}
	return func(x *Exchange) bool {
		now := x.device.counts
		if start.Resets < 0 {
			start = now
		}

		if now.Resets > start.Resets || !reset && now.Reclaims > start.Reclaims {
			return true
		}

		x.Answers = nil
		return false
	}
}

// CardOut takes the card out in the middle of the exchange, and the reader reports it.
func CardOut(x *Exchange) bool {
	b := x.Answers[0].Data
	number := int(b[atSlot])
	x.reader.slots[number].insert(nil)
	x.reader.notify(number)
	x.Answers[0].Data = answer(b[atType], b[atSlot], b[atSequence], 0x42, errMute, 0, nil)
	return true
}
