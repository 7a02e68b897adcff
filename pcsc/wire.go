package pcsc

import (
	"bytes"
	"encoding/binary"
	"fmt"
)

// The socket protocol of pcsc-lite, versions 4.2 to 4.6. Integers are 32 bits in the byte order of the host. A request
// is a header of 8 bytes (bytes of the body, command) and the body; variable data follows it and is not counted in the
// header. An answer is the body alone, filled in. The result is always the last field.

// Command is the number of a request (winscard_msg.h).
type Command uint32

// Commands.
const (
	CmdEstablishContext     Command = 0x01
	CmdReleaseContext       Command = 0x02
	CmdConnect              Command = 0x04
	CmdReconnect            Command = 0x05
	CmdDisconnect           Command = 0x06
	CmdBeginTransaction     Command = 0x07
	CmdEndTransaction       Command = 0x08
	CmdTransmit             Command = 0x09
	CmdControl              Command = 0x0A
	CmdStatus               Command = 0x0B
	CmdCancel               Command = 0x0D
	CmdGetAttrib            Command = 0x0F
	CmdSetAttrib            Command = 0x10
	CmdVersion              Command = 0x11
	CmdGetReadersState      Command = 0x12
	CmdWaitReaderState      Command = 0x13
	CmdStopWaiting          Command = 0x14
	CmdGetReaderEvents      Command = 0x15 // 4.5
	CmdGetReadersStateSize  Command = 0x16 // 4.6
	CmdGetReadersStateArray Command = 0x17 // 4.6
)

// Protocol versions that the server speaks.
const (
	ProtocolMajor = 4
	minMinor      = 3
	maxMinor      = 6
)

// Sizes in bytes.
const (
	headerSize      = 8
	readerStateSize = 184
	attribSize      = 280
	connectSize     = 152
)

// bodySize is the size of a command's fixed body for a client of the given minor version; ok is false for a command
// that this version does not have.
func bodySize(c Command, minor int32) (size int, ok bool) {
	switch c {
	case CmdEstablishContext, CmdVersion, CmdDisconnect, CmdEndTransaction:
		return 12, true
	case CmdReleaseContext, CmdBeginTransaction, CmdStatus, CmdCancel:
		return 8, true
	case CmdConnect:
		return connectSize, true
	case CmdReconnect, CmdControl:
		return 24, true
	case CmdTransmit:
		return 32, true
	case CmdGetAttrib, CmdSetAttrib:
		return attribSize, true
	case CmdGetReadersState:
		return 0, true
	case CmdWaitReaderState, CmdStopWaiting:
		if minor <= 3 {
			return 8, true
		}
		return 0, true
	case CmdGetReaderEvents:
		return 0, minor >= 5
	case CmdGetReadersStateSize, CmdGetReadersStateArray:
		return 0, minor >= 6
	}
	return 0, false
}

// Header begins every request.
type Header struct {
	Size    uint32 // bytes of the fixed body
	Command Command
}

// VersionMessage is the first exchange on a connection.
type VersionMessage struct {
	Major, Minor int32
	Result       Error
}

// EstablishMessage asks for a context and brings its number.
type EstablishMessage struct {
	Scope   Scope
	Context SCardContext
	Result  Error
}

// ContextMessage is the body of RELEASE_CONTEXT and CANCEL.
type ContextMessage struct {
	Context SCardContext
	Result  Error
}

// ConnectMessage is the body of CONNECT.
type ConnectMessage struct {
	Context   SCardContext
	Reader    [MaxReaderName]byte // up to the first NUL
	Mode      ShareMode
	Protocols Protocol
	Handle    Handle
	Active    Protocol
	Result    Error
}

// ReconnectMessage is the body of RECONNECT.
type ReconnectMessage struct {
	Handle         Handle
	Mode           ShareMode
	Protocols      Protocol
	Initialization Disposition
	Active         Protocol
	Result         Error
}

// DispositionMessage is the body of DISCONNECT and END_TRANSACTION.
type DispositionMessage struct {
	Handle      Handle
	Disposition Disposition
	Result      Error
}

// HandleMessage is the body of BEGIN_TRANSACTION and STATUS.
type HandleMessage struct {
	Handle Handle
	Result Error
}

// TransmitMessage is the body of TRANSMIT. SendLength bytes follow the request; RecvLength bytes follow the answer
// when Result is success. In the request RecvLength is the client's room.
type TransmitMessage struct {
	Handle       Handle
	SendProtocol Protocol
	SendPCI      uint32
	SendLength   uint32
	RecvProtocol Protocol
	RecvPCI      uint32
	RecvLength   uint32
	Result       Error
}

// ControlMessage is the body of CONTROL, with SendLength bytes after the request and Returned after the answer.
type ControlMessage struct {
	Handle     Handle
	Code       uint32
	SendLength uint32
	RecvLength uint32
	Returned   uint32
	Result     Error
}

