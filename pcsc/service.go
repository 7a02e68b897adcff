// Package pcsc is a PC/SC resource manager: smart-card readers shared between programs.
//
// There is one Service in three forms. Manager is the resource manager inside the process, over Drivers that are
// plugged into it. Server makes a Manager available on a socket, in the protocol of pcsc-lite (versions 4.3 to 4.6), so
// that every program that has libpcsclite can use it. Client is a Service over that socket, be it ours or pcscd's.
//
// Context and Card are the convenient way to use any of them.
package pcsc

import (
	"context"
	"time"
)

// SCardContext is the number of an established context (SCARDCONTEXT).
type SCardContext uint32

// Handle is the number of a connection to a card or reader (SCARDHANDLE).
type Handle uint32

// Service is what a resource manager does, function for function as in PC/SC part 5 and winscard.h. Errors are of type
// Error. Calls that can wait for others take a ctx, and give ErrCancelled when it ends.
type Service interface {
	EstablishContext(scope Scope) (SCardContext, error)
	// ReleaseContext also closes the handles made with the context.
	ReleaseContext(sc SCardContext) error
	IsValidContext(sc SCardContext) error

	// ListReaders gives ErrNoReadersAvailable rather than an empty list.
	ListReaders(sc SCardContext) ([]string, error)
	ListReaderGroups(sc SCardContext) ([]string, error)

	// Connect waits while another connection holds a transaction on the reader.
	Connect(ctx context.Context, sc SCardContext, reader string, mode ShareMode, protocols Protocol) (Handle, Protocol, error)
	Reconnect(h Handle, mode ShareMode, protocols Protocol, initialization Disposition) (Protocol, error)
	Disconnect(ctx context.Context, h Handle, d Disposition) error

	// BeginTransaction waits its turn: transactions are granted first come, first served.
	BeginTransaction(ctx context.Context, h Handle) error
	EndTransaction(h Handle, d Disposition) error

	// Transmit sends a command of at most MaxBufferExtended bytes. max is the caller's room for the answer; an answer
	// that is longer is ErrInsufficientBuffer. ErrSharingViolation while another handle holds a transaction.
	Transmit(h Handle, protocol Protocol, command []byte, max int) ([]byte, error)
	Control(h Handle, code uint32, in []byte, max int) ([]byte, error)
	Status(h Handle) (*CardStatus, error)

	// GetStatusChange waits until a reader is no longer in the state given as CurrentState, and fills in EventState
	// and Atr. A negative timeout is for ever; with 0 it only looks.
	GetStatusChange(ctx context.Context, sc SCardContext, states []ReaderState, timeout time.Duration) error
	// Cancel ends a GetStatusChange that is waiting now on sc with ErrCancelled; it has no effect on a later one.
	Cancel(sc SCardContext) error

	GetAttrib(h Handle, id Attrib) ([]byte, error)
	SetAttrib(h Handle, id Attrib, value []byte) error
}

// CardStatus is the answer of Status.
type CardStatus struct {
	Reader         string
	State          State // the high 16 bits of SCardStatus's dwState, the event counter, are in EventCounter
	EventCounter   uint16
	ActiveProtocol Protocol
	Atr            []byte
}

// ReaderState is one reader's part in GetStatusChange.
type ReaderState struct {
	Reader       string
	UserData     any
	CurrentState StateFlag // what the caller knows: the EventState of the last call, or StateUnaware
	EventState   StateFlag // what is
	Atr          []byte    // of the card, when one is present
}

// Context is an established context of some Service.
type Context struct {
	service Service
	sc      SCardContext
}

// NewContext establishes a context with s.
func NewContext(s Service) (*Context, error) {
	sc, err := s.EstablishContext(ScopeSystem)
	if err != nil {
		return nil, err
	}
	return &Context{service: s, sc: sc}, nil
}

// IsValid reports whether the context can still be used.
func (c *Context) IsValid() (bool, error) {
	switch err := c.service.IsValidContext(c.sc); err {
	case nil:
		return true, nil
	case ErrInvalidHandle:
		return false, nil
	default:
		return false, err
	}
}

