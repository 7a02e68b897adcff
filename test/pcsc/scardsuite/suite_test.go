// Package scardsuite brings the test suite of github.com/ebfe/scard to a daemon of ours. It is a module of its own, so
// that the binding, which needs cgo and libpcsclite, is no dependency of the project.
package scardsuite

import (
	"testing"

	"github.com/ebfe/scard"
)

// TestReaders is what the suite needs, said before it is run: it skips everything and says "ok" when it finds no daemon.
func TestReaders(t *testing.T) {
	ctx, err := scard.EstablishContext()
	if err != nil {
		t.Fatal(err)
	}
	defer ctx.Release()
	readers, err := ctx.ListReaders()
	if err != nil || len(readers) == 0 {
		t.Fatal(readers, err)
	}
	card, err := ctx.Connect(readers[0], scard.ShareShared, scard.ProtocolAny)
	if err != nil {
		t.Fatal(err)
	}
	if err := card.Disconnect(scard.LeaveCard); err != nil {
		t.Fatal(err)
	}
}
