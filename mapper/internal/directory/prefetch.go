package directory

import (
	"context"
	"fmt"
	"runtime/debug"

	"pam_pkcs11/internal/ldapconn"
)

// dialResult is a directory's servers with a connection to one of them, or why there is none.
type dialResult struct {
	config ldapconn.Config
	conn   *ldapconn.Conn
	fault  error // of the configuration's files; no server was asked
	err    error // of the servers
}

// reach reads the files and connects to the first server that answers.
func (d *Directory) reach(ctx context.Context) *dialResult {
	var r dialResult
	if r.config, r.fault = d.open(ctx); r.fault == nil {
		r.config.MaxBytes = maxAnswerOctets
		r.conn, r.err = ldapconn.Dial(ctx, r.config)
	}
	return &r
}

// prefetch is a connection that is made before there is a question.
type prefetch struct {
	stop context.CancelFunc
	done chan struct{} // closed when got is set
	got  *dialResult
}

// Connect begins to connect, beside the caller. The next ask takes the connection over; where none
// has when ctx ends, it is closed.
func (d *Directory) Connect(ctx context.Context) {
	dialing, stop := context.WithCancel(ctx)
	a := &prefetch{stop: stop, done: make(chan struct{})}

	// One connection is enough: the second caller uses the first one's.
	if !d.prefetch.CompareAndSwap(nil, a) {
		stop()
		return
	}

	go func() {
		defer close(a.done)
		// A panic here would end the process beside a login: the question reports it.
		defer func() {
			if v := recover(); v != nil {
				a.got = &dialResult{fault: fmt.Errorf("internal fault: %v\n%s", v, debug.Stack())}
			}
		}()
		a.got = d.reach(dialing)
	}()

	context.AfterFunc(ctx, func() {
		// Whoever takes the pointer out owns the connection: this one closes it only if no question
		// did.
		if d.prefetch.CompareAndSwap(a, nil) {
			stop()
			// reach is over soon: stop has ended its context.
			<-a.done
			a.got.close()
		}
	})
}

// Pending reports whether a connection was begun that no question has taken yet.
func (d *Directory) Pending() bool { return d.prefetch.Load() != nil }

// close ends what reach began.
func (r *dialResult) close() {
	if r.conn != nil {
		r.conn.Close()
	}
	clear(r.config.Password)
}

// takePrefetch returns what Connect has reached, waiting for it until ctx ends; nil when there was
// no Connect.
func (d *Directory) takePrefetch(ctx context.Context) *dialResult {
	a := d.prefetch.Swap(nil)
	if a == nil {
		return nil
	}
	defer a.stop()
	defer context.AfterFunc(ctx, a.stop)()
	<-a.done
	return a.got
}