// Release ends the context; a GetStatusChange that waits on it ends with ErrCancelled.
func (c *Context) Release() error { return c.service.ReleaseContext(c.sc) }

// Cancel ends the GetStatusChange that is waiting on this context.
func (c *Context) Cancel() error { return c.service.Cancel(c.sc) }

// ListReaders names the readers.
func (c *Context) ListReaders() ([]string, error) { return c.service.ListReaders(c.sc) }

// ListReaderGroups names the reader groups: there is one.
func (c *Context) ListReaderGroups() ([]string, error) { return c.service.ListReaderGroups(c.sc) }

// GetStatusChange waits for a change, see Service.
func (c *Context) GetStatusChange(states []ReaderState, timeout time.Duration) error {
	return c.service.GetStatusChange(context.Background(), c.sc, states, timeout)
}

// Connect connects to the card in a reader.
func (c *Context) Connect(reader string, mode ShareMode, protocols Protocol) (*Card, error) {
	h, active, err := c.service.Connect(context.Background(), c.sc, reader, mode, protocols)
	if err != nil {
		return nil, err
	}
	return &Card{service: c.service, handle: h, active: active}, nil
}

// Card is a connection to a card, or to a reader without one.
type Card struct {
	service Service
	handle  Handle
	active  Protocol
}

// ActiveProtocol is the protocol agreed on at Connect or Reconnect.
func (c *Card) ActiveProtocol() Protocol { return c.active }

// Handle is the number of the connection, for use with the Service itself.
func (c *Card) Handle() Handle { return c.handle }

// Disconnect ends the connection.
func (c *Card) Disconnect(d Disposition) error {
	return c.service.Disconnect(context.Background(), c.handle, d)
}

// Reconnect takes up the connection after a reset, or changes its mode or protocol.
func (c *Card) Reconnect(mode ShareMode, protocols Protocol, initialization Disposition) error {
	return c.patiently(func() error {
		active, err := c.service.Reconnect(c.handle, mode, protocols, initialization)
		if err == nil {
			c.active = active
		}
		return err
	})
}

// BeginTransaction waits until no other connection uses the card, and keeps them off.
func (c *Card) BeginTransaction() error {
	return c.service.BeginTransaction(context.Background(), c.handle)
}

// EndTransaction lets the others in again.
func (c *Card) EndTransaction(d Disposition) error { return c.service.EndTransaction(c.handle, d) }

// Transmit exchanges one APDU. It waits while another connection holds a transaction.
func (c *Card) Transmit(command []byte) (answer []byte, err error) {
	err = c.patiently(func() error {
		answer, err = c.service.Transmit(c.handle, c.active, command, MaxBufferExtended)
		return err
	})
	return answer, err
}

// Control performs a reader command. It works without a card on a connection made with ShareDirect.
func (c *Card) Control(code uint32, in []byte) ([]byte, error) {
	return c.service.Control(c.handle, code, in, MaxBufferExtended)
}

// Status tells what is in the reader. It waits while another connection holds a transaction.
func (c *Card) Status() (status *CardStatus, err error) {
	err = c.patiently(func() error {
		status, err = c.service.Status(c.handle)
		return err
	})
	return status, err
}

// GetAttrib reads a reader attribute.
func (c *Card) GetAttrib(id Attrib) ([]byte, error) { return c.service.GetAttrib(c.handle, id) }

// SetAttrib writes a reader attribute.
func (c *Card) SetAttrib(id Attrib, value []byte) error {
	return c.service.SetAttrib(c.handle, id, value)
}

// patiently makes a call that is refused during somebody's transaction. Where libpcsclite sleeps 100 ms and asks again,
// this queues up for a transaction of its own, so that the turn comes as soon as it can.
func (c *Card) patiently(call func() error) error {
	err := call()
	if err != ErrSharingViolation {
		return err
	}
	if err := c.service.BeginTransaction(context.Background(), c.handle); err != nil {
		// The wait may end with the very thing that the call is there to repair or to tell (a reset, a removal).
		return call()
	}
	err = call()
	if end := c.service.EndTransaction(c.handle, LeaveCard); err == nil && end == ErrCommError {
		return end
	}
	return err
}
