package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"
)

// A round asks all addresses that there are, several at once, and each within limits of its own:
// one that does not answer takes no time from those behind it.

const (
	// askedAtOnce is how many addresses are asked at the same time.
	askedAtOnce = 8
	// longestSilence is how long an address may send nothing; shortestSilence is what is left of it
	// where there are many addresses and little time.
	longestSilence  = 20 * time.Second
	shortestSilence = time.Second
	// roundWithoutEnd is the time of a round whose context has no deadline.
	roundWithoutEnd = 10 * time.Minute
)

// errNotAsked is for addresses that no time was left for.
var errNotAsked = errors.New("was not asked: the time of this run was over")

// askFunc asks one address, and calls heard whenever something has come.
type askFunc func(ctx context.Context, a address, heard func()) error

// askRound asks the addresses in their order and returns an error for each, nil for those that
// answered. ctx says when it is over; no address alone gets more than half of that time.
func askRound(ctx context.Context, all []address, ask askFunc) []error {
	left := roundWithoutEnd
	if end, ok := ctx.Deadline(); ok {
		left = time.Until(end)
	}
	// The time just suffices for all addresses when every one is silent.
	silence := min(left*askedAtOnce/time.Duration(max(1, len(all))), longestSilence)
	limits := roundLimits{silence: max(silence, shortestSilence), total: left / 2}

	errs := make([]error, len(all))
	next := make(chan int)
	var group sync.WaitGroup
	for range min(askedAtOnce, len(all)) {
		group.Go(func() {
			for i := range next {
				errs[i] = limits.ask(ctx, all[i], ask)
			}
		})
	}

	for i := range all {
		next <- i
	}
	close(next)
	group.Wait()
	return errs
}

// roundLimits are those of one address: the longest time without an octet, and the time in all.
type roundLimits struct{ silence, total time.Duration }

// ask asks one address within the limits.
func (l roundLimits) ask(ctx context.Context, a address, ask askFunc) (err error) {
	if ctx.Err() != nil {
		return fmt.Errorf("%s: %w", a.url, errNotAsked)
	}

	silence, total := l.silence.Round(time.Millisecond), l.total.Round(time.Millisecond)
	silent := fmt.Errorf("%s: no answer in time: nothing came for %s", a.url, silence)
	slow := fmt.Errorf("%s: no answer in time: it was not whole after %s", a.url, total)

	// The causes tell afterwards which of the limits ended the question.
	ctx, cancel := context.WithTimeoutCause(ctx, l.total, slow)
	defer cancel()
	ctx, giveUp := context.WithCancelCause(ctx)
	defer giveUp(nil)
	timer := time.AfterFunc(l.silence, func() { giveUp(silent) })
	defer timer.Stop()

	// A fault in what one address gave must not end the asking of the others.
	defer func() {
		if fault := recover(); fault != nil {
			err = fmt.Errorf("%s: internal fault: %v", a.url, fault)
		}
	}()

	err = ask(ctx, a, func() { timer.Reset(l.silence) })
	if cause := context.Cause(ctx); err != nil && (cause == silent || cause == slow) {
		return cause
	}
	return err
}

// heardBody calls heard for all that is read.
type heardBody struct {
	io.ReadCloser
	heard func()
}

// Read reads from the body.
func (b *heardBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if n > 0 {
		b.heard()
	}
	return n, err
}
