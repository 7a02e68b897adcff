package login

import (
	"context"
	"time"
)

// prepared is all that runs ahead of a login, so that the user does not wait for it: while the
// PKCS#11 library is loaded, the authorities and the mappers' files are read; while the card is
// read, the first mapper connects to its server. Nothing of it decides anything: without it a login
// ends in the same way, later.
type prepared struct {
	ready   chan struct{} // closed when checker and err are set
	checker *Checker
	err     error

	connected  context.Context // ends when mappers must let go of connections that nobody has used yet
	disconnect context.CancelFunc
}

// prepare starts what needs no card. It comes after setEnvironment, since mappers
// may bring other threads into the C library.
func (t *attempt) prepare() *prepared {
	p := &prepared{ready: make(chan struct{})}

	go func() {
		p.checker, p.err = t.newChecker()
		close(p.ready)
	}()
	return p
}

// newChecker makes the checker of this request. A panic in it is an error.
func (t *attempt) newChecker() (k *Checker, err error) {
	defer recoverInto(&err)
	return t.a.NewChecker(t.conf)
}

// connect lets the first mapper connect to its server, if it has one, as soon as there is a card:
// beside the reading and the checks of its certificates. The connection is for the assessment,
// which closes it. Where the mappers are not ready yet, which is rare after the library was loaded,
// the assessment is what lets them connect. Call close in any case.
func (p *prepared) connect(ctx context.Context, limit time.Duration, user string) {
	p.connected, p.disconnect = context.WithTimeout(ctx, limit)

	select {
	case <-p.ready:
		if p.err == nil {
			p.checker.expectCard(p.connected, user)
		}
	default:
	}
}

// wait returns the checker, or why the configuration does not give one.
func (p *prepared) wait() (*Checker, error) {
	<-p.ready
	return p.checker, p.err
}

// close lets the mappers end the connections that were made ahead. It may be called more than once.
func (p *prepared) close() {
	if p.disconnect != nil {
		p.disconnect()
	}
}