// AttribMessage is the body of GET_ATTRIB and SET_ATTRIB.
type AttribMessage struct {
	Handle Handle
	ID     Attrib
	Value  [MaxBuffer]byte
	Length uint32 // at most MaxBuffer
	Result Error
}

// WaitMessage is an event, the end of a wait, and the body of WAIT and STOP up to 4.3.
type WaitMessage struct {
	Timeout uint32 // not used
	Result  Error
}

// ReaderEventsMessage is the answer of GET_READER_EVENTS.
type ReaderEventsMessage struct {
	Events uint32
	Result Error
}

// ReaderStateMessage is one element of the reader states; Reader[0] == 0 for a free one.
type ReaderStateMessage struct {
	Reader       [MaxReaderName]byte
	EventCounter uint32
	State        State
	Sharing      int32 // -1 exclusive, else the number of connections
	ATR          [MaxATR]byte
	Pad          [3]byte
	ATRLength    uint32
	Protocol     Protocol
}

// message is a structure of the protocol: fields lists pointers to its fields in order, the one description of a
// layout that reading and writing share.
type message interface{ fields() []any }

func (m *Header) fields() []any         { return []any{&m.Size, (*uint32)(&m.Command)} }
func (m *VersionMessage) fields() []any { return []any{&m.Major, &m.Minor, (*uint32)(&m.Result)} }
func (m *EstablishMessage) fields() []any {
	return []any{(*uint32)(&m.Scope), (*uint32)(&m.Context), (*uint32)(&m.Result)}
}
func (m *ContextMessage) fields() []any { return []any{(*uint32)(&m.Context), (*uint32)(&m.Result)} }
func (m *ConnectMessage) fields() []any {
	return []any{(*uint32)(&m.Context), m.Reader[:], (*uint32)(&m.Mode), (*uint32)(&m.Protocols), (*uint32)(&m.Handle),
		(*uint32)(&m.Active), (*uint32)(&m.Result)}
}
func (m *ReconnectMessage) fields() []any {
	return []any{(*uint32)(&m.Handle), (*uint32)(&m.Mode), (*uint32)(&m.Protocols), (*uint32)(&m.Initialization),
		(*uint32)(&m.Active), (*uint32)(&m.Result)}
}
func (m *DispositionMessage) fields() []any {
	return []any{(*uint32)(&m.Handle), (*uint32)(&m.Disposition), (*uint32)(&m.Result)}
}
func (m *HandleMessage) fields() []any { return []any{(*uint32)(&m.Handle), (*uint32)(&m.Result)} }
func (m *TransmitMessage) fields() []any {
	return []any{(*uint32)(&m.Handle), (*uint32)(&m.SendProtocol), &m.SendPCI, &m.SendLength, (*uint32)(&m.RecvProtocol),
		&m.RecvPCI, &m.RecvLength, (*uint32)(&m.Result)}
}
func (m *ControlMessage) fields() []any {
	return []any{(*uint32)(&m.Handle), &m.Code, &m.SendLength, &m.RecvLength, &m.Returned, (*uint32)(&m.Result)}
}
func (m *AttribMessage) fields() []any {
	return []any{(*uint32)(&m.Handle), (*uint32)(&m.ID), m.Value[:], &m.Length, (*uint32)(&m.Result)}
}
func (m *WaitMessage) fields() []any         { return []any{&m.Timeout, (*uint32)(&m.Result)} }
func (m *ReaderEventsMessage) fields() []any { return []any{&m.Events, (*uint32)(&m.Result)} }
func (m *ReaderStateMessage) fields() []any {
	return []any{m.Reader[:], &m.EventCounter, (*uint32)(&m.State), &m.Sharing, m.ATR[:], m.Pad[:], &m.ATRLength,
		(*uint32)(&m.Protocol)}
}

// decode fills m from exactly its size in b.
func decode(m message, b []byte) error {
	whole := len(b)
	for _, f := range m.fields() {
		n := 4
		if bytes, ok := f.([]byte); ok {
			n = len(bytes)
		}
		if len(b) < n {
			return fmt.Errorf("%T: %d bytes are too few", m, whole)
		}
		switch f := f.(type) {
		case *uint32:
			*f = binary.NativeEndian.Uint32(b)
		case *int32:
			*f = int32(binary.NativeEndian.Uint32(b))
		case []byte:
			copy(f, b)
		}
		b = b[n:]
	}
	if len(b) != 0 {
		return fmt.Errorf("%T: %d bytes are too many", m, whole)
	}
	return nil
}

// encode appends m to b.
func encode(b []byte, m message) []byte {
	for _, f := range m.fields() {
		switch f := f.(type) {
		case *uint32:
			b = binary.NativeEndian.AppendUint32(b, *f)
		case *int32:
			b = binary.NativeEndian.AppendUint32(b, uint32(*f))
		case []byte:
			b = append(b, f...)
		}
	}
	return b
}

// cString is the text before the first NUL, or all of b.
func cString(b []byte) string {
	if i := bytes.IndexByte(b, 0); i >= 0 {
		b = b[:i]
	}
	return string(b)
}
