package crl

import (
	"sync/atomic"
	"syscall"
)

// Handing buffers from one goroutine to another some thousand times a second. Channels are slow where both have work all
// the time: who is woken at one is queued behind who wakes it, until another thread comes and takes it away from there.
// So these goroutines wait in the kernel, which wakes the thread itself.

// semaphore counts what can be had. The kernel is called only when one side waits.
type semaphore struct {
	count atomic.Int64 // below 0: somebody waits
	pipe  [2]int       // an octet for each that waits
}

func newSemaphore(count int) (*semaphore, error) {
	s := &semaphore{}
	s.count.Store(int64(count))
	return s, syscall.Pipe2(s.pipe[:], syscall.O_CLOEXEC)
}

func (s *semaphore) wait() {
	if s.count.Add(-1) >= 0 {
		return
	}
	for {
		if _, err := syscall.Read(s.pipe[0], []byte{0}); err != syscall.EINTR {
			return
		}
	}
}

func (s *semaphore) post() {
	if s.count.Add(1) > 0 {
		return
	}
	for {
		if _, err := syscall.Write(s.pipe[1], []byte{0}); err != syscall.EINTR {
			return
		}
	}
}

func (s *semaphore) close() {
	syscall.Close(s.pipe[0])
	syscall.Close(s.pipe[1])
}

// belt carries buffers from a producer to a consumer, in their order, and empty ones back. Each end belongs to one
// goroutine.
type belt struct {
	buffers      [][]byte
	free, filled *semaphore
	sent, taken  int
	holds        bool        // the consumer has the buffer that it took last
	finished     atomic.Bool // no more will be sent
	unwanted     atomic.Bool // no more will be taken
}

// newBelt has so many buffers, nil at first. close must be called once neither end is used any more.
func newBelt(buffers int) (*belt, error) {
	free, err := newSemaphore(buffers)
	if err != nil {
		return nil, err
	}
	filled, err := newSemaphore(0)
	if err != nil {
		free.close()
		return nil, err
	}
	return &belt{buffers: make([][]byte, buffers), free: free, filled: filled}, nil
}

func (b *belt) close() {
	b.free.close()
	b.filled.close()
}

// empty waits for a buffer to fill, which may be nil; false when the consumer wants no more.
func (b *belt) empty() ([]byte, bool) {
	b.free.wait()
	return b.buffers[b.sent%len(b.buffers)], !b.unwanted.Load()
}

// send hands over what empty gave last, filled, or another buffer in its place.
func (b *belt) send(buffer []byte) {
	b.buffers[b.sent%len(b.buffers)] = buffer
	b.sent++
	b.filled.post()
}

// finish ends the producer's work.
func (b *belt) finish() {
	b.finished.Store(true)
	b.filled.post()
}

// take gives the buffer before back and waits for the next one; false when all were taken and no more will come.
func (b *belt) take() ([]byte, bool) {
	if b.holds {
		b.holds = false
		b.free.post()
	}
	b.filled.wait()
	if b.finished.Load() && b.taken == b.sent {
		b.filled.post() // for whoever asks again
		return nil, false
	}
	b.holds = true
	b.taken++
	return b.buffers[(b.taken-1)%len(b.buffers)], true
}

// refuse ends the consumer's work.
func (b *belt) refuse() {
	b.unwanted.Store(true)
	b.free.post()
}
