package serial

import (
	"encoding/binary"

	"pam_pkcs11/ccid/message"
)

// Serial readers frame CCID messages: 03 06, the message, and the exclusive or of all these bytes.
// Other bytes stand between frames: 03 15 16 is a command that did not arrive whole, 50 02 and 50
// 03 a card that went or came, and a single byte from 80 on a request for time.

// eventKind is the kind of what a reader has sent.
type eventKind byte

const (
	noEvent      eventKind = iota // not complete yet
	messageCame                   // a CCID message
	nakCame                       // the command is to be sent again
	timeWanted                    // the reader asks for time
	cardMoved                     // a card has come or gone
	frameDamaged                  // a frame whose check byte or length is wrong
)

// lineEvent is one thing that a reader has sent.
type lineEvent struct {
	kind    eventKind
	message []byte // of messageCame; belongs to the receiver
}

type decoderState byte

const (
	betweenFrames decoderState = iota
	afterSTX                   // 03 has come
	afterNAK                   // 03 15 has come
	afterNotice                // 50 has come
	inMessage
	atCheck
)

// appendFrame writes a message as a frame to dst.
func appendFrame(dst, message []byte) []byte {
	start := len(dst)
	dst = append(append(dst, 0x03, 0x06), message...)
	var check byte
	for _, b := range dst[start:] {
		check ^= b
	}
	return append(dst, check)
}

// decoder finds frames in a stream of bytes, and finds the next one after bytes that are none.
type decoder struct {
	state   decoderState
	lost    bool // after bytes that belong to nothing: no byte is a request for time until a frame
	message []byte
	check   byte
}

// reset drops a frame that has begun.
func (d *decoder) reset() {
	d.state = betweenFrames
	d.lost = false
	d.message = d.message[:0]
}

// take reads the next byte.
func (d *decoder) take(b byte) lineEvent {
	switch d.state {
	case betweenFrames:
		return d.begin(b)
	case afterSTX:
		switch b {
		case 0x06:
			d.state = inMessage
			d.message = d.message[:0]
			d.check = 0x03 ^ 0x06
		case 0x15:
			d.state = afterNAK
		default:
			// The byte may be the beginning of a frame itself.
			d.lose()
			return d.begin(b)
		}
	case afterNAK:
		d.state = betweenFrames
		if b == 0x03^0x15 {
			return lineEvent{kind: nakCame}
		}
		d.lose()
	case afterNotice:
		d.state = betweenFrames
		if b == 0x02 || b == 0x03 {
			return lineEvent{kind: cardMoved}
		}
		d.lose()
		return d.begin(b)
	case inMessage:
		return d.collect(b)
	case atCheck:
		d.state = betweenFrames
		if b != d.check {
			d.lose()
			return lineEvent{kind: frameDamaged}
		}
		d.lost = false

		// A copy for the receiver. The original is cleared: an echo may hold a PIN.
		message := append([]byte(nil), d.message...)
		clear(d.message)
		return lineEvent{kind: messageCame, message: message}
	}
	return lineEvent{}
}

// begin reads a byte between frames.
func (d *decoder) begin(b byte) lineEvent {
	switch {
	case b == 0x03:
		d.state = afterSTX
	case b == 0x50:
		d.state = afterNotice
	case b >= 0x80 && !d.lost:
		// In the middle of damage the byte would more likely be a part of a message.
		return lineEvent{kind: timeWanted}
	default:
		d.lose()
	}
	return lineEvent{}
}

// lose waits for the next frame.
func (d *decoder) lose() {
	d.state = betweenFrames
	d.lost = true
}

// collect reads a byte of a message. The length is known, and checked, when the header is complete.
func (d *decoder) collect(b byte) lineEvent {
	d.message = append(d.message, b)
	d.check ^= b
	if len(d.message) < message.HeaderLength {
		return lineEvent{}
	}

	// Checked before the data is collected: a damaged length must not make us wait for gigabytes.
	length := binary.LittleEndian.Uint32(d.message[1:])
	switch {
	case length > maxMessage-message.HeaderLength:
		d.lose()
		return lineEvent{kind: frameDamaged}
	case len(d.message) == message.HeaderLength+int(length):
		d.state = atCheck
	}
	return lineEvent{}
}
