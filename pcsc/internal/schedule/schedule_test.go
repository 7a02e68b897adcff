package schedule

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) {
	if rounds, err := strconv.Atoi(os.Getenv(clientVariable)); err == nil {
		os.Exit(benchmarkClient(rounds))
	}
	goleak.VerifyTestMain(m)
}

// forms are the two Schedulers, and all that the first can do: as it is, and with its connections
// in the run queue from the first request on.
var forms = map[string]func() (Scheduler, error){
	"fast":  New,
	"plain": NewPlain,
	"fast, in the run queue": func() (Scheduler, error) {
		s, err := New()
		if err == nil {
			s.(*fast).load.last.Store(manyBusy)
			s.(*fast).load.begin = time.Now().Add(-time.Hour) // note's epoch never comes
			s.(*fast).load.epoch.Store(-1)
			s.(*fast).load.count.Store(manyBusy)
		}
		return s, err
	},
}

// inForms runs a test over every form.
func inForms(t *testing.T, test func(t *testing.T, s Scheduler)) {
	for name, form := range forms {
		t.Run(name, func(t *testing.T) {
			s, err := form()
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(s.Close)
			test(t, s)
		})
	}
}

// open is a connection, and its client.
func open(t testing.TB, s Scheduler) (Conn, net.Conn) {
	t.Helper()
	fd, client := socketPair(t)
	c, err := s.Open(fd)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	return c, client
}

// echo answers until the client goes.
func echo(c Conn) {
	b := make([]byte, 1<<17)
	for {
		n, err := c.Read(b, false)
		if err != nil || n == 0 || c.Write(b[:n]) != nil {
			return
		}
	}
}

// call sends b and reads as much.
func call(client net.Conn, b []byte) error {
	client.SetDeadline(time.Now().Add(20 * time.Second))
	if _, err := client.Write(b); err != nil {
		return err
	}
	for n := 0; n < len(b); {
		got, err := client.Read(b[n:])
		if err != nil {
			return err
		}
		n += got
	}
	return nil
}

// TestManyClients: all are answered, whether they come one after the other or at once, with short
// and long messages.
func TestManyClients(t *testing.T) {
	inForms(t, func(t *testing.T, s Scheduler) {
		for _, clients := range []int{1, 2, 12} {
			var served, asking sync.WaitGroup
			for i := range clients {
				c, client := open(t, s)
				served.Go(func() {
					echo(c)
					c.Close()
				})
				asking.Go(func() {
					defer client.Close()
					for n := range 50 {
						size := 8
						if n%25 == i {
							size = 1 << 16
						}
						if err := call(client, make([]byte, size)); err != nil {
							t.Errorf("client %d of %d: %v", i, clients, err)
							return
						}
					}
				})
			}
			asking.Wait()
			served.Wait()
		}
	})
}

// TestPieces: a message that comes in pieces is read piece by piece.
func TestPieces(t *testing.T) {
	inForms(t, func(t *testing.T, s Scheduler) {
		c, client := open(t, s)
		defer c.Close()
		var sent sync.WaitGroup
		sent.Go(func() {
			for _, piece := range []string{"a", "b", "c"} {
				time.Sleep(5 * time.Millisecond) // or the kernel would make one piece of them
				client.Write([]byte(piece))
			}
		})
		b := make([]byte, 8)
		for n := 0; n < 3; {
			got, err := c.Read(b[n:], n > 0)
			if err != nil || got == 0 {
				t.Fatalf("%d bytes, %v", got, err)
			}
			n += got
		}
		if string(b[:3]) != "abc" {
			t.Errorf("%q", b[:3])
		}
		sent.Wait()
	})
}

// TestClientGoes: a read ends when the client has gone.
func TestClientGoes(t *testing.T) {
	inForms(t, func(t *testing.T, s Scheduler) {
		c, client := open(t, s)
		defer c.Close()
		time.AfterFunc(5*time.Millisecond, func() { client.Close() })
		if n, err := c.Read(make([]byte, 8), false); n != 0 {
			t.Errorf("%d bytes of nobody, %v", n, err)
		}
	})
}

