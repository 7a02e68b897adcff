package pcsc

import (
	"errors"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// guestOf is a connection in turns, and the client's end of it.
func guestOf(t *testing.T, all *turns) (g *turn, fd int, client net.Conn) {
	t.Helper()
	fd, client = socketPair(t)
	g, err := all.enter(fd)
	if err != nil {
		t.Fatal(err)
	}
	return g, fd, client
}

// socketPair is a connection: the server's descriptor and the client's end.
func socketPair(t *testing.T) (fd int, client net.Conn) {
	t.Helper()
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(pair[1]), "client")
	defer f.Close()
	if client, err = net.FileConn(f); err != nil {
		t.Fatal(err)
	}
	return pair[0], client
}

func testTurns(t *testing.T, count int) *turns {
	t.Helper()
	all, err := newTurns(count)
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// echoAll answers until the client goes.
func (g *turn) echoAll() {
	b := make([]byte, 64)
	for {
		n, err := g.read(b, false)
		if err != nil || n == 0 {
			g.leave()
			return
		}
		if writeSocket(int(g.key.fd), b[:n]) != nil {
			g.leave()
			return
		}
	}
}

// TestTurnsForAll: many who ask without a pause are all answered, in turn, with one turn and with more.
func TestTurnsForAll(t *testing.T) {
	for _, count := range []int{1, 2, 8} {
		all := testTurns(t, count)
		var served, clients sync.WaitGroup
		end := time.Now().Add(500 * time.Millisecond)
		for range 12 {
			g, fd, client := guestOf(t, all)
			served.Go(func() {
				g.echoAll()
				unix.Close(fd)
			})
			clients.Go(func() {
				defer client.Close()
				b := make([]byte, 8)
				for again := true; again; again = time.Now().Before(end) {
					client.SetDeadline(time.Now().Add(20 * time.Second))
					if _, err := client.Write(b); err != nil {
						t.Error(err)
						return
					}
					if _, err := client.Read(b); err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
		clients.Wait()
		served.Wait()
		all.close()
		if len(all.guests) != 0 || len(all.holders) != 0 || all.free != count {
			t.Errorf("%d turns: %d guests, %d holders, %d free at the end", count, len(all.guests), len(all.holders), all.free)
		}
	}
}

// awaitQueued returns once g waits for a turn.
func awaitQueued(t *testing.T, g *turn) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
		g.t.mu.Lock()
		queued := g.queued
		g.t.mu.Unlock()
		if queued {
			return
		}
		if time.Now().After(end) {
			t.Fatal("it does not wait for a turn")
		}
	}
}

// TestTurnIsOver: who has had its turn goes behind those who wait, though it has more to ask.
func TestTurnIsOver(t *testing.T) {
	all := testTurns(t, 1)
	defer all.close()
	first, fd, client := guestOf(t, all)
	defer unix.Close(fd)
	defer client.Close()
	defer first.leave()
	second, fd2, client2 := guestOf(t, all)
	defer unix.Close(fd2)
	defer client2.Close()
	defer second.leave()

	read := func(g *turn) {
		if n, err := g.read(make([]byte, 1), false); n != 1 || err != nil {
			t.Errorf("%d octets, %v", n, err)
		}
	}
	var other sync.WaitGroup
	for holds := false; !holds; { // unless its work took too long, on a busy machine
		other.Go(func() { read(first) })
		awaitQueued(t, first)
		client.Write([]byte("a"))
		other.Wait()
		first.working.Store(0)
		all.mu.Lock()
		holds = first.holds.Load()
		all.mu.Unlock()
	}
	other.Go(func() { read(second) })
	awaitQueued(t, second)
	client.Write([]byte("b"))
	client2.Write([]byte("c"))
	first.since = first.t.now() - int64(turnTime) - 1
	read(first)
	other.Wait()
	if second.since >= first.since {
		t.Error("the one whose turn was over was heard first")
	}
}

// TestTurnsOfWorkers: who works on a request keeps nobody else from being heard.
func TestTurnsOfWorkers(t *testing.T) {
	all := testTurns(t, 1)
	defer all.close()
	b := make([]byte, 8)
	for range 3 { // the three work for as long as the test lasts
		g, fd, client := guestOf(t, all)
		defer unix.Close(fd)
		defer g.leave()
		defer client.Close()
		client.Write(b)
		heard := make(chan error, 1)
		go func() {
			_, err := g.read(b[:1:1], false)
			heard <- err
		}()
		select {
		case err := <-heard:
			if err != nil {
				t.Fatal(err)
			}
		case <-time.After(20 * time.Second):
			t.Fatal("not heard while others work")
		}
	}
}

// TestTurnsEnd: a client that goes away ends the wait, also in the queue and before it was ever in it.
func TestTurnsEnd(t *testing.T) {
	all := testTurns(t, 1)
	defer all.close()
	early, fd, gone := guestOf(t, all)
	defer unix.Close(fd)
	gone.Close()
	defer early.leave()
	g, fd, client := guestOf(t, all)
	defer unix.Close(fd)
	done := make(chan int, 1)
	go func() {
		n, _ := g.read(make([]byte, 8), false)
		g.leave()
		done <- n
	}()
	client.Close()
	select {
	case n := <-done:
		if n != 0 {
			t.Errorf("%d octets of nobody", n)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("still waiting")
	}
}

// TestTurnsOfTheServersEnd: nobody waits for a turn of a server that has ended.
func TestTurnsOfTheServersEnd(t *testing.T) {
	all := testTurns(t, 1)
	g, fd, client := guestOf(t, all)
	defer unix.Close(fd)
	defer client.Close()
	ended := make(chan error, 1)
	go func() {
		_, err := g.read(make([]byte, 8), false)
		g.leave()
		ended <- err
	}()
	awaitQueued(t, g)
	all.close()
	select {
	case err := <-ended:
		if !errors.Is(err, errTurnsEnded) {
			t.Errorf("got %v", err)
		}
	case <-time.After(20 * time.Second):
		client.Close()
		t.Fatal("still waiting")
	}
}

// TestTurnWithoutAPlace: a client whom the kernel refuses a place in the queue is heard all the same.
func TestTurnWithoutAPlace(t *testing.T) {
	all := testTurns(t, 1)
	defer all.close()
	g, fd, client := guestOf(t, all)
	defer unix.Close(fd)
	defer client.Close()
	defer g.leave()
	if err := unix.EpollCtl(all.watch.epoll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{}); err != nil { // the next is refused
		t.Fatal(err)
	}
	for range 2 {
		time.AfterFunc(10*time.Millisecond, func() { client.Write([]byte("a")) })
		if n, err := g.read(make([]byte, 8), false); n != 1 || err != nil {
			t.Fatalf("%d octets, %v", n, err)
		}
	}
}
