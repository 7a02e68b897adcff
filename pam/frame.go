package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"pam_pkcs11/internal/secret"
)

// The protocol with the relay in the host, see host/relay.h, which defines it. Versions 1 to
// protocolVersion are served: the relay in a long-lived host may be of an older release.
const (
	protocolVersion = 1
	headerSize      = 8
	maxPayload      = 32768
	maxText         = 2047 // one message or prompt without its kind
)

// verb says what a frame is.
type verb byte

const (
	verbAuthenticate verb = 'A'
	verbChange       verb = 'C'
	verbAnswer       verb = 'R'
	verbTaken        verb = 'T'

	verbPrompt  verb = 'P'
	verbMessage verb = 'M'
	verbWait    verb = 'W'
	verbVerdict verb = 'V'
	verbNotes   verb = 'N'

	verbRequired verb = 'D'
)

// kind is what is asked or shown.
type kind byte

const (
	kindEchoOff        kind = 1
	kindEchoOn         kind = 2
	kindTakeAuthtok    kind = 3
	kindTakeOldAuthtok kind = 4
	kindError          kind = 5
	kindInfo           kind = 6
)

// answerStatus is the first octet of an answer.
type answerStatus byte

const (
	answerGiven  answerStatus = 0
	answerFailed answerStatus = 1
	answerNone   answerStatus = 2
)

// tag names a field of a request or a verdict.
type tag byte

const (
	tagService        tag = 1
	tagUser           tag = 2
	tagRHost          tag = 3
	tagTTY            tag = 4
	tagRUser          tag = 5
	tagFlags          tag = 6
	tagArgument       tag = 7
	tagEnvironment    tag = 8
	tagRootForAnother tag = 9
	tagRelayCan       tag = 10

	tagCode      tag = 32
	tagFoundUser tag = 33
	tagVariable  tag = 34
	tagAuthtok   tag = 35
)

// Bits of tagRelayCan.
const (
	canConfirm   = 1
	canTakeNotes = 2
	canRequire   = 4
)

// frame is one message of either side. Its payload may hold a PIN: who reads it wipes it.
type frame struct {
	verb    verb
	payload []byte
}

// readFrame reads one frame of the relay's.
func readFrame(r io.Reader) (frame, error) {
	var header [headerSize]byte
	if _, err := io.ReadFull(r, header[:]); err != nil {
		return frame{}, err
	}

	n := binary.LittleEndian.Uint32(header[4:])
	switch {
	case header[0] < 1 || header[0] > protocolVersion:
		return frame{}, fmt.Errorf("protocol version %d, expected 1 to %d", header[0], protocolVersion)
	case header[2] != 0 || header[3] != 0:
		return frame{}, errors.New("malformed frame header")
	// The length is the host's: it is checked before any room is made for it.
	case n > maxPayload:
		return frame{}, fmt.Errorf("frame of %d octets, expected at most %d", n, maxPayload)
	}

	f := frame{verb: verb(header[1]), payload: make([]byte, n)}
	if _, err := io.ReadFull(r, f.payload); err != nil {
		secret.Wipe(f.payload)
		return frame{}, fmt.Errorf("frame cut short: %w", err)
	}
	return f, nil
}

// writeFrame sends one frame and wipes it.
func writeFrame(w io.Writer, v verb, payload ...[]byte) error {
	size := 0
	for _, p := range payload {
		size += len(p)
	}
	if size > maxPayload {
		return fmt.Errorf("frame of %d octets, at most %d may be sent", size, maxPayload)
	}

	// Room for all of it: a slice that grows would leave a copy of a PIN behind.
	b := make([]byte, headerSize, headerSize+size)
	b[0], b[1] = protocolVersion, byte(v)
	binary.LittleEndian.PutUint32(b[4:], uint32(size))

	for _, p := range payload {
		b = append(b, p...)
	}

	defer secret.Wipe(b)
	_, err := w.Write(b)
	return err
}

// field is one tagged value.
type field struct {
	tag   tag
	value []byte
}

// readFields splits a payload. Unknown tags are the reader's to skip.
func readFields(b []byte) ([]field, error) {
	var fields []field
	for len(b) > 0 {
		if len(b) < 3 {
			return nil, errors.New("field cut short")
		}
		n := int(binary.LittleEndian.Uint16(b[1:]))
		if len(b)-3 < n {
			return nil, errors.New("field longer than its frame")
		}
		// Values are parts of the frame, so that whoever wipes the frame wipes them, too.
		fields = append(fields, field{tag(b[0]), b[3 : 3+n]})
		b = b[3+n:]
	}
	return fields, nil
}

// appendField adds one tagged value of at most 65535 octets.
func appendField(b []byte, t tag, value []byte) []byte {
	b = append(b, byte(t))
	b = binary.LittleEndian.AppendUint16(b, uint16(len(value)))
	return append(b, value...)
}