// TestLimitReads: a limit ends a read, and can be taken back.
func TestLimitReads(t *testing.T) {
	inForms(t, func(t *testing.T, s Scheduler) {
		c, client := open(t, s)
		defer c.Close()
		if err := c.LimitReads(10 * time.Millisecond); err != nil {
			t.Fatal(err)
		}
		if n, err := c.Read(make([]byte, 8), false); err == nil {
			t.Errorf("%d bytes, no error", n)
		}

		if err := c.LimitReads(0); err != nil {
			t.Fatal(err)
		}
		time.AfterFunc(30*time.Millisecond, func() { client.Write([]byte("a")) })
		if n, err := c.Read(make([]byte, 8), false); n != 1 || err != nil {
			t.Errorf("%d bytes, %v", n, err)
		}
	})
}

// TestHangup: who goes away while nobody reads is noticed, also with a request sent before; who
// does not is not.
func TestHangup(t *testing.T) {
	inForms(t, func(t *testing.T, s Scheduler) {
		serve(t, s, func() bool { return false })
		for _, sent := range []string{"", "more"} {
			c, client := open(t, s)
			gone := make(chan struct{}, 2)
			c.OnHangup(func() { gone <- struct{}{} })()
			end := c.OnHangup(func() { gone <- struct{}{} })
			client.Write([]byte(sent))
			time.Sleep(5 * time.Millisecond) // nothing is to come, which has no sign
			if len(gone) != 0 {
				t.Error("gone too early")
			}
			client.Close()
			select {
			case <-gone:
			case <-time.After(20 * time.Second):
				t.Fatal("not noticed")
			}
			end()
			if len(gone) != 0 {
				t.Error("noticed twice")
			}
			b := make([]byte, 8)
			if n, err := c.Read(b, false); err != nil || string(b[:n]) != sent {
				t.Errorf("%q is left, %v", b[:n], err)
			}
			c.Close()
		}
	})
}

// serve runs Accept until the test ends, on a socket whose path it returns.
func serve(t *testing.T, s Scheduler, accept func() bool) (path string, listener int) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "s")
	listener, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err := errors.Join(err, unix.Bind(listener, &unix.SockaddrUnix{Name: path}), unix.Listen(listener, 16)); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Accept(ctx, listener, accept) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		unix.Close(listener)
	})
	return path, listener
}

// TestAccept: every client is accepted, also one that was left in the queue the first time.
func TestAccept(t *testing.T) {
	inForms(t, func(t *testing.T, s Scheduler) {
		accepted, refuse := make(chan int, 8), true
		var listener int
		begin := make(chan struct{})
		accept := func() (again bool) {
			<-begin
			if refuse {
				refuse = false
				return true
			}
			for {
				fd, _, err := unix.Accept4(listener, unix.SOCK_CLOEXEC)
				if err != nil {
					return false
				}
				accepted <- fd
			}
		}
		path, fd := serve(t, s, accept)
		listener = fd
		close(begin)
		for range 3 {
			client, err := net.Dial("unix", path)
			if err != nil {
				t.Fatal(err)
			}
			select {
			case fd := <-accepted:
				unix.Close(fd)
			case <-time.After(20 * time.Second):
				t.Fatal("nobody accepts")
			}
			client.Close()
		}
	})
}

// TestSchedulerCloses: after Close nobody waits in the run queue or the poller for ever. A thread's
// wait ends by the server's shutdown of the socket.
func TestSchedulerCloses(t *testing.T) {
	inForms(t, func(t *testing.T, s Scheduler) {
		fd, client := socketPair(t)
		defer client.Close()
		c, err := s.Open(fd)
		if err != nil {
			t.Fatal(err)
		}
		ended := make(chan error, 1)
		go func() {
			_, err := c.Read(make([]byte, 8), false)
			ended <- err
		}()
		time.Sleep(5 * time.Millisecond) // as a rule it waits by then; it ends the same way if not
		s.Close()                        // and once more at the test's end
		unix.Shutdown(fd, unix.SHUT_RDWR)
		select {
		case <-ended:
		case <-time.After(20 * time.Second):
			t.Fatal("still waiting")
		}
		c.Close()
	})
}
