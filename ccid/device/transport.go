// Package device is a CCID interface as USB shows it: what its descriptors say, and the Transport
// that carries bytes to it and back. A serial line and a simulation look the same from above.
package device

import (
	"context"
	"errors"
	"io"
)

// Transport carries the bytes of one CCID interface. It is the seam of the driver: below it are a
// USB stack, a serial port or a simulated reader, above it everything that the specification says.
//
// Every method ends when ctx does, with an error for which errors.Is(err, ctx.Err()) holds. ErrGone
// means that the device is not there any more; every later call says so too. A method may be called
// while another is running; no method is called twice at the same time, but for Control.
type Transport interface {
	// BulkOut sends one message as one bulk transfer.
	BulkOut(ctx context.Context, message []byte) error

	// BulkIn receives one bulk transfer into p: bytes up to the first short packet, or as many as p
	// holds. 0 bytes are a packet without content, and no error.
	BulkIn(ctx context.Context, p []byte) (int, error)

	// Interrupt receives one notification into p. errors.ErrUnsupported: the interface has no
	// interrupt endpoint.
	Interrupt(ctx context.Context, p []byte) (int, error)

	// Control performs a request on endpoint 0. Its direction is bit 7 of setup.RequestType: data
	// is what is sent, or takes what is received. It returns the number of bytes that were moved.
	Control(ctx context.Context, setup Setup, data []byte) (int, error)

	// Close closes the interface. Calls in progress end with an error. It may be called twice.
	Close() error
}

// Reclaimer is a Transport that can start its interface anew, for a reader that does not answer any
// more.
type Reclaimer interface {
	// Reclaim releases the interface and claims it again, so that both sides forget halts and
	// transfers that were cut off.
	Reclaim(ctx context.Context) error
	// Reset resets the device. All its interfaces lose their state, those of other readers too.
	Reset(ctx context.Context) error
}

// Setup is the request of a control transfer (USB 2.0, section 9.3). wLength is the length of the
// data.
type Setup struct {
	RequestType byte   // bmRequestType
	Request     byte   // bRequest
	Value       uint16 // wValue
	Index       uint16 // wIndex
}

// In reports whether the device sends the data.
func (s Setup) In() bool { return s.RequestType&0x80 != 0 }

// Class requests of CCID (CCID 1.1, section 5.3).
const (
	RequestAbort     = 0x01 // goes with the message Abort
	RequestDataRates = 0x03 // GET_DATA_RATES
)

// Errors of a Transport.
var (
	// ErrGone: the device is not there any more.
	ErrGone = errors.New("the reader is gone")
	// ErrStall: the device refused the transfer, and halted the endpoint if it is not endpoint 0.
	ErrStall = errors.New("the reader refused the transfer (stall)")
	// ErrOverflow: the device sent more than was asked for (babble).
	ErrOverflow = errors.New("the reader sent more than was asked for")
	// ErrClosed: the Transport has been closed.
	ErrClosed = io.ErrClosedPipe
)

// IsGone reports whether err means that nothing can be sent any more: ErrGone or ErrClosed.
func IsGone(err error) bool { return errors.Is(err, ErrGone) || errors.Is(err, ErrClosed) }
