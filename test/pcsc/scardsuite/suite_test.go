// Package scardsuite brings the test suite of github.com/ebfe/scard to a daemon of ours. It is a module of its own, so
// that the binding, which needs cgo and libpcsclite, is no dependency of the project.
package scardsuite

import (
	"fmt"
	"testing"
	"time"

	"github.com/ebfe/scard"
)

// TestProgram is a program with the binding: its well-known sample, then waits, a transaction and errors. What it prints
// is compared.
func TestProgram(t *testing.T) {
	say := func(format string, args ...any) { fmt.Printf("program: "+format+"\n", args...) }
	context, err := scard.EstablishContext()
	if err != nil {
		t.Fatal(err)
	}
	defer context.Release()
	readers, err := context.ListReaders()
	if err != nil || len(readers) == 0 {
		t.Fatal(readers, err)
	}
	say("readers %q", readers)
	card, err := context.Connect(readers[0], scard.ShareShared, scard.ProtocolAny)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := card.Transmit([]byte{0x00, 0xA4, 0x04, 0x00, 0x0B, 0xA0, 0, 0, 3, 8, 0, 0, 0x10, 0, 1, 0, 0})
	say("select: % X %v", answer, err)
	status, err := card.Status()
	say("status: %+v %v", status, err)
	say("begin: %v", card.BeginTransaction())
	say("end: %v", card.EndTransaction(scard.LeaveCard))
	say("end again: %v", card.EndTransaction(scard.LeaveCard))
	_, err = context.Connect(readers[0], scard.ShareExclusive, scard.ProtocolAny)
	say("exclusive: %v", err)
	_, err = context.Connect("no such reader", scard.ShareShared, scard.ProtocolAny)
	say("unknown: %v", err)
	states := []scard.ReaderState{{Reader: readers[0]}, {Reader: readers[1]}}
	say("look: %v", context.GetStatusChange(states, 0))
	for i := range states {
		say("state %X, ATR % X", states[i].EventState&0xFFFF, states[i].Atr)
		states[i].CurrentState = states[i].EventState
	}
	say("wait: %v", context.GetStatusChange(states, 50*time.Millisecond))
	go func() {
		time.Sleep(100 * time.Millisecond) // a cancel that comes before the wait is lost
		context.Cancel()
	}()
	say("cancelled: %v", context.GetStatusChange(states, -1))
	say("reset: %v", card.Reconnect(scard.ShareShared, scard.ProtocolAny, scard.ResetCard))
	say("disconnect: %v", card.Disconnect(scard.UnpowerCard))
	say("end")
}
