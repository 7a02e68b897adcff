package cards

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"pam_pkcs11/token"
)

// source is where the cards of one block come from.
type source struct {
	Name string // for the log

	// Open opens it. It is called at most once, on the goroutine of whoever calls the Module.
	Open func(token.Options) (token.Module, error)

	// WaitEnds: the Wait of the module leaves nothing behind when its context ends, so that it may
	// be called for a moment.
	WaitEnds bool
}

// waitMoment is how long one of several sources is waited for, before the others are looked at.
const waitMoment = 250 * time.Millisecond

// newSeveral makes one Module of several sources, each of which is a block of Slot.Block. The first
// is opened at once, and its errors are those of the Module. A later one is opened when the earlier
// ones show no card, or one that they cannot use (token.ErrForeign); its errors are only logged,
// and no block behind it is looked at then.
//
// A card is of the first block that can read it, and of no other: a later block's slot is shown
// only where no earlier block has a reader of that name, or each such reader holds a card that is
// foreign to its block or blank. What a reader is called is Slot.Description.
func newSeveral(sources []source, o token.Options) (token.Module, error) {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	s := &several{log: o.Logger, using: o.Using}

	for i, from := range sources {
		s.blocks = append(s.blocks, &block{source: from, options: s.optionsOf(i, o)})
	}
	if err := s.open(0); err != nil {
		return nil, err
	}
	return s, nil
}

// several implements token.Selective.
type several struct {
	blocks []*block
	log    *slog.Logger
	still  bool // the first block has said that nothing has changed since it was listed

	mu    sync.Mutex   // a call that was given up may end beside others
	using func(string) // may be nil
	used  int          // the block that was told to using last
}

// block is one source of several.
type block struct {
	source  source
	options token.Options
	module  token.Module // nil before it is opened
	failed  bool         // it could not be opened, which is not tried again
	slots   []token.Slot // as they were listed last
}

// optionsOf are those of one block: calls to it say that it is the one that is used.
func (s *several) optionsOf(i int, o token.Options) token.Options {
	running := o.Running
	o.Running = func(call string) {
		if call != "" {
			s.use(i)
		}
		if running != nil {
			running(call)
		}
	}
	return o
}

// use tells that calls go to a block from now on.
func (s *several) use(i int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.using != nil && s.used != i {
		s.using(s.blocks[i].source.Name)
	}
	s.used = i
}

// open opens a block, once.
func (s *several) open(i int) error {
	b := s.blocks[i]
	s.use(i)
	m, err := b.source.Open(b.options)
	if err != nil {
		b.failed = true
		return err
	}
	b.module = m
	return nil
}

// Slots lists the cards of all blocks, each of them once.
func (s *several) Slots(ctx context.Context) ([]token.Slot, error) {
	return s.SlotsFor(ctx, token.Want{})
}

// SlotsFor is Slots, without waiting for slow cards of the first block where it has a card that is
// enough. A card that has not answered is no block's yet: no later one is asked before all have. A
// reader that the first block may not use is looked at all the same, since a later block may have
// its card only where the first cannot read it.
func (s *several) SlotsFor(ctx context.Context, w token.Want) ([]token.Slot, error) {
	if !s.still {
		if err := s.listFor(ctx, 0, token.Want{Enough: w.Enough}); err != nil {
			return nil, err
		}
	}
	// It holds for one call: the next one lists the first block again.
	s.still = false

	if slices.ContainsFunc(s.blocks[0].slots, isPending) {
		return s.shown(1), nil
	}

	for i := 1; i < len(s.blocks); i++ {
		if !s.wanted(s.shown(i)) {
			return s.shown(i), nil
		}

		listed, err := s.later(ctx, i)
		if err != nil {
			return nil, err
		}

		// A card that the block would have read is not the next one's.
		if !listed {
			return s.shown(i), nil
		}
	}
	return s.shown(len(s.blocks)), nil
}

// list lists the slots of one block.
func (s *several) list(ctx context.Context, i int) error {
	return s.listFor(ctx, i, token.Want{})
}

// listFor is list for the cards that are wanted, where the module can leave some out.
func (s *several) listFor(ctx context.Context, i int, w token.Want) error {
	b := s.blocks[i]
	b.slots = nil
	slots, err := token.SlotsFor(ctx, b.module, w)
	if err != nil {
		return err
	}
	for j := range slots {
		slots[j].Block = i
	}
	b.slots = slots
	return nil
}

// later lists a later block, which is opened now if it is not yet. Where it shows a card, the
// earlier ones are listed once more: while it was opened, a card may have come that they can read.
// It reports whether the block is listed; the error is that of an earlier one, or the context's.
func (s *several) later(ctx context.Context, i int) (listed bool, err error) {
	b := s.blocks[i]
	// What it showed at an earlier call does not count if it cannot be listed now.
	b.slots = nil
	if err := ctx.Err(); err != nil || b.failed {
		return false, err
	}

	if b.module == nil {
		if err := s.open(i); err != nil {
			s.log.Warn("block left out: its cards cannot be had", "block", b.source.Name, "error", err)
			return false, ctx.Err()
		}
	}

	if err := s.list(ctx, i); err != nil {
		s.log.Warn("block left out: its cards cannot be listed", "block", b.source.Name, "error", err)
		return false, ctx.Err()
	}
	if !slices.ContainsFunc(s.visible(i), hasCard) {
		return true, nil
	}

	for j := range i {
		if err := s.list(ctx, j); err != nil {
			return false, fmt.Errorf("%s: %w", s.blocks[j].source.Name, err)
		}
	}
	return true, nil
}

