// Package pcsc is PC/SC in Go: smart-card readers shared between programs.
//
// There is one Service in two forms. Client is a Service over the socket of a daemon, be it ours or
// pcscd: it is what programs use. The package resmgr has the resource manager itself, for a program
// that drives its readers inside its own process, over Drivers that are plugged into it. The
// package server makes a resource manager available on a socket, in the protocol of pcsc-lite
// (versions 4.3 to 4.6), so that every program that has libpcsclite can use it.
//
// Context and Card are the convenient way to use any Service. Each call that can wait is there
// twice: once as in winscard.h, and once with a context.Context in front, whose end ends the wait
// with ErrCancelled.
package pcsc

import (
	"context"
	"time"
)

// SCardContext is the number of an established context (SCARDCONTEXT).
type SCardContext uint32

// Handle is the number of a connection to a card or reader (SCARDHANDLE).
type Handle uint32

// Service is what a resource manager does, function for function as in PC/SC part 5 and
// winscard.h. Errors are of type Error. Calls that can wait for others take a ctx, and give
// ErrCancelled when it ends.
type Service interface {
	EstablishContext(scope Scope) (SCardContext, error)
	// ReleaseContext also closes the handles made with the context.
	ReleaseContext(sc SCardContext) error
	IsValidContext(sc SCardContext) error

	// ListReaders gives ErrNoReadersAvailable rather than an empty list.
	ListReaders(sc SCardContext) ([]string, error)
	ListReaderGroups(sc SCardContext) ([]string, error)

	// Connect waits while another connection holds a transaction on the reader.
	Connect(
		ctx context.Context, sc SCardContext, reader string, mode ShareMode, protocols Protocol,
	) (Handle, Protocol, error)
	Reconnect(
		h Handle, mode ShareMode, protocols Protocol, initialization Disposition,
	) (Protocol, error)
	Disconnect(ctx context.Context, h Handle, d Disposition) error

	// BeginTransaction waits its turn: transactions are granted first come, first served.
	BeginTransaction(ctx context.Context, h Handle) error
	EndTransaction(h Handle, d Disposition) error

	// Transmit sends a command of at most MaxBufferExtended bytes. max is the caller's room for the
	// answer; an answer that is longer is ErrInsufficientBuffer. ErrSharingViolation while another
	// handle holds a transaction.
	Transmit(h Handle, protocol Protocol, command []byte, max int) ([]byte, error)
	Control(h Handle, code uint32, in []byte, max int) ([]byte, error)
	Status(h Handle) (*CardStatus, error)

	// GetStatusChange waits until a reader is no longer in the state given as CurrentState, and
	// fills in EventState and ATR. A negative timeout is for ever; with 0 it only looks.
	GetStatusChange(
		ctx context.Context, sc SCardContext, states []ReaderState, timeout time.Duration,
	) error
	// Cancel ends a GetStatusChange that is waiting now on sc with ErrCancelled; it has no
	// effect on a later one.
	Cancel(sc SCardContext) error

	GetAttrib(h Handle, id Attrib) ([]byte, error)
	SetAttrib(h Handle, id Attrib, value []byte) error
}

// CardStatus is the answer of Status.
type CardStatus struct {
	Reader         string
	State          State // dwState of SCardStatus without its high 16 bits: EventCounter
	EventCounter   uint16
	ActiveProtocol Protocol
	ATR            []byte
}

// ReaderState is one reader's part in GetStatusChange.
type ReaderState struct {
	Reader       string
	UserData     any
	CurrentState StateFlag // what the caller knows: the last EventState, or StateUnaware
	EventState   StateFlag // what is
	ATR          []byte    // of the card, when one is present
}
