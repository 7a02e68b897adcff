package cards

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pam_pkcs11/token"
)

// shelf is a source of slots for tests.
type shelf struct {
	slots  []token.Slot
	opened int
	closed int
	lists  int
	waits  int

	openError error
	listError error
	onList    func() // runs after a listing
	wait      func(ctx context.Context) error
	openedBy  []token.Slot
	options   token.Options
}

func (s *shelf) Slots(ctx context.Context) ([]token.Slot, error) {
	s.options.Running("list")
	defer s.options.Running("")
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	s.lists++
	slots := slices.Clone(s.slots)
	for i := range slots {
		slots[i].Index, slots[i].ID = i+1, uint(i)
	}
	if s.onList != nil {
		s.onList()
	}
	return slots, s.listError
}

// slowShelf is a source whose broken cards are only slow: they have answered when they are waited for.
type slowShelf struct {
	*shelf

	later []token.Slot // what is in the slots then
}

func (s *slowShelf) SlotsFor(ctx context.Context, w token.Want) ([]token.Slot, error) {
	slots, err := s.shelf.Slots(ctx)
	if w.Enough != nil && slices.ContainsFunc(slots, func(s token.Slot) bool { return s.Token != nil && w.Enough(&s) }) {
		return slots, err
	}
	return slices.Clone(s.later), err
}

func (s *slowShelf) Slots(ctx context.Context) ([]token.Slot, error) {
	return s.SlotsFor(ctx, token.Want{})
}

func (s *shelf) Wait(ctx context.Context) error {
	s.waits++
	if s.wait == nil {
		return token.ErrNoWait
	}
	return s.wait(ctx)
}

func (s *shelf) Open(_ context.Context, slot token.Slot) (token.Session, error) {
	s.openedBy = append(s.openedBy, slot)
	return nil, nil
}

func (s *shelf) Close() error {
	s.closed++
	if s.closed > 1 {
		return nil
	}
	return s.listError
}

// What may be in a reader.
func empty(reader string) token.Slot { return token.Slot{Description: reader} }

func with(reader, label string) token.Slot {
	return token.Slot{Description: reader, TokenPresent: true, Token: &token.Info{Label: label, Initialized: true}}
}

func blank(reader string) token.Slot {
	return token.Slot{Description: reader, TokenPresent: true, Token: &token.Info{}}
}

func broken(reader string, kind error) token.Slot {
	return token.Slot{Description: reader, TokenPresent: true, Err: &token.Error{Kind: kind, Err: errors.New("6A82")}}
}

// say writes slots down: block, reader and what is in it.
func say(slots []token.Slot) string {
	var all []string
	for _, s := range slots {
		what := "empty"
		switch {
		case s.Err != nil:
			what = "error"
		case s.Token != nil && !s.Token.Initialized:
			what = "blank"
		case s.Token != nil:
			what = s.Token.Label
		}
		all = append(all, fmt.Sprintf("%d %s: %s", s.Block, s.Description, what))
	}
	return strings.Join(all, ", ")
}

// TestSlowCardIsNoBlocksYet: while a card has not answered that the first block may read, no later
// block is asked. Once it has, all is as if it had been quick.
func TestSlowCardIsNoBlocksYet(t *testing.T) {
	likes := func(label string) token.Want {
		return token.Want{Enough: func(s *token.Slot) bool { return s.Block == 0 && s.Token.Label == label }}
	}
	slow := broken("B", token.ErrPending)
	for name, c := range map[string]struct {
		later  token.Slot // what the slow card is
		other  token.Slot // in a third reader
		want   token.Want
		said   string
		opened int // the second block
	}{
		"enough":                    {with("B", "piv 2"), empty("C"), likes("piv"), "0 A: piv, 0 B: error, 0 C: empty", 0},
		"enough, one is foreign":    {with("B", "piv 2"), broken("C", token.ErrForeign), likes("piv"), "0 A: piv, 0 B: error, 0 C: error", 0},
		"not enough":                {with("B", "piv 2"), empty("C"), likes("x"), "0 A: piv, 0 B: piv 2, 0 C: empty", 0},
		"not enough, it is foreign": {broken("B", token.ErrForeign), empty("C"), likes("x"), "0 A: piv, 0 C: empty, 1 B: library", 1},
		"not enough, it fails":      {broken("B", token.ErrFault), empty("C"), likes("x"), "0 A: piv, 0 B: error, 0 C: empty", 0},
		"nobody says what is":       {broken("B", token.ErrForeign), empty("C"), token.Want{}, "0 A: piv, 0 C: empty, 1 B: library", 1},
	} {
		t.Run(name, func(t *testing.T) {
			first := &slowShelf{
				shelf: &shelf{slots: []token.Slot{with("A", "piv"), slow, c.other}},
				later: []token.Slot{with("A", "piv"), c.later, c.other},
			}
			second := &shelf{slots: []token.Slot{with("A", "as the library sees it"), with("B", "library"), empty("C")}}
			c.want.Skip = func(*token.Slot) bool { return true } // which of several blocks nobody knows
			m := joinModules(t, token.Options{}, first, second).(token.Selective)
			slots, err := m.SlotsFor(t.Context(), c.want)
			if err != nil || say(slots) != c.said || second.opened != c.opened {
				t.Errorf("%q, %v; the second block was opened %d times", say(slots), err, second.opened)
			}
		})
	}
}