// wanted reports whether the next block has to be looked at: there is no card, or one that nobody
// can use yet. A blank token is none, and may be a library's free slot.
func (s *several) wanted(slots []token.Slot) bool {
	return !slices.ContainsFunc(slots, hasCard) || slices.ContainsFunc(slots, isForeign)
}

func isPending(s token.Slot) bool { return errors.Is(s.Err, token.ErrPending) }

func isForeign(s token.Slot) bool { return errors.Is(s.Err, token.ErrForeign) }

// hasCard reports whether a block has read a card.
func hasCard(s token.Slot) bool { return s.Token != nil && s.Token.Initialized }

// passedOn reports whether the card in a slot is for the next block: this one has looked, and it is
// of another kind. A card that failed, or that another program holds, is not: nobody knows of what
// kind it is.
func passedOn(s token.Slot) bool {
	if s.Err != nil {
		return isForeign(s)
	}
	return s.Token != nil && !s.Token.Initialized
}

// shown are the slots of the first n blocks that a login may see.
func (s *several) shown(n int) []token.Slot {
	var all []token.Slot
	for i := range n {
		for _, slot := range s.visible(i) {
			if !passedOn(slot) || !s.takenLater(slot, i, n) {
				all = append(all, slot)
			}
		}
	}
	return all
}

// takenLater reports whether a block behind block i, of n, has read the card in a slot.
func (s *several) takenLater(slot token.Slot, i, n int) bool {
	for j := i + 1; j < n; j++ {
		for _, other := range s.visible(j) {
			if hasCard(other) && readerOf(&other) != "" && readerOf(&other) == readerOf(&slot) {
				return true
			}
		}
	}
	return false
}

// visible are the slots of a block that are no earlier block's.
func (s *several) visible(i int) []token.Slot {
	if i == 0 {
		return s.blocks[0].slots
	}

	var list []token.Slot
	for j := range s.blocks[i].slots {
		if slot := &s.blocks[i].slots[j]; s.leftOver(slot, i) {
			list = append(list, *slot)
		}
	}
	return list
}

// leftOver reports whether no earlier block has a say in what is in a slot. A slot that does not
// tell what it is called may be anybody's.
func (s *several) leftOver(slot *token.Slot, i int) bool {
	if slot.Describe() != nil {
		return false
	}
	name := readerOf(slot)
	for _, earlier := range s.blocks[:i] {
		for j := range earlier.slots {
			other := &earlier.slots[j]
			if passedOn(*other) {
				continue
			}
			if other.Describe() != nil || name != "" && readerOf(other) == name {
				return false
			}
		}
	}
	return true
}

// shownName is how much of a reader's name PKCS#11 shows: CK_SLOT_INFO.slotDescription has 64
// bytes, padded with blanks (PKCS#11 2.40, section 3.2).
const shownName = 64

// readerOf is the name of a slot's reader as far as every kind of module shows it.
func readerOf(s *token.Slot) string {
	name := s.Description
	if len(name) > shownName {
		name = name[:shownName]
	}
	name = token.Printable(name)

	// What cannot be printed, or is half a character, may be of another length elsewhere.
	if odd := strings.IndexRune(name, '\uFFFD'); odd > 0 {
		name = name[:odd]
	}
	return strings.TrimRight(name, " ")
}

// Wait waits for a card of any block that is open. Where several are, the first is waited for, a
// moment at a time: libraries cannot be told to stop waiting.
func (s *several) Wait(ctx context.Context) error {
	opened := 0
	for _, b := range s.blocks {
		if b.module != nil {
			opened++
		}
	}

	first := s.blocks[0]
	switch {
	case opened == 1:
		return first.module.Wait(ctx)
	// The wait of such a library cannot be cut short: the caller has to look again and again.
	case !first.source.WaitEnds:
		return errors.Join(ctx.Err(), token.ErrNoWait)
	}

	moment, cancel := context.WithTimeout(ctx, waitMoment)
	defer cancel()
	err := first.module.Wait(moment)

	// Only the moment is over. Nothing has changed in the first block: it is not listed again.
	momentOver := ctx.Err() == nil && moment.Err() != nil && errors.Is(err, moment.Err())
	if err != nil && momentOver {
		s.still = true
		return nil
	}
	return err
}

// Open opens a card through the block that has read it.
func (s *several) Open(ctx context.Context, slot token.Slot) (token.Session, error) {
	if slot.Block < 0 || slot.Block >= len(s.blocks) || s.blocks[slot.Block].module == nil {
		return nil, fmt.Errorf("there is no open block %d", slot.Block)
	}
	return s.blocks[slot.Block].module.Open(ctx, slot)
}

// Close closes the modules of all blocks, the last one first.
func (s *several) Close() error {
	var all []error
	for _, b := range slices.Backward(s.blocks) {
		if b.module == nil {
			continue
		}
		if err := b.module.Close(); err != nil {
			all = append(all, fmt.Errorf("%s: %w", b.source.Name, err))
		}
	}
	return errors.Join(all...)
}
