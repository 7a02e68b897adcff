package crl

import (
	"bytes"
	"crypto"
	"errors"
	"hash"
	"io"
)

// Reading a CRL as a stream: one goroutine reads and walks, another computes the digest of what was
// read. Where the text of PEM is decoded in a goroutine of its own there is none for the digest:
// two fill two cores, and a third would only compete with them. A few buffers are in memory,
// whatever the CRL's size.

const (
	windowChunk   = 128 << 10 // octets read at once
	windowCarry   = 32 << 10  // the longest element, moved along when it crosses the end of a chunk
	windowBuffers = 3
	maxEdMessage  = 32 << 20 // Ed25519 and Ed448 sign the list itself: it has to be in memory
)

var (
	errShort   = errors.New("ends in the middle")
	errEdLarge = errors.New("too large for a signature with Ed25519 or Ed448")
)

// window is a moving view of a CRL's octets.
type window struct {
	in       io.Reader
	buf      []byte
	pos, end int   // buf[pos:end] is read and not yet walked
	base     int64 // offset of buf[0] in the CRL
	err      error // what in ended with, io.EOF at the end
	sum      *digester
	inline   bool // no goroutine for the digest
}

// isConcurrent reports whether a goroutine of its own makes what is read from in.
func isConcurrent(in io.Reader) bool {
	r, ok := in.(interface{ concurrent() bool })
	return ok && r.concurrent()
}

// newWindow reads the first chunk. size is the CRL's length, -1 when that is not known.
func newWindow(in io.Reader, size int64) *window {
	small := size >= 0 && size < windowChunk
	w := &window{in: in, inline: small || isConcurrent(in)}

	// A small list gets a buffer of its size; one octet more shows what follows it.
	n := windowCarry + windowChunk
	if small {
		n = int(size) + 1
	}

	w.buf = make([]byte, n)
	n, w.err = io.ReadFull(in, w.buf[:min(n, windowChunk)])
	w.end = n
	if w.err == io.ErrUnexpectedEOF {
		w.err = io.EOF
	}

	return w
}

func (w *window) offset() int64  { return w.base + int64(w.pos) }
func (w *window) unread() []byte { return w.buf[w.pos:w.end] }

// fill reports whether n octets, at most windowCarry, can be seen; it reads on for them.
func (w *window) fill(n int) bool {
	for w.end-w.pos < n {
		if w.err != nil || n > windowCarry {
			return false
		}

		// The digest may still be reading the buffer: what is left of it goes on in another one.
		next := w.sum.buffer()
		left := copy(next, w.buf[w.pos:w.end])
		var got int
		got, w.err = io.ReadFull(w.in, next[left:left+windowChunk])
		if w.err == io.ErrUnexpectedEOF {
			w.err = io.EOF
		}

		w.base += int64(w.pos)
		w.buf = next
		w.pos = 0
		w.end = left + got
		w.sum.feed(next, next[left:left+got], w.base+int64(left))
	}
	return true
}

// problem is the reason why no more can be read.
func (w *window) problem() error {
	if w.err != nil && w.err != io.EOF {
		return w.err
	}
	return errShort
}

// digest starts the digest of the octets [from, to), of which the first are in the window.
func (w *window) digest(h crypto.Hash, known bool, from, to int64) {
	w.sum = newDigester(h, known, from, to, w.inline)
	// What the window has read by now is fed at once; fill feeds the rest.
	w.sum.feed(w.buf, w.buf[:w.end], w.base)
}

// digester computes the digest of a part of a stream, in a goroutine of its own unless inline.
type digester struct {
	from, to int64
	hash     hash.Hash // nil when the algorithm is not known
	work     chan piece
	free     chan []byte
	made     int           // buffers, at most windowBuffers
	done     chan struct{} // nil: without a goroutine
}

// piece is what was read into a buffer, and the part of it that is digested.
type piece struct{ buffer, data []byte }

// newDigester starts the digest of the octets [from, to). Where the algorithm is not known nothing
// is computed: the list cannot be checked, but is read all the same.
func newDigester(h crypto.Hash, known bool, from, to int64, inline bool) *digester {
	d := &digester{
		from: from,
		to:   to,
		free: make(chan []byte, windowBuffers),
		made: 1,
	}
	switch {
	case !known:
	case h == 0:
		d.hash = &collector{}
	case h.Available():
		d.hash = h.New()
	}

	if d.hash != nil && !inline {
		d.work, d.done = make(chan piece, windowBuffers), make(chan struct{})
		go d.run()
	}

	return d
}

// run digests pieces until the last one, and gives each buffer back.
func (d *digester) run() {
	defer close(d.done)
	for p := range d.work {
		d.hash.Write(p.data)
		d.free <- p.buffer
	}
}

// buffer returns a buffer that is not read any more.
func (d *digester) buffer() []byte {
	select {
	case b := <-d.free:
		return b
	default:
	}

	// New buffers only while none has come back: a fast digest needs no third one.
	if d.made < windowBuffers {
		d.made++
		return make([]byte, windowCarry+windowChunk)
	}

	return <-d.free
}

// feed takes what was read into a buffer at an offset, and puts the buffer among the free ones when
// it is done.
func (d *digester) feed(buffer, data []byte, at int64) {
	lo, hi := max(d.from-at, 0), min(d.to-at, int64(len(data)))
	if lo >= hi {
		data = nil
	} else {
		data = data[lo:hi]
	}

	// A piece without data goes the same way, for the sake of its buffer.
	switch {
	case d.done != nil:
		d.work <- piece{buffer, data}
		return
	case d.hash != nil:
		d.hash.Write(data)
	}

	// The small buffer of newWindow is too short to be read into again.
	if len(buffer) >= windowCarry+windowChunk {
		d.free <- buffer
	}
}

// sum ends the work and gives the digest, or the message for schemes that sign it; nil when the
// algorithm is unknown.
func (d *digester) sum() []byte {
	d.stop()
	if d.hash == nil {
		return nil
	}
	return d.hash.Sum(nil)
}

// stop waits for the goroutine.
func (d *digester) stop() {
	if d != nil && d.work != nil {
		close(d.work)
		<-d.done
		d.work = nil
	}
}

// collector is the hash of the schemes without one: it keeps the message, up to a limit.
type collector struct {
	bytes.Buffer
	tooLong bool
}

// Write keeps p. A message that is too long is dropped, and its signature cannot be checked.
func (c *collector) Write(p []byte) (int, error) {
	if c.tooLong = c.tooLong || c.Len()+len(p) > maxEdMessage; c.tooLong {
		c.Buffer = bytes.Buffer{}
		return len(p), nil
	}
	return c.Buffer.Write(p)
}

// Sum gives the message; nil when it was too long.
func (c *collector) Sum([]byte) []byte {
	if c.tooLong {
		return nil
	}
	return c.Bytes()
}

// Size and BlockSize are those of no hash.
func (c *collector) Size() int      { return 0 }
func (c *collector) BlockSize() int { return 1 }
