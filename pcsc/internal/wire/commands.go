// Package wire is the socket protocol of pcsc-lite, versions 4.2 to 4.6: the numbers of its
// commands and the layout of its messages.
//
// Integers are 32 bits in the byte order of the host. A request is a Header (bytes of the body,
// command) and the body; variable data follows it and is not counted in the header. An answer is
// the body alone, filled in. The result is always the last field.
//
// Each layout is written once, as a structure of Go: sizes, reading and writing follow from it.
// testdata has what pcsc-lite's own headers say.
package wire

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
	Major    = 4
	MinMinor = 3
	MaxMinor = 6
)

// BodySize is the size of a command's fixed body for a client of the given minor version; ok is
// false for a command that this version does not have.
func BodySize(c Command, minor int32) (size int, ok bool) {
	switch c {
	case CmdVersion:
		return Size[VersionMessage](), true
	case CmdEstablishContext:
		return Size[EstablishMessage](), true
	case CmdReleaseContext, CmdCancel:
		return Size[ContextMessage](), true
	case CmdConnect:
		return Size[ConnectMessage](), true
	case CmdReconnect:
		return Size[ReconnectMessage](), true
	case CmdDisconnect, CmdEndTransaction:
		return Size[DispositionMessage](), true
	case CmdBeginTransaction, CmdStatus:
		return Size[HandleMessage](), true
	case CmdTransmit:
		return Size[TransmitMessage](), true
	case CmdControl:
		return Size[ControlMessage](), true
	case CmdGetAttrib, CmdSetAttrib:
		return Size[AttribMessage](), true
	case CmdGetReadersState:
		return 0, true
	case CmdWaitReaderState, CmdStopWaiting:
		// From 4.4 on these are a header alone.
		if minor <= 3 {
			return Size[WaitMessage](), true
		}
		return 0, true
	case CmdGetReaderEvents:
		return 0, minor >= 5
	case CmdGetReadersStateSize, CmdGetReadersStateArray:
		return 0, minor >= 6
	}
	return 0, false
}

// DataLength is how many bytes follow the body of a command.
func DataLength(c Command, body []byte) uint32 {
	switch c {
	case CmdTransmit:
		var m TransmitMessage
		if Decode(&m, body) == nil {
			return m.SendLength
		}
	case CmdControl:
		var m ControlMessage
		if Decode(&m, body) == nil {
			return m.SendLength
		}
	}
	return 0
}
