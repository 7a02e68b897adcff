package wire

// Sizes in bytes, as libpcsclite has them (pcsclite.h).
const (
	MaxReaderName = 128 // of a reader name with its NUL
	MaxATR        = 33
	MaxAttribute  = 264
)

// Header begins every request.
type Header struct {
	Size    uint32  // bytes of the fixed body
	Command Command // what is asked for
}

// VersionMessage is the first exchange on a connection.
type VersionMessage struct {
	Major, Minor int32
	Result       uint32
}

// EstablishMessage asks for a context and brings its number.
type EstablishMessage struct {
	Scope   uint32
	Context uint32
	Result  uint32
}

// ContextMessage is the body of RELEASE_CONTEXT and CANCEL.
type ContextMessage struct {
	Context uint32
	Result  uint32
}

// ConnectMessage is the body of CONNECT.
type ConnectMessage struct {
	Context   uint32
	Reader    [MaxReaderName]byte // up to the first NUL
	Mode      uint32
	Protocols uint32
	Handle    uint32
	Active    uint32
	Result    uint32
}

// ReconnectMessage is the body of RECONNECT.
type ReconnectMessage struct {
	Handle         uint32
	Mode           uint32
	Protocols      uint32
	Initialization uint32
	Active         uint32
	Result         uint32
}

// DispositionMessage is the body of DISCONNECT and END_TRANSACTION.
type DispositionMessage struct {
	Handle      uint32
	Disposition uint32
	Result      uint32
}

// HandleMessage is the body of BEGIN_TRANSACTION and STATUS.
type HandleMessage struct {
	Handle uint32
	Result uint32
}

// TransmitMessage is the body of TRANSMIT. SendLength bytes follow the request; RecvLength bytes
// follow the answer when Result is success. In the request RecvLength is the client's room.
type TransmitMessage struct {
	Handle       uint32
	SendProtocol uint32
	SendPCI      uint32
	SendLength   uint32
	RecvProtocol uint32
	RecvPCI      uint32
	RecvLength   uint32
	Result       uint32
}

// ControlMessage is the body of CONTROL, with SendLength bytes after the request and
// Returned after the answer.
type ControlMessage struct {
	Handle     uint32
	Code       uint32
	SendLength uint32
	RecvLength uint32
	Returned   uint32
	Result     uint32
}

// AttribMessage is the body of GET_ATTRIB and SET_ATTRIB.
type AttribMessage struct {
	Handle uint32
	ID     uint32
	Value  [MaxAttribute]byte
	Length uint32 // at most MaxAttribute
	Result uint32
}

// WaitMessage is an event, the end of a wait, and the body of WAIT and STOP up to 4.3.
type WaitMessage struct {
	Timeout uint32 // not used
	Result  uint32
}

// ReaderEventsMessage is the answer of GET_READER_EVENTS.
type ReaderEventsMessage struct {
	Events uint32
	Result uint32
}

// ReaderStateMessage is one element of the reader states; Reader[0] == 0 for a free one.
type ReaderStateMessage struct {
	Reader       [MaxReaderName]byte
	EventCounter uint32
	State        uint32
	Sharing      int32 // -1 exclusive, else the number of connections
	ATR          [MaxATR]byte
	Pad          [3]byte
	ATRLength    uint32
	Protocol     uint32
}

// SizeMessage is the answer of GET_READERS_STATE_SIZE: a number of reader states, and no result.
type SizeMessage struct {
	States uint32
}
