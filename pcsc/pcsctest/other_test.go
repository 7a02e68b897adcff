package pcsctest_test

import (
	"context"
	"errors"
	"testing"

	"pam_pkcs11/internal/simcard"
	"pam_pkcs11/internal/slowtest"
	"pam_pkcs11/pcsc"
	"pam_pkcs11/pcsc/pcsctest"
	"pam_pkcs11/pcsc/resmgr"
)

const readerName = "R 00 00"

// managed is a resource manager with a PIV card in its one reader.
func managed(t *testing.T) (*resmgr.Manager, *pcsctest.Slot, *simcard.Card) {
	t.Helper()
	card, err := simcard.New(simcard.Options{Foreign: true})
	if err != nil {
		t.Fatal(err)
	}
	slot := pcsctest.NewSlot(true)
	slot.Insert(card)
	m := resmgr.New(resmgr.Options{})
	ctx, cancel := context.WithCancel(context.Background()) // the programs end before the readers
	ended := resmgr.Plug(ctx, m, pcsctest.NewDriver(pcsctest.Reader{ID: "1", Product: "R", Slots: []*pcsctest.Slot{slot}}))
	m.Ready()
	t.Cleanup(func() {
		cancel()
		<-ended
	})
	return m, slot, card
}

func other(t *testing.T, m pcsc.Service) *pcsctest.Other {
	t.Helper()
	o, err := pcsctest.NewOther(m, readerName)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { o.Close() })
	return o
}

// TestTheOtherProgram: what its words do to the card, and to who else uses it.
func TestTheOtherProgram(t *testing.T) {
	m, _, card := managed(t)
	mine, theirs := other(t, m), other(t, m)
	do := func(o *pcsctest.Other, words ...string) {
		t.Helper()
		for _, w := range words {
			if err := o.Do(w); err != nil {
				t.Fatalf("%s: %v", w, err)
			}
		}
	}
	do(theirs, "verify 123456")
	if !card.Unlocked() || card.Verifies() != 1 {
		t.Error("the card is not unlocked")
	}
	do(theirs, "select foreign", "send 00200080")
	if n := card.Counters(); card.Selected() != simcard.Foreign || n.ForeignEmpty != 1 {
		t.Errorf("%+v", n)
	}
	do(mine, "select A000000308")
	do(theirs, "reset now")
	if err := mine.Do("send 00200080"); !errors.Is(err, pcsc.ErrResetCard) {
		t.Error("after a reset:", err)
	}
	do(mine, "leave")
	do(theirs, "begin", "hold 1ms", "end with reset", "leave", "connect exclusively")
	if err := mine.Do("begin"); !errors.Is(err, pcsc.ErrSharingViolation) {
		t.Error("while another program has it alone:", err)
	}
	do(theirs, "leave", "leave")
	do(mine, "begin", "end")
	for _, words := range []string{"dance", "verify 654321", "send x", "select x", "select A0000001510000", "hold x", "connect exclusively"} {
		if err := mine.Do(words); err == nil {
			t.Errorf("%q is done", words)
		}
	}
}

// TestACardThatIsPulledWhileItWorks: by its own hand, before and after a command.
func TestACardThatIsPulledWhileItWorks(t *testing.T) {
	m, slot, card := managed(t)
	o := other(t, m)
	pull := func(int, [4]byte) error { slot.Remove(); return nil }
	for _, hooks := range [][2]simcard.Hook{{pull, nil}, {nil, pull}} {
		if err := o.Do("select A000000308"); err != nil {
			t.Fatal(err)
		}
		card.Watch(hooks[0], hooks[1])
		if err := o.Do("select A000000308"); err == nil {
			t.Error("a card that is not there answers")
		}
		card.Watch(nil, nil)
		o.Do("leave")
		slot.Insert(card)
		slowtest.Until(t, "the card that was put in", func() bool { return o.Do("send 00200080") == nil })
		if card.Selected() != simcard.Manager {
			t.Error("the selection outlived the power")
		}
	}
}
