// Package schedule lets the goroutines of a server's connections wait for their clients.
//
// It is the one place where speed is bought with system calls that Go does not know of. Its users
// see two interfaces of a few methods, Scheduler and Conn, and there are two forms of them: New is
// what the daemon runs with, and NewPlain is the same over the poller of Go's runtime, in a quarter
// of the code. The same tests run over both, and so do the tests of pcsc. Whoever doubts that New
// is worth its while can have the server use NewPlain (server.Server.Netpoll) and measure.
//
// # Why not simply goroutines that read
//
// A client of libpcsclite sends a command of a few bytes and sleeps until the answer is there, and
// the next command follows at once. With a card that answers at once, all of the time goes into
// waking: the daemon by the client, the client by the daemon. A goroutine that reads by way of Go's
// poller is woken in two steps: the kernel wakes the thread that sleeps in epoll_wait, that thread
// finds the goroutine and looks for a processor for it. A goroutine that blocks in read(2) is woken
// in one, and costs a thread.
//
// # What New does
//
// Few clients (load.go): each goroutine blocks in read(2). The round trip of an APDU costs a third
// less than through the poller. What cannot wait is done without telling the scheduler of the
// runtime (RawSyscall): it saves two atomic operations and, more, the chance that the runtime takes
// the processor away in between (socketio.go).
//
// Many clients, which is four that are busy within the same 4 ms: the threads then take the
// processors from each other in the middle of a request. So a run queue (runqueue.go) lets one
// connection more than there are processors poll their sockets at once; the others wait in an epoll
// set, which the kernel keeps in the order in which they have become ready. With two more than
// processors requests are cut by milliseconds; without the one, a processor stands idle while a
// slot goes on to the next. A connection that has nothing to read gives its slot to the next, and
// so does one that has had it for 10 ms, and one whose request takes longer than a millisecond, as
// with real cards. A client and its goroutine that alternate on one processor are far faster than
// any that wake each other from processor to processor, and nobody waits for longer than the slots
// of those before it.
//
// Hang-ups (fdwatch.go): a goroutine that waits for another client's transaction does not read, and
// would not see that its own client dies. An epoll set with one thread does, which sleeps else. It
// serves the listening socket too.
//
// # What it is worth
//
// Measured with test/pcsc/bench against Debian's pcscd, whose clients have a thread each, on two
// processors. Without the run queue, 100 clients wait for up to 830 ms for an answer; with it 230
// ms, and pcscd's 330 ms. 100 clients get 1.7 to 2.0 times the commands a second of pcscd's, 10
// clients 1.3 to 1.4 times. One to three clients never see the run queue; blocking reads alone make
// their round trip 0.8 of pcscd's.
//
// BenchmarkEcho compares the two forms without a daemon. With both processors busy otherwise, a
// round trip took 37 microseconds with New and 150 with NewPlain, be it one client or ten, and 72
// and 98 with a hundred.
package schedule

import (
	"context"
	"time"
)

// Scheduler decides how the connections of a server wait.
type Scheduler interface {
	// Accept calls accept whenever clients may be waiting at a listening socket, which must not
	// block, until ctx ends. accept takes them, and reports whether it may have left some. It is
	// called once at a time.
	Accept(ctx context.Context, listener int, accept func() (again bool)) error

	// Open takes in a connected socket, which belongs to the Conn from then on.
	Open(fd int) (Conn, error)

	// Close ends Accept's service, and waits of connections that are still there. What their
	// clients have sent before can still be read.
	Close()
}

// Conn is a connected socket. All methods but Close are for the one goroutine that serves it.
type Conn interface {
	// Read reads what is there, and waits until something is. more says that a part of a
	// request has been read.
	Read(b []byte, more bool) (int, error)

	// Write writes all of b.
	Write(b []byte) error

	// LimitReads makes Read end with an error when nothing has come for d; 0 is no limit.
	LimitReads(d time.Duration) error

	// Yield is called before the goroutine waits for something other than its client.
	Yield()

	// OnHangup calls gone once, from another goroutine, when the client goes away before end is
	// called. It is for times at which nobody reads.
	OnHangup(gone func()) (end func())

	// Close closes the socket. Nobody may be reading.
	Close() error
}
