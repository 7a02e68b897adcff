package main

import (
	"errors"
	"fmt"
	"sync"

	"pam_pkcs11/ccid/ccidtest"
)

// watched is a card of which somebody may be told each command, and may hold it up.
type watched struct {
	ccidtest.Card

	mu          sync.Mutex
	number      int           // of commands so far
	tell        chan<- string // nil: nobody listens
	trace, hold bool
	waiting     chan bool // what waits gets true to go on, false to go nowhere; nil: nothing waits
}

func watch(c ccidtest.Card) *watched { return &watched{Card: c} }

// errDropped is a command that did not reach the card, or an answer that did not reach the reader.
var errDropped = errors.New("the card does not answer")

// Transmit has the card answer, before and after which the listener is told.
func (w *watched) Transmit(command []byte) ([]byte, error) {
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
	if !w.pass(fmt.Sprintf("after %d %X", number, answer)) {
		return nil, errDropped
	}
	return answer, nil
}

// pass tells of a command or an answer, and waits where it is to be held up. It reports whether it
// goes on.
func (w *watched) pass(what string) bool {
	w.mu.Lock()
	if w.tell == nil || !w.trace && !w.hold {
		w.mu.Unlock()
		return true
	}
	w.tell <- what
	if !w.hold {
		w.mu.Unlock()
		return true
	}
	waiting := make(chan bool, 1)
	w.waiting = waiting
	w.mu.Unlock()
	return <-waiting
}

// listener sets who is told; nil is nobody, and whatever waits goes on.
func (w *watched) listener(tell chan<- string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.tell, w.trace, w.hold = tell, false, false
	w.release(true)
}

// release lets what waits go on or nowhere; w.mu is held.
func (w *watched) release(on bool) bool {
	if w.waiting == nil {
		return false
	}
	w.waiting <- on
	w.waiting = nil
	return true
}

// control does the word of a client.
func (w *watched) control(word string) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch word {
	case "trace":
		w.trace = true
	case "hold":
		w.hold = true
	case "free":
		w.trace, w.hold = false, false
		w.release(true)
	case "go", "drop":
		if !w.release(word == "go") {
			return "no command waits"
		}
	}
	return "ok"
}

// withoutPIN is a command without the data that may be a PIN, also where its lengths are wrong.
func withoutPIN(command []byte) []byte {
	const verify, change, reset = 0x20, 0x24, 0x2C
	if len(command) > 5 && (command[1] == verify || command[1] == change || command[1] == reset) {
		return command[:5]
	}
	return command
}
