// Package logintest is cards in memory, for tests of login: readers, cards and their faults are Go
// values, and a login with them takes milliseconds. The keys are those of internal/testca and
// really sign.
//
// Each call to a card has the name of the PKCS#11 function that it stands for: C_Initialize,
// C_GetSlotList, C_WaitForSlotEvent, C_OpenSession, C_GetTokenInfo, C_FindObjects, C_Login, C_Sign,
// C_SetPIN, C_InitPIN, C_Logout, C_CloseSession and C_Finalize. By these names calls are counted,
// and anything can be made to happen before them: see Before.
package logintest

import (
	"context"
	"slices"
	"sync"
	"time"

	"pam_pkcs11/config"
	"pam_pkcs11/token"
)

// Readers are the readers of one machine, and what opens them for a login: it implements
// login.Cards.
type Readers struct {
	// CannotWait makes it a module that has to be polled.
	CannotWait bool

	mu      sync.Mutex
	readers []*reader
	changes int           // of cards in readers
	changed chan struct{} // closed at the next of them
	before  map[string]func(context.Context) error
	calls   []string
	open    int // sessions
}

// reader is a place for a card.
type reader struct {
	name string
	card *Card // nil: none
	err  error // why its card cannot be read
	slow time.Duration
}

// SlowCard is the name of the wait for cards that are slow; see Slow.
const SlowCard = "(slow card)"

// New returns readers with a card in each; nil is an empty one. They are called "Reader 1" and so
// on.
func New(cards ...*Card) *Readers {
	r := &Readers{
		changed: make(chan struct{}),
		before:  make(map[string]func(context.Context) error),
	}
	for _, c := range cards {
		r.readers = append(r.readers, &reader{name: readerName(len(r.readers)), card: c})
	}
	return r
}

func readerName(i int) string { return "Reader " + string(rune('1'+i)) }

// Insert puts a card into a reader, numbered from 0, instead of what is there; nil takes it out.
func (r *Readers) Insert(i int, c *Card) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.readers[i].card = c
	r.change()
}

// Break makes the card in a reader one that cannot be read; nil makes it whole again.
func (r *Readers) Break(i int, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.readers[i].err = err
	r.change()
}

// Slow lets a reader take some time to show its card. It is waited for only where no other card is
// enough.
func (r *Readers) Slow(i int, d time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.readers[i].slow = d
}

// change tells those who wait. The caller holds mu.
func (r *Readers) change() {
	r.changes++
	close(r.changed)
	r.changed = make(chan struct{})
}

// Change runs f while no call looks at the cards, so that f may change them.
func (r *Readers) Change(f func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f()
}

// Before runs do before each call of that name, instead of what was there before; nil runs nothing.
// Its error is the call's, which then has no effect. do may call the methods of Readers, wait, and
// look at the context that the call was given; calls without one get context.Background().
func (r *Readers) Before(call string, do func(context.Context) error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.before[call] = do
}

// Fail lets every call of that name fail.
func (r *Readers) Fail(call string, err error) {
	r.Before(call, func(context.Context) error { return err })
}

// FailAt lets the nth call of that name fail, counted from 1 and from now on.
func (r *Readers) FailAt(call string, n int, err error) {
	r.Before(call, func(context.Context) error {
		if n--; n == 0 {
			return err
		}
		return nil
	})
}

// Hang lets calls of that name do nothing until their context ends.
func (r *Readers) Hang(call string) {
	r.Before(call, func(ctx context.Context) error {
		<-ctx.Done()
		return ctx.Err()
	})
}

// Calls returns the names of all calls until now.
func (r *Readers) Calls() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.calls)
}

// Count returns how many calls of that name there were.
func (r *Readers) Count(call string) int {
	n := 0
	for _, c := range r.Calls() {
		if c == call {
			n++
		}
	}
	return n
}

// Sessions returns how many sessions are open that nobody has closed. That the module was closed
// does not count.
func (r *Readers) Sessions() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.open
}

// Prepare implements login.Cards. There is nothing to prepare; it is a call all the same.
func (r *Readers) Prepare(*config.Config) error {
	return r.call(context.Background(), "Prepare", token.Options{})
}

// Open implements login.Cards.
func (r *Readers) Open(_ *config.Config, o token.Options) (token.Module, error) {
	if err := r.call(context.Background(), "C_Initialize", o); err != nil {
		return nil, err
	}
	return &module{readers: r, options: o}, nil
}

// call notes a call, tells whoever traces it, and runs what was to be done before it.
func (r *Readers) call(ctx context.Context, name string, o token.Options) error {
	if o.Trace != nil {
		o.Trace(name)
	}
	if o.Running != nil {
		o.Running(name)
		defer o.Running("")
	}

	r.mu.Lock()
	r.calls = append(r.calls, name)
	do := r.before[name]
	r.mu.Unlock()

	// Without the lock: do may call the methods of Readers.
	if do == nil {
		return nil
	}
	return do(ctx)
}
