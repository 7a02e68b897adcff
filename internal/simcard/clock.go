package simcard

import "time"

// Clock is the time of a card: how long it computes, and how long it waits for a touch. A test may have
// one of its own.
type Clock interface {
	Now() time.Time
	After(d time.Duration) <-chan time.Time
}

// wall is the clock on the wall.
type wall struct{}

func (wall) Now() time.Time                         { return time.Now() }
func (wall) After(d time.Duration) <-chan time.Time { return time.After(d) }
