package ccid

import "encoding/binary"

// Serial readers frame CCID messages: 03 06, the message, and the exclusive or of all that. What else they say stands
// between frames: 03 15 16 is a command that did not arrive whole, 50 02 and 50 03 a card that went or came, and a single
// byte from 80 on a request for time.

// serialEventKind says what a reader has sent.
type serialEventKind byte

const (
	serialNothing serialEventKind = iota // not complete yet
	serialMessage                        // a CCID message
	serialNAK                            // the command is to be sent again
	serialTime                           // the reader asks for time
	serialMoved                          // a card has come or gone
	serialDamaged                        // a frame whose check byte or length is wrong
)

// serialEvent is one thing that a reader has sent.
type serialEvent struct {
	kind    serialEventKind
	message []byte // of serialMessage; belongs to the receiver
}

type serialState byte

const (
	betweenFrames serialState = iota
	afterSTX                  // 03 has come
	afterNAK                  // 03 15 has come
	afterNotice               // 50 has come
	inMessage
	atCheck
)

// appendSerialFrame writes a message as a frame to dst.
func appendSerialFrame(dst, message []byte) []byte {
	start := len(dst)
	dst = append(append(dst, 0x03, 0x06), message...)
	var check byte
	for _, b := range dst[start:] {
		check ^= b
	}
	return append(dst, check)
}

// serialDecoder finds frames in bytes, and finds them again after bytes that are none.
type serialDecoder struct {
	state   serialState
	lost    bool // bytes were seen that fit nowhere: until the next frame none of them is a request for time
	message []byte
	check   byte
}

// reset forgets a frame that has begun.
func (d *serialDecoder) reset() { d.state, d.lost, d.message = betweenFrames, false, d.message[:0] }

// take takes the next byte.
func (d *serialDecoder) take(b byte) serialEvent {
	switch d.state {
	case betweenFrames:
		return d.begin(b)
	case afterSTX:
		switch b {
		case 0x06:
			d.state, d.message, d.check = inMessage, d.message[:0], 0x03^0x06
		case 0x15:
			d.state = afterNAK
		default:
			d.lose()
			return d.begin(b)
		}
	case afterNAK:
		d.state = betweenFrames
		if b == 0x03^0x15 {
			return serialEvent{kind: serialNAK}
		}
		d.lose()
	case afterNotice:
		d.state = betweenFrames
		if b == 0x02 || b == 0x03 {
			return serialEvent{kind: serialMoved}
		}
		d.lose()
		return d.begin(b)
	case inMessage:
		return d.collect(b)
	case atCheck:
		d.state = betweenFrames
		if b != d.check {
			d.lose()
			return serialEvent{kind: serialDamaged}
		}
		d.lost = false
		message := append([]byte(nil), d.message...)
		clear(d.message) // an echo may hold a PIN
		return serialEvent{kind: serialMessage, message: message}
	}
	return serialEvent{}
}

// begin takes a byte between frames.
func (d *serialDecoder) begin(b byte) serialEvent {
	switch {
	case b == 0x03:
		d.state = afterSTX
	case b == 0x50:
		d.state = afterNotice
	case b >= 0x80 && !d.lost:
		return serialEvent{kind: serialTime}
	default:
		d.lose()
	}
	return serialEvent{}
}

func (d *serialDecoder) lose() { d.state, d.lost = betweenFrames, true }

// collect takes a byte of a message. Its length is known, and judged, when the header is complete.
func (d *serialDecoder) collect(b byte) serialEvent {
	d.message = append(d.message, b)
	d.check ^= b
	if len(d.message) < headerLength {
		return serialEvent{}
	}
	length := binary.LittleEndian.Uint32(d.message[1:])
	switch {
	case length > serialMaxMessage-headerLength:
		d.lose()
		return serialEvent{kind: serialDamaged}
	case len(d.message) == headerLength+int(length):
		d.state = atCheck
	}
	return serialEvent{}
}
