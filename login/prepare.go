package login

import (
	"context"
	"sync"
	"time"

	"pam_pkcs11/config"
)

// prepared is all that runs ahead of a login, so that the user does not wait for it: while the
// PKCS#11 library is loaded, the authorities and the mappers' files are read; while the card is
// read, the first mapper connects to its server. Nothing of it decides anything: without it a login
// ends in the same way, later.
type prepared struct {
	blocks []*preparedBlock

	connected  context.Context // ends when mappers must let go of connections that nobody has used yet
	disconnect context.CancelFunc
}

// preparedBlock is the checker for the cards of one block.
type preparedBlock struct {
	start   func()        // making it, once
	ready   chan struct{} // closed when checker and err are set
	checker *Checker
	err     error
}

// prepare starts what needs no card. It comes after setEnvironment, since mappers
// may bring other threads into the C library.
func (t *attempt) prepare() *prepared {
	p := &prepared{}

	for i := range t.conf.Modules {
		b := &preparedBlock{ready: make(chan struct{})}
		// Whoever needs the checker first starts it: here, or when a card of its block is there.
		b.start = sync.OnceFunc(func() {
			go func() {
				b.checker, b.err = t.newChecker(t.conf.Block(i))
				close(b.ready)
			}()
		})
		p.blocks = append(p.blocks, b)
	}

	// The other blocks wait until there is a card of theirs.
	p.blocks[0].start()
	return p
}

// newChecker makes the checker for the cards of a block. A panic in it is an error.
func (t *attempt) newChecker(conf *config.Config) (k *Checker, err error) {
	defer recoverInto(&err)
	return t.a.NewChecker(conf)
}

// connect lets the first mapper connect to its server, if it has one, as soon as there is a card:
// beside the reading and the checks of its certificates. The connection is for the assessment,
// which closes it. Where the mappers are not ready yet, which is rare after the library was loaded,
// the assessment is what lets them connect. Call close in any case.
func (p *prepared) connect(ctx context.Context, limit time.Duration, user string) {
	p.connected, p.disconnect = context.WithTimeout(ctx, limit)

	first := p.blocks[0]
	// A checker that is not ready is not waited for: the card is read meanwhile.
	select {
	case <-first.ready:
		if first.err == nil {
			first.checker.expectCard(p.connected, user)
		}
	default:
	}
}

// start begins to make the checker for the cards of a block.
func (p *prepared) start(block int) { p.blocks[block].start() }

// wait returns the checker for the cards of a block, or why the configuration does not give one.
func (p *prepared) wait(block int) (*Checker, error) {
	b := p.blocks[block]
	b.start()
	<-b.ready
	return b.checker, b.err
}

// close lets the mappers end the connections that were made ahead. It may be called more than once.
func (p *prepared) close() {
	if p.disconnect != nil {
		p.disconnect()
	}
}
