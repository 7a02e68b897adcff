package server

import (
	"sync"

	"golang.org/x/sys/unix"

	"pam_pkcs11/pcsc"
	"pam_pkcs11/pcsc/internal/wire"
)

// mailbox sends the one message that the client has not asked for just now: the end of its wait. It
// goes out between answers, never inside one, and to a client of 4.6 not before that has got the
// states that it compares with.
type mailbox struct {
	fd int

	mu      sync.Mutex // guards the fields below
	armed   bool       // a message is expected
	held    bool       // it is kept back until release
	writing bool       // an answer is on its way
	due     bool       // the message has come, and was not sent yet
	closed  bool
	result  pcsc.Error
}

// arm expects one message; held keeps it back until release.
func (b *mailbox) arm(held bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.armed = true
	b.held = held
	b.due = false
}

// disarm takes arm back.
func (b *mailbox) disarm() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.armed = false
}

// close ends the mailbox before the descriptor is closed. A change that is being posted just now,
// or a CANCEL, would otherwise reach the next client that gets the same descriptor.
func (b *mailbox) close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.armed = false
	b.due = false
	b.closed = true
}

// post sends the message that was expected; others are lost. It never waits.
func (b *mailbox) post(result pcsc.Error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.armed || b.closed {
		return
	}

	b.armed = false
	b.due = true
	b.result = result
	b.flush()
}

// begin keeps the message back while an answer is being written, until end.
func (b *mailbox) begin() {
	b.mu.Lock()
	b.writing = true
	b.mu.Unlock()
}

func (b *mailbox) end() {
	b.mu.Lock()
	b.writing = false
	b.flush()
	b.mu.Unlock()
}

// release sends a message that was held back.
func (b *mailbox) release() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.held = false
	b.flush()
}

// flush sends what is due; b.mu is held. A client whose socket has no room for eight
// bytes is disconnected.
func (b *mailbox) flush() {
	if !b.due || b.held || b.writing {
		return
	}

	b.due = false
	wait := wire.WaitMessage{Result: uint32(b.result)}
	message := wire.Append(make([]byte, 0, wire.Size[wire.WaitMessage]()), &wait)
	// It must not block: who posts may hold locks, or be another client's goroutine.
	if err := unix.Send(b.fd, message, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL); err != nil {
		unix.Shutdown(b.fd, unix.SHUT_RDWR)
	}
}