// join makes a Module of shelves.
func join(t *testing.T, o token.Options, shelves ...*shelf) token.Module {
	t.Helper()
	var all []aShelf
	for _, s := range shelves {
		all = append(all, s)
	}
	return joinModules(t, o, all...)
}

// aShelf is a shelf, or has one.
type aShelf interface {
	token.Module
	itself() *shelf
}

func (s *shelf) itself() *shelf { return s }

func joinModules(t *testing.T, o token.Options, shelves ...aShelf) token.Module {
	t.Helper()
	var sources []source
	for i, module := range shelves {
		s := module.itself()
		sources = append(sources, source{Name: fmt.Sprintf("block %d", i), WaitEnds: i == 0, Open: func(o token.Options) (token.Module, error) {
			s.opened++
			s.options = o
			if s.openError != nil {
				return nil, s.openError
			}
			return module, nil
		}})
	}
	m, err := newSeveral(sources, o)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestEachCardIsOfOneBlock(t *testing.T) {
	long := strings.Repeat("R", 63)

	for _, row := range []struct {
		name   string
		blocks [][]token.Slot
		want   string
		opened int // blocks
	}{
		{"read by the first", [][]token.Slot{{with("A", "piv")}, {with("A", "library")}}, "0 A: piv", 1},
		{"no card anywhere", [][]token.Slot{{empty("A")}, {empty("A")}}, "0 A: empty", 2},
		{"no reader anywhere", [][]token.Slot{nil, nil}, "", 2},
		{"foreign to the first", [][]token.Slot{{broken("A", token.ErrForeign)}, {with("A", "library")}}, "1 A: library", 2},
		{"foreign to both", [][]token.Slot{{broken("A", token.ErrForeign)}, {broken("A", token.ErrForeign)}}, "0 A: error, 1 A: error", 2},
		{"blank for the first", [][]token.Slot{{blank("A")}, {with("A", "library")}}, "1 A: library", 2},
		{"a card, and a free slot", [][]token.Slot{{with("S 0", "soft"), blank("S 1")}, {with("A", "piv")}}, "0 S 0: soft, 0 S 1: blank", 1},
		{"a failing card", [][]token.Slot{{broken("A", token.ErrFault)}, {with("A", "library")}}, "0 A: error", 2},
		{"a card that is in use", [][]token.Slot{{broken("A", token.ErrInUse)}, {with("A", "library")}}, "0 A: error", 2},
		{"a card that came in between", [][]token.Slot{{empty("A")}, {with("A", "library")}}, "0 A: empty", 2},
		{"one of each kind", [][]token.Slot{{with("A", "piv"), broken("B", token.ErrForeign)}, {with("A", "as the library sees it"), with("B", "library")}},
			"0 A: piv, 1 B: library", 2},
		{"a slot that is no reader", [][]token.Slot{{empty("A")}, {with("SoftHSM slot 7", "soft")}}, "0 A: empty, 1 SoftHSM slot 7: soft", 2},
		{"two readers of one name, one read", [][]token.Slot{{broken("A", token.ErrForeign), with("A", "piv")}, {with("A", "x"), with("A", "y")}},
			"0 A: error, 0 A: piv", 2},
		{"a long name", [][]token.Slot{{with(long+"ST 00 00", "piv"), broken("B", token.ErrForeign)}, {with(long+"S", "x")}},
			"0 " + long + "ST 00 00: piv, 0 B: error", 2},
		{"a long name that is cut in a character", [][]token.Slot{{with(long+"é 00 00", "piv"), broken("B", token.ErrForeign)}, {with(long+"\uFFFD", "x")}},
			"0 " + long + "é 00 00: piv, 0 B: error", 2},
		{"a name with a control character", [][]token.Slot{{with("A\x1b[2J 00", "piv"), broken("B", token.ErrForeign)}, {with("A\uFFFD[2J 00", "x")}},
			"0 A\x1b[2J 00: piv, 0 B: error", 2},
		{"a long name, foreign", [][]token.Slot{{broken(long+"ST 00 00", token.ErrForeign)}, {with(long+"S", "x")}}, "1 " + long + "S: x", 2},
		{"the third", [][]token.Slot{{broken("A", token.ErrForeign)}, {broken("A", token.ErrForeign)}, {with("A", "third")}}, "2 A: third", 3},
		{"the second, before the third", [][]token.Slot{{broken("A", token.ErrForeign)}, {with("A", "second")}, {with("A", "third")}}, "1 A: second", 2},
		{"a fault in the second, before the third", [][]token.Slot{{broken("A", token.ErrForeign)}, {broken("A", token.ErrFault)}, {with("A", "third")}},
			"0 A: error, 1 A: error", 3},
	} {
		t.Run(row.name, func(t *testing.T) {
			var shelves []*shelf
			for _, slots := range row.blocks {
				shelves = append(shelves, &shelf{slots: slots})
			}
			m := join(t, token.Options{}, shelves...)
			for range 2 { // nothing of the first listing stays
				slots, err := m.Slots(t.Context())
				if err != nil || say(slots) != row.want {
					t.Errorf("slots %q, %v, want %q", say(slots), err, row.want)
				}
			}
			for i, s := range shelves {
				if want := map[bool]int{true: 1}[i < row.opened]; s.opened != want {
					t.Errorf("block %d was opened %d times", i, s.opened)
				}
			}
		})
	}
}

// TestCardThatComesWhileALibraryIsLoaded: it is the first block's, though the second has seen it
// first.
func TestCardThatComesWhileALibraryIsLoaded(t *testing.T) {
	for name, before := range map[string][]token.Slot{
		"its reader was empty":   {empty("A")},
		"its reader came too":    nil,
		"another card was there": {broken("A", token.ErrForeign)},
	} {
		t.Run(name, func(t *testing.T) {
			first, second := &shelf{slots: before}, &shelf{slots: []token.Slot{with("A", "as the library sees it")}}
			second.onList = func() { first.slots = []token.Slot{with("A", "piv")} }
			slots, err := join(t, token.Options{}, first, second).Slots(t.Context())
			if want := "0 A: piv"; err != nil || say(slots) != want && name != "its reader was empty" {
				t.Errorf("slots %q, %v, want %q", say(slots), err, want)
			}
			if slices.ContainsFunc(slots, func(s token.Slot) bool { return s.Block == 1 }) {
				t.Errorf("the library has got the card: %q", say(slots))
			}
		})
	}
}

func TestBlocksThatFail(t *testing.T) {
	broke := errors.New("broke")

	t.Run("the first cannot be opened", func(t *testing.T) {
		second := &shelf{}
		_, err := newSeveral([]source{
			{Open: func(token.Options) (token.Module, error) { return nil, broke }},
			{Open: func(token.Options) (token.Module, error) { second.opened++; return second, nil }},
		}, token.Options{})
		if !errors.Is(err, broke) || second.opened != 0 {
			t.Errorf("error %v, the second opened %d times", err, second.opened)
		}
	})
	t.Run("the first cannot be listed", func(t *testing.T) {
		second := &shelf{slots: []token.Slot{with("A", "x")}}
		_, err := join(t, token.Options{}, &shelf{listError: broke}, second).Slots(t.Context())
		if !errors.Is(err, broke) || second.opened != 0 {
			t.Errorf("error %v, the second opened %d times", err, second.opened)
		}
	})
	t.Run("the second cannot be opened", func(t *testing.T) {
		second, third := &shelf{openError: broke}, &shelf{slots: []token.Slot{with("A", "third")}}
		m := join(t, token.Options{}, &shelf{slots: []token.Slot{broken("A", token.ErrForeign)}}, second, third)
		for range 2 {
			slots, err := m.Slots(t.Context())
			if err != nil || say(slots) != "0 A: error" {
				t.Errorf("slots %q, %v", say(slots), err)
			}
		}
		if second.opened != 1 || third.opened != 0 {
			t.Errorf("opened %d and %d times", second.opened, third.opened)
		}
	})
	t.Run("the second cannot be listed", func(t *testing.T) {
		second := &shelf{listError: broke}
		m := join(t, token.Options{}, &shelf{slots: []token.Slot{with("A", "piv"), broken("B", token.ErrForeign)}}, second)
		slots, err := m.Slots(t.Context())
		if err != nil || say(slots) != "0 A: piv, 0 B: error" {
			t.Errorf("slots %q, %v", say(slots), err)
		}
		if err := m.Close(); !errors.Is(err, broke) {
			t.Errorf("closing: %v", err)
		}
	})
	t.Run("the time is over", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		first, second := &shelf{onList: cancel}, &shelf{}
		if _, err := join(t, token.Options{}, first, second).Slots(ctx); !errors.Is(err, context.Canceled) || second.opened != 0 {
			t.Errorf("error %v, the second opened %d times", err, second.opened)
		}
	})
}

