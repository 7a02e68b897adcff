package schedule

import (
	"errors"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"pam_pkcs11/internal/slowtest"
)

// placeOf is a connection in a queue, and the client's end of it.
func placeOf(t *testing.T, all *runQueue) (p *place, fd int, client net.Conn) {
	t.Helper()
	fd, client = socketPair(t)
	p, err := all.enter(fd)
	if err != nil {
		t.Fatal(err)
	}
	return p, fd, client
}

// socketPair is a connection: the server's descriptor and the client's end.
func socketPair(t testing.TB) (fd int, client net.Conn) {
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

func testQueue(t *testing.T, count int) *runQueue {
	t.Helper()
	all, err := newRunQueue(count)
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// echoAll answers until the client goes.
func (p *place) echoAll() {
	b := make([]byte, 64)
	for {
		n, err := p.read(b, false)
		if err != nil || n == 0 {
			p.leave()
			return
		}
		if writeSocket(int(p.key.fd), b[:n]) != nil {
			p.leave()
			return
		}
	}
}

// TestTurnsForAll: many who ask without a pause are all answered, in turn, with one slot and with more.
func TestTurnsForAll(t *testing.T) {
	for _, count := range []int{1, 2, 8} {
		all := testQueue(t, count)
		var served, clients sync.WaitGroup
		end := time.Now().Add(500 * time.Millisecond)
		for range 12 {
			p, fd, client := placeOf(t, all)
			served.Go(func() {
				p.echoAll()
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
		if len(all.places) != 0 || len(all.holders) != 0 || all.free != count {
			t.Errorf("%d slots: %d places, %d holders, %d free at the end", count, len(all.places), len(all.holders), all.free)
		}
	}
}

// awaitQueued returns once p waits for a slot.
func awaitQueued(t *testing.T, p *place) {
	t.Helper()
	slowtest.Until(t, "the wait for a slot", func() bool {
		p.q.mu.Lock()
		defer p.q.mu.Unlock()
		return p.queued
	})
}

// TestTurnIsOver: who has had its slot for long goes behind those who wait, though it has more to ask.
func TestTurnIsOver(t *testing.T) {
	all := testQueue(t, 1)
	defer all.close()
	first, fd, client := placeOf(t, all)
	defer unix.Close(fd)
	defer client.Close()
	defer first.leave()
	second, fd2, client2 := placeOf(t, all)
	defer unix.Close(fd2)
	defer client2.Close()
	defer second.leave()

	read := func(p *place) {
		if n, err := p.read(make([]byte, 1), false); n != 1 || err != nil {
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
	first.since = first.q.now() - int64(slotTime) - 1
	read(first)
	other.Wait()
	if second.since >= first.since {
		t.Error("the one whose time was over was heard first")
	}
}

// TestTurnsOfWorkers: who works on a request keeps nobody else from being heard.
func TestTurnsOfWorkers(t *testing.T) {
	all := testQueue(t, 1)
	defer all.close()
	b := make([]byte, 8)
	for range 3 { // the three work for as long as the test lasts
		p, fd, client := placeOf(t, all)
		defer unix.Close(fd)
		defer p.leave()
		defer client.Close()
		client.Write(b)
		heard := make(chan error, 1)
		go func() {
			_, err := p.read(b[:1:1], false)
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
	all := testQueue(t, 1)
	defer all.close()
	early, fd, gone := placeOf(t, all)
	defer unix.Close(fd)
	gone.Close()
	defer early.leave()
	p, fd, client := placeOf(t, all)
	defer unix.Close(fd)
	done := make(chan int, 1)
	go func() {
		n, _ := p.read(make([]byte, 8), false)
		p.leave()
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

// TestTurnsOfTheServersEnd: nobody waits for a slot of a server that has ended.
func TestTurnsOfTheServersEnd(t *testing.T) {
	all := testQueue(t, 1)
	p, fd, client := placeOf(t, all)
	defer unix.Close(fd)
	defer client.Close()
	ended := make(chan error, 1)
	go func() {
		_, err := p.read(make([]byte, 8), false)
		p.leave()
		ended <- err
	}()
	awaitQueued(t, p)
	all.close()
	select {
	case err := <-ended:
		if !errors.Is(err, errEnded) {
			t.Errorf("got %v", err)
		}
	case <-time.After(20 * time.Second):
		client.Close()
		t.Fatal("still waiting")
	}
}

// TestTurnWithoutAPlace: a client whom the kernel refuses a place in the queue is heard all the same.
func TestTurnWithoutAPlace(t *testing.T) {
	all := testQueue(t, 1)
	defer all.close()
	p, fd, client := placeOf(t, all)
	defer unix.Close(fd)
	defer client.Close()
	defer p.leave()
	if err := unix.EpollCtl(all.watch.epoll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{}); err != nil { // the next is refused
		t.Fatal(err)
	}
	for range 2 {
		time.AfterFunc(10*time.Millisecond, func() { client.Write([]byte("a")) })
		if n, err := p.read(make([]byte, 8), false); n != 1 || err != nil {
			t.Fatalf("%d octets, %v", n, err)
		}
	}
}
