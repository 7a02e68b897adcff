package main

import (
	"errors"
	"fmt"
	"sync"

	"pam_pkcs11/ccid/ccidtest"
)

// tracedCard is a card whose commands and answers can be reported to a listener, and held.
type tracedCard struct {
	ccidtest.Card

	mu          sync.Mutex    // guards the fields below
	number      int           // of commands so far
	listener    chan<- string // nil: nobody listens
	trace, hold bool
	waiting     chan bool // true lets what waits go on, false drops it; nil: nothing waits
}

func newTracedCard(c ccidtest.Card) *tracedCard { return &tracedCard{Card: c} }

// errDropped is a command that did not reach the card, or an answer that did not reach the reader.
var errDropped = errors.New("the card does not answer")

// Transmit sends a command to the card. The command and the answer are reported.
func (w *tracedCard) Transmit(command []byte) ([]byte, error) {
	w.mu.Lock()
	w.number++
	number := w.number
	w.mu.Unlock()

	if !w.pass(fmt.Sprintf("before %d %X", number, withoutPIN(command))) {
		return nil, errDropped
	}

	answer, err := w.Card.Transmit(command)
	if err != nil {
		return nil, err
	}

	// The command has had its effect, even if the answer is dropped.
	if !w.pass(fmt.Sprintf("after %d %X", number, answer)) {
		return nil, errDropped
	}
	return answer, nil
}

// pass reports a command or an answer, and waits if it is to be held. It reports whether the
// command or answer goes on.
func (w *tracedCard) pass(what string) bool {
	w.mu.Lock()
	if w.listener == nil || !w.trace && !w.hold {
		w.mu.Unlock()
		return true
	}

	// Under mu: after setListener(nil) nobody sends to the old channel any more.
	w.listener <- what
	if !w.hold {
		w.mu.Unlock()
		return true
	}

	// What waits is let go without mu, by control or by setListener.
	waiting := make(chan bool, 1)
	w.waiting = waiting
	w.mu.Unlock()
	return <-waiting
}

// setListener sets who gets the reports; nil is nobody, and what waits goes on.
func (w *tracedCard) setListener(listener chan<- string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.listener = listener
	w.trace = false
	w.hold = false
	w.release(true)
}

// release lets what waits go on, or drops it, and reports whether anything waited; w.mu is held.
func (w *tracedCard) release(on bool) bool {
	if w.waiting == nil {
		return false
	}

	// The channel has room: this does not block.
	w.waiting <- on
	w.waiting = nil
	return true
}

// control carries out the word of a client.
func (w *tracedCard) control(word string) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch word {
	case "trace":
		w.trace = true
	case "hold":
		w.hold = true
	case "free":
		w.trace = false
		w.hold = false
		w.release(true)
	case "go", "drop":
		if !w.release(word == "go") {
			return "no command waits"
		}
	}
	return "ok"
}

// withoutPIN is a command without the data that may be a PIN, even if its lengths are wrong.
func withoutPIN(command []byte) []byte {
	const verify, change, reset = 0x20, 0x24, 0x2C
	if len(command) <= 5 {
		return command
	}

	// The data is not looked for by Lc, which a wrong command may have wrong.
	switch command[1] {
	case verify, change, reset:
		return command[:5]
	}
	return command
}
