package piv_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"pam_pkcs11/internal/simcard"
	"pam_pkcs11/pcsc"
	"pam_pkcs11/token"
)

// muteReader is a service whose connections to one reader are not made before goesOn is closed; nor
// does it look at the context.
type muteReader struct {
	pcsc.Service

	reader string
	goesOn chan struct{}
}

func (m *muteReader) Connect(
	ctx context.Context, sc pcsc.SCardContext, reader string, mode pcsc.ShareMode, protocols pcsc.Protocol,
) (pcsc.Handle, pcsc.Protocol, error) {
	if reader == m.reader {
		<-m.goesOn
	}
	return m.Service.Connect(ctx, sc, reader, mode, protocols)
}

// anyCard has enough with any card that is read.
var anyCard = token.Want{Enough: func(s *token.Slot) bool { return s.Token != nil }}

// TestMuteReader: a reader that does not answer before the login with the card in the other one is
// over keeps nobody waiting for as long; what it holds is seen later.
func TestMuteReader(t *testing.T) {
	for name, mute := range map[string]func(w *world, goesOn chan struct{}){
		"SCardConnect": func(w *world, goesOn chan struct{}) {
			w.service = &muteReader{Service: w.service, reader: second, goesOn: goesOn}
			w.other.Insert(newCard(t, simcard.Options{}))
		},
		"SELECT": func(w *world, goesOn chan struct{}) {
			w.other.Insert(&tap{Card: newCard(t, simcard.Options{}), before: func(int, []byte) { <-goesOn }})
		},
	} {
		t.Run(name, func(t *testing.T) {
			inBothForms(t, simcard.Options{}, func(t *testing.T, w *world) {
				w.put(simcard.KeyAuthentication, p256(), "Alice")
				goesOn := make(chan struct{})
				answer := sync.OnceFunc(func() { close(goesOn) })
				defer answer()
				mute(w, goesOn)
				w.await(second, pcsc.StatePresent)

				m := w.module()
				slots, err := m.SlotsFor(w.ctx(), anyCard)
				if err != nil || slots[0].Token == nil {
					t.Fatal(slots, err)
				}
				if s := slots[1]; !s.TokenPresent || s.Token != nil || !errors.Is(s.Err, token.ErrPending) {
					t.Errorf("the mute reader: %+v", s)
				}
				if _, err := m.Open(w.ctx(), slots[1]); err == nil {
					t.Error("the mute reader's card was opened")
				}
				s, err := m.Open(w.ctx(), slots[0])
				if err != nil {
					t.Fatal(err)
				}
				if _, err := w.logIn(s, rightPIN); err != nil {
					t.Error(err)
				}
				s.Close()
				w.spent(1, 3)

				answer()
				slots, err = m.Slots(w.ctx())
				if err != nil || slots[0].Token == nil || slots[1].Token == nil {
					t.Errorf("later: %+v, %v", slots, err)
				}
			})
		})
	}
}

// TestCardThatTakesItsTime: also where the card that is enough was slow to answer, the mute reader is
// one that was not waited for, and not one that another program keeps.
func TestCardThatTakesItsTime(t *testing.T) {
	w := newWorld(t, simcard.Options{})
	goesOn := make(chan struct{})
	defer close(goesOn)
	w.service = &muteReader{Service: w.service, reader: second, goesOn: goesOn}
	w.other.Insert(newCard(t, simcard.Options{}))
	w.await(second, pcsc.StatePresent)
	w.tap.before = func(n int, _ []byte) {
		if n == 0 {
			time.Sleep(time.Second) // the card's own time, longer than a mute reader is waited for
		}
	}

	slots, err := w.module().SlotsFor(w.ctx(), anyCard)
	if err != nil || slots[0].Token == nil || !errors.Is(slots[1].Err, token.ErrPending) {
		t.Errorf("%+v, %v", slots, err)
	}
}

// lateReader is a service whose connections to one reader are made, but not told before goesOn is closed.
type lateReader struct {
	pcsc.Service

	reader string
	goesOn chan struct{}

	mu    sync.Mutex
	late  map[pcsc.Handle]bool
	ended chan struct{} // closed when such a connection was ended, and the card left
}

func (l *lateReader) Connect(
	ctx context.Context, sc pcsc.SCardContext, reader string, mode pcsc.ShareMode, protocols pcsc.Protocol,
) (pcsc.Handle, pcsc.Protocol, error) {
	h, p, err := l.Service.Connect(ctx, sc, reader, mode, protocols)
	if reader != l.reader {
		return h, p, err
	}
	l.mu.Lock()
	l.late[h] = true
	l.mu.Unlock()
	<-l.goesOn
	return h, p, err
}

func (l *lateReader) Disconnect(ctx context.Context, h pcsc.Handle, d pcsc.Disposition) error {
	l.mu.Lock()
	late := l.late[h]
	l.mu.Unlock()
	if late && d == pcsc.LeaveCard {
		close(l.ended)
	}
	return l.Service.Disconnect(ctx, h, d)
}

// TestLateConnection: a connection that is there when nobody waits for it any more is ended, and leaves
// the card as it is. Of a context that is released with a connection pcscd resets the card.
func TestLateConnection(t *testing.T) {
	w := newWorld(t, simcard.Options{})
	late := &lateReader{
		Service: w.service,
		reader:  second,
		goesOn:  make(chan struct{}),
		late:    make(map[pcsc.Handle]bool),
		ended:   make(chan struct{}),
	}
	w.service = late
	w.other.Insert(newCard(t, simcard.Options{}))
	w.await(second, pcsc.StatePresent)

	slots, err := w.module().SlotsFor(w.ctx(), anyCard)
	if err != nil || !errors.Is(slots[1].Err, token.ErrPending) {
		t.Errorf("%+v, %v", slots, err)
	}
	close(late.goesOn)
	select {
	case <-late.ended:
	case <-time.After(patience):
		t.Error("the connection is not ended")
	}
}

// TestSkippedReader is not looked at.
func TestSkippedReader(t *testing.T) {
	w := newWorld(t, simcard.Options{})
	other := &tap{Card: newCard(t, simcard.Options{})}
	w.other.Insert(other)
	w.await(second, pcsc.StatePresent)
	other.take()

	var asked []int
	slots, err := w.module().SlotsFor(w.ctx(), token.Want{Skip: func(s *token.Slot) bool {
		asked = append(asked, s.Index)
		return s.Description == second
	}})
	if err != nil || slots[0].Token == nil || !slots[1].TokenPresent || !errors.Is(slots[1].Err, token.ErrSkipped) {
		t.Errorf("%+v, %v", slots, err)
	}
	if sent := other.take(); len(sent) != 0 || !slices.Equal(asked, []int{1, 2}) {
		t.Errorf("sent %v, asked about %v", sent, asked)
	}
}
