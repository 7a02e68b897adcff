package mapper

import (
	"context"
	"fmt"
	"runtime/debug"

	"pam_pkcs11/internal/certinfo"
	"pam_pkcs11/internal/ldapconn"
)

// expecter is a mapper that asks a server, and can connect to it before it is asked.
type expecter interface {
	// expects tells whether a question about the certificate goes to the server, with nil whether one about any does.
	// user is "" or the one that is asked about.
	expects(cert *certinfo.Certificate, user string) bool
	// connect begins to connect. What nobody has used when ctx ends is closed then.
	connect(ctx context.Context)
}

// Expect tells that Find, or with a user Match, will be asked about the certificates unless their checks fail.
// Where the first mapper that is asked needs a server, it connects to it beside the checks: connects and introduces
// itself, and asks nothing. ctx is that of the questions; what nobody has used when it ends is closed.
// Without certificates, which then are not known yet, it connects only where there is a question whatever they are.
func (c *Chain) Expect(ctx context.Context, certs []*certinfo.Certificate, user string, verified bool) {
	if len(certs) == 0 {
		c.expectAny(ctx, user, verified)
		return
	}
	for _, cert := range certs {
		for _, l := range c.links {
			if l.refuses(cert, verified) != "" || !l.maySpeakFor(cert, c.known) {
				continue
			}
			if e, ok := l.mapper.(expecter); ok && e.expects(cert, user) {
				e.connect(ctx)
				return
			}
			break
		}
	}
}

func (c *Chain) expectAny(ctx context.Context, user string, verified bool) {
	for _, l := range c.links {
		if !verified && !l.mapper.binds() {
			continue
		}
		if e, ok := l.mapper.(expecter); ok && len(l.issuers) == 0 && e.expects(nil, user) {
			e.connect(ctx)
		}
		return
	}
}

// reached is a directory's servers with a connection to one of them, or why there is none.
type reached struct {
	config ldapconn.Config
	conn   *ldapconn.Conn
	fault  error // of the configuration's files; no server was asked
	err    error // of the servers
}

// reach reads the files and connects to the first server that lets itself be asked.
func (d *directory) reach(ctx context.Context) *reached {
	var r reached
	if r.config, r.fault = d.open(ctx); r.fault == nil {
		r.config.MaxBytes = maxAnswerOctets
		r.conn, r.err = ldapconn.Dial(ctx, r.config)
	}
	return &r
}

// ahead is a connection that is made before there is a question.
type ahead struct {
	stop context.CancelFunc
	done chan struct{} // closed when got is there
	got  *reached
}

// connect begins to connect, beside the caller. The next ask takes the connection over; what none has taken when ctx
// ends is closed.
func (d *directory) connect(ctx context.Context) {
	dialling, stop := context.WithCancel(ctx)
	a := &ahead{stop: stop, done: make(chan struct{})}
	if !d.ahead.CompareAndSwap(nil, a) {
		stop()
		return // there is one already
	}
	go func() {
		defer close(a.done)
		defer func() {
			if v := recover(); v != nil {
				a.got = &reached{fault: fmt.Errorf("internal fault: %v\n%s", v, debug.Stack())}
			}
		}()
		a.got = d.reach(dialling)
	}()
	context.AfterFunc(ctx, func() {
		if d.ahead.CompareAndSwap(a, nil) {
			stop()
			<-a.done
			a.got.close()
		}
	})
}

// close ends what reach began.
func (r *reached) close() {
	if r.conn != nil {
		r.conn.Close()
	}
	clear(r.config.Password)
}

// takeAhead returns what connect has reached, waiting for it until ctx ends; nil when there was no connect.
func (d *directory) takeAhead(ctx context.Context) *reached {
	a := d.ahead.Swap(nil)
	if a == nil {
		return nil
	}
	defer a.stop()
	defer context.AfterFunc(ctx, a.stop)()
	<-a.done
	return a.got
}
