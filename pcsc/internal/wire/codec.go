package wire

import (
	"bytes"
	"fmt"
	"unsafe"
)

// Message is a structure of the protocol. All of its fields are integers of 32 bits and arrays of
// bytes, in such an order that nothing lies between them (TestLayout): what is in memory is what
// goes over the socket.
type Message interface {
	Header | VersionMessage | EstablishMessage | ContextMessage | ConnectMessage |
		ReconnectMessage | DispositionMessage | HandleMessage | TransmitMessage | ControlMessage |
		AttribMessage | WaitMessage | ReaderEventsMessage | ReaderStateMessage | SizeMessage
}

// Size is the size of a message in bytes.
func Size[M Message]() int {
	var m M
	return int(unsafe.Sizeof(m))
}

// Decode fills m from b, which has exactly its size.
func Decode[M Message](m *M, b []byte) error {
	if len(b) != Size[M]() {
		return sizeError[M](len(b))
	}
	copy(memory(m), b)
	return nil
}

func sizeError[M Message](n int) error {
	var m M
	if n < Size[M]() {
		return fmt.Errorf("%T: %d bytes are too few", m, n)
	}
	return fmt.Errorf("%T: %d bytes are too many", m, n)
}

// Append appends m to b.
func Append[M Message](b []byte, m *M) []byte { return append(b, memory(m)...) }

// Put writes m to the beginning of b, which has room for it.
func Put[M Message](b []byte, m *M) { copy(b[:Size[M]()], memory(m)) }

// memory is the bytes that m consists of.
func memory[M Message](m *M) []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(m)), Size[M]())
}

// Text is the text before the first NUL, or all of b.
func Text(b []byte) string {
	if i := bytes.IndexByte(b, 0); i >= 0 {
		b = b[:i]
	}
	return string(b)
}