func TestWaitForSeveral(t *testing.T) {
	until := func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }

	t.Run("one is open", func(t *testing.T) {
		first := &shelf{slots: []token.Slot{with("A", "piv")}, wait: until}
		m := join(t, token.Options{}, first, &shelf{})
		_, _ = m.Slots(t.Context())
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := m.Wait(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("error %v", err)
		}
	})
	t.Run("several are open", func(t *testing.T) {
		first, second := &shelf{wait: until}, &shelf{}
		m := join(t, token.Options{}, first, second)
		_, _ = m.Slots(t.Context())
		if err := m.Wait(t.Context()); err != nil {
			t.Errorf("after a moment: %v", err)
		}
		second.slots = []token.Slot{with("S", "soft")}
		slots, err := m.Slots(t.Context())
		if err != nil || say(slots) != "1 S: soft" {
			t.Errorf("slots %q, %v", say(slots), err)
		}
		if second.waits != 0 {
			t.Error("the library was waited for, which cannot be ended")
		}

		// Nothing had changed in the first: it is listed once more only because there is a card.
		if first.lists != 2 {
			t.Errorf("the first was listed %d times", first.lists)
		}
	})
	t.Run("an event of the first", func(t *testing.T) {
		first := &shelf{wait: func(context.Context) error { return nil }}
		m := join(t, token.Options{}, first, &shelf{})
		_, _ = m.Slots(t.Context())
		first.slots = []token.Slot{with("A", "piv")}
		if err := m.Wait(t.Context()); err != nil {
			t.Fatal(err)
		}
		if slots, err := m.Slots(t.Context()); err != nil || say(slots) != "0 A: piv" {
			t.Errorf("slots %q, %v", say(slots), err)
		}
	})
	t.Run("the time is over", func(t *testing.T) {
		m := join(t, token.Options{}, &shelf{wait: until}, &shelf{})
		_, _ = m.Slots(t.Context())
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := m.Wait(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("error %v", err)
		}
	})
	t.Run("the first is a library", func(t *testing.T) {
		first, second := &shelf{wait: until}, &shelf{}
		m := join(t, token.Options{}, first, second)
		m.(*several).blocks[0].source.WaitEnds = false
		_, _ = m.Slots(t.Context())
		if err := m.Wait(t.Context()); !errors.Is(err, token.ErrNoWait) || first.waits != 0 {
			t.Errorf("error %v, waited %d times", err, first.waits)
		}
	})
}

