package server

import (
	"sync"

	"golang.org/x/sys/unix"

	"pam_pkcs11/pcsc"
	"pam_pkcs11/pcsc/internal/wire"
)

// mailbox is the way of the one message that comes unasked: the end of a wait. It goes out between answers, never inside
// one, and to a client of 4.6 not before it has got the states that it armed itself against.
type mailbox struct {
	fd int

	mu      sync.Mutex // guards the fields below
	armed   bool       // a message is expected
	held    bool       // it is kept back until release
	writing bool       // an answer is on its way
	due     bool       // the message has come, and is not out yet
	closed  bool
	result  pcsc.Error
}

// arm expects one message; held keeps it back until release.
func (b *mailbox) arm(held bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.armed, b.held, b.due = true, held, false
}

// disarm expects none any more.
func (b *mailbox) disarm() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.armed = false
}

// close ends the mailbox before the descriptor is closed: a change that is being told just now, or a CANCEL,
// would else reach the next client that gets the same descriptor.
func (b *mailbox) close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.armed, b.due, b.closed = false, false, true
}

// post sends the message that was expected; others are lost. It never waits.
func (b *mailbox) post(result pcsc.Error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.armed || b.closed {
		return
	}
	b.armed, b.due, b.result = false, true, result
	b.flush()
}

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

// release lets a message go that was held back.
func (b *mailbox) release() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.held = false
	b.flush()
}

// flush sends what is due; b.mu is held. A client that does not even take eight bytes is cut off.
func (b *mailbox) flush() {
	if !b.due || b.held || b.writing {
		return
	}
	b.due = false
	message := wire.Append(make([]byte, 0, wire.Size[wire.WaitMessage]()), &wire.WaitMessage{Result: uint32(b.result)})
	if err := unix.Send(b.fd, message, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL); err != nil {
		unix.Shutdown(b.fd, unix.SHUT_RDWR)
	}
}