// TestCallsGoToTheirBlock: Open goes to the block of the slot, and whoever asks knows which block
// is used.
func TestCallsGoToTheirBlock(t *testing.T) {
	var said []string
	first := &shelf{slots: []token.Slot{with("A", "piv"), broken("B", token.ErrForeign)}}
	second := &shelf{slots: []token.Slot{empty("A"), with("B", "library")}}
	m := join(t, token.Options{Using: func(name string) { said = append(said, name) }}, first, second)
	slots, err := m.Slots(t.Context())
	if err != nil || len(slots) != 2 {
		t.Fatal(slots, err)
	}

	for _, s := range slots {
		if _, err := m.Open(t.Context(), s); err != nil {
			t.Error(err)
		}
	}
	if say(first.openedBy) != "0 A: piv" || say(second.openedBy) != "1 B: library" || second.openedBy[0].Index != 2 {
		t.Errorf("opened %v and %v", first.openedBy, second.openedBy)
	}
	if _, err := m.Open(t.Context(), token.Slot{Block: 2}); err == nil {
		t.Error("a slot of no block was opened")
	}
	if err := m.Close(); err != nil || first.closed != 1 || second.closed != 1 {
		t.Errorf("closed: %v, %d, %d", err, first.closed, second.closed)
	}
	if got := strings.Join(said, ", "); got != "block 1, block 0" {
		t.Errorf("used: %s", got)
	}
}

var _ token.Module = (*several)(nil)
