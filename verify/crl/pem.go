package crl

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
)

// PEM (RFC 7468) as a stream: CRLs of 50 MB and more come in this form too. The text is read and
// decoded in a goroutine of its own, beside the walk over the entries.

const (
	pemBegin = "-----BEGIN "
	pemEnd   = "-----END "
	pemCRL   = pemBegin + "X509 CRL-----"
	pemChunk = 64 << 10 // octets of text read at once
	pemSlack = 8        // the fast decoder writes so far behind its end
)

var errPEM = errors.New("not the base64 text of PEM")

// pemReader decodes the body of a PEM block, without its first and last line. Close must be called.
type pemReader struct {
	decoder pemDecoder

	// Buffers go round between the goroutine that decodes and the reader; the channels are nil
	// without one.
	filled chan []byte
	free   chan []byte
	gone   chan struct{} // closed when no more is read
	done   chan struct{} // closed when the goroutine has ended

	buffer []byte // being read
	chunk  []byte // of buffer: not read yet
	err    error  // of the decoder; with a goroutine, once filled is closed
}

const pemBuffers = 4

// newPEMReader decodes size octets of text, -1 when that is not known.
func newPEMReader(body io.Reader, size int64) *pemReader {
	p := &pemReader{decoder: pemDecoder{in: body, table: base64Pairs()}}

	// One chunk is not worth a goroutine.
	if size >= 0 && size <= pemChunk {
		return p
	}

	p.filled = make(chan []byte, pemBuffers)
	p.free = make(chan []byte, pemBuffers)
	p.gone = make(chan struct{})
	p.done = make(chan struct{})
	for range pemBuffers {
		p.free <- nil
	}
	go p.run()
	return p
}

// concurrent reports whether a goroutine of its own decodes.
func (p *pemReader) concurrent() bool { return p.filled != nil }

// run decodes until the text ends or Close is called. There is room in filled for every buffer.
func (p *pemReader) run() {
	defer close(p.done)
	defer close(p.filled)
	for {
		var b []byte
		select {
		case b = <-p.free:
		case <-p.gone:
			return
		}

		if b, p.err = p.decoder.next(b[:0]); p.err != nil {
			return
		}
		p.filled <- b
	}
}

// Read gives decoded octets.
func (p *pemReader) Read(b []byte) (int, error) {
	for len(p.chunk) == 0 {
		if err := p.next(); err != nil {
			return 0, err
		}
	}

	n := copy(b, p.chunk)
	p.chunk = p.chunk[n:]
	return n, nil
}

// next returns the buffer that was read and takes another one.
func (p *pemReader) next() error {
	// Without a goroutine one buffer is enough.
	if p.filled == nil {
		if p.err == nil {
			p.buffer, p.err = p.decoder.next(p.buffer[:0])
			p.chunk = p.buffer
		}
		return p.err
	}

	if p.buffer != nil {
		p.free <- p.buffer
		p.buffer = nil
	}

	b, more := <-p.filled
	// run has set err before it closed filled.
	if !more {
		return p.err
	}
	p.buffer, p.chunk = b, b
	return nil
}

// Close ends the goroutine. It does not close what is read from.
func (p *pemReader) Close() error {
	if p.filled != nil {
		// run may be waiting for a free buffer; its sends never wait.
		close(p.gone)
		<-p.done
		p.filled = nil
		p.buffer = nil
		p.chunk = nil
		p.err = io.ErrClosedPipe
	}
	return nil
}

// pemDecoder decodes base64 with line ends anywhere, strictly otherwise.
type pemDecoder struct {
	in    io.Reader
	table *[1 << 16]uint16
	text  []byte
	rest  []byte // of a group of four that goes on in the next line
	ended bool   // padding was there: nothing may follow
}

// next decodes what one read gives: at least one octet unless there is an error; io.EOF at the end.
func (d *pemDecoder) next(out []byte) ([]byte, error) {
	if d.text == nil {
		d.text = make([]byte, pemChunk)
	}

	if cap(out) < pemChunk/4*3+pemSlack+3 {
		out = make([]byte, 0, pemChunk/4*3+pemSlack+3)
	}
	// Text of blanks alone decodes to nothing: it reads on.
	for len(out) == 0 {
		n, err := io.ReadFull(d.in, d.text)
		if n == 0 {
			if err == io.EOF && len(d.rest) > 0 {
				err = errPEM
			}
			return nil, err
		}

		for text := d.text[:n]; len(text) > 0; {
			var line []byte
			if i := bytes.IndexByte(text, '\n'); i >= 0 {
				line, text = text[:i], text[i+1:]
			} else {
				line, text = text, nil
			}
			if out, err = d.line(out, trimBlanks(line)); err != nil {
				return nil, err
			}
		}
	}
	return out, nil
}

// trimBlanks drops blanks and a carriage return at the ends of a line.
func trimBlanks(line []byte) []byte {
	if n := len(line); n > 0 && line[0] > ' ' && line[n-1] > ' ' {
		return line // nearly every line: bytes.Trim would take longer than the decoding
	}
	return bytes.Trim(line, " \t\r")
}

// line appends the decoded octets of a line, or of a piece of one.
func (d *pemDecoder) line(out, line []byte) ([]byte, error) {
	if len(line) == 0 {
		return out, nil
	}
	if d.ended {
		return nil, errPEM
	}
	var err error

	// A group of four may be cut by a chunk, or by a line whose length is no multiple of four.
	if len(d.rest) > 0 {
		n := min(4-len(d.rest), len(line))
		d.rest, line = append(d.rest, line[:n]...), line[n:]
		if len(d.rest) < 4 {
			return out, nil
		}
		if out, err = d.strict(out, d.rest); err != nil {
			return nil, err
		}
		d.rest = d.rest[:0]
	}

	// The fast decoder stops at the first group that is not plain;
	// strict takes the rest, and the padding.
	whole := len(line) &^ 3
	fast := d.fast(out[len(out):cap(out)], line[:whole])
	out = out[:len(out)+fast/4*3]
	if fast < whole {
		if out, err = d.strict(out, line[fast:whole]); err != nil {
			return nil, err
		}
	}

	d.rest = append(d.rest, line[whole:]...)
	return out, nil
}

// strict decodes groups of four with the standard library.
func (d *pemDecoder) strict(out, groups []byte) ([]byte, error) {
	if len(groups) > 0 && d.ended {
		return nil, errPEM
	}
	out, err := base64.StdEncoding.Strict().AppendDecode(out, groups)
	if err != nil {
		return nil, errPEM
	}

	// Padding ends the text; groups in which it stands anywhere else were refused above.
	d.ended = len(groups) > 0 && groups[len(groups)-1] == '='
	return out, nil
}

// fast decodes pairs of groups as long as they are plain, and returns how much of src it took.
func (d *pemDecoder) fast(dst, src []byte) int {
	n := 0
	// Eight octets are written for each pair, six of them decoded: dst has pemSlack to spare.
	for len(src) >= n+8 && len(dst) >= 8 {
		s := src[n : n+8]
		a := d.table[uint16(s[0])|uint16(s[1])<<8]
		b := d.table[uint16(s[2])|uint16(s[3])<<8]
		c := d.table[uint16(s[4])|uint16(s[5])<<8]
		e := d.table[uint16(s[6])|uint16(s[7])<<8]
		// More than twelve bits: one of the characters has no value.
		if (a|b|c|e)>>12 != 0 {
			break
		}

		v := uint64(a)<<52 | uint64(b)<<40 | uint64(c)<<28 | uint64(e)<<16
		binary.BigEndian.PutUint64(dst, v)
		dst = dst[6:]
		n += 8
	}
	return n
}

// base64Pairs has the twelve bits that two characters mean, 0xffff for those that mean none.
var base64Pairs = sync.OnceValue(func() *[1 << 16]uint16 {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
	var table [1 << 16]uint16
	for i := range table {
		table[i] = 0xffff
	}

	for i := range len(alphabet) {
		for j := range len(alphabet) {
			table[int(alphabet[i])|int(alphabet[j])<<8] = uint16(i<<6 | j)
		}
	}
	return &table
})

// pemText reads the body of the first CRL block of a stream and ends before its last line.
type pemText struct {
	in      io.Reader
	pending []byte // read, and perhaps the beginning of the last line
	buf     []byte
	ended   bool
}

// newPEMText reads the first line. What follows the block is read and dropped.
func newPEMText(in io.Reader) (*pemText, error) {
	t := &pemText{in: in, buf: make([]byte, pemChunk)}
	// The reader may give the first line in pieces.
	for len(t.pending) < len(pemCRL)+2 {
		n, err := in.Read(t.buf[:256])
		t.pending = append(t.pending, t.buf[:n]...)
		if err != nil {
			break
		}
	}

	rest, ok := bytes.CutPrefix(t.pending, []byte(pemCRL))
	if !ok {
		return nil, errors.New("CRL: neither DER nor the PEM of a CRL")
	}

	t.pending = rest
	return t, nil
}

// Read gives the text of the body.
func (t *pemText) Read(p []byte) (int, error) {
	// A dash is not in the alphabet of base64: it can only begin the last line.
	for {
		if i := bytes.IndexByte(t.pending, '-'); i >= 0 && !t.ended {
			// The last line may go on in the next read.
			if len(t.pending)-i < len(pemEnd) {
				if i > 0 {
					return t.take(p, i), nil
				}
			} else if !bytes.HasPrefix(t.pending[i:], []byte(pemEnd)) {
				return 0, errPEM
			} else {
				t.ended = true
				t.pending = t.pending[:i]
			}
		} else if len(t.pending) > 0 {
			return t.take(p, len(t.pending)), nil
		}

		if t.ended {
			if len(t.pending) > 0 {
				return t.take(p, len(t.pending)), nil
			}
			// To its end, so that a stream that the network cut short is noticed.
			_, err := io.Copy(io.Discard, t.in)
			if err == nil {
				err = io.EOF
			}
			return 0, err
		}

		n, err := t.in.Read(t.buf)
		t.pending = append(t.pending, t.buf[:n]...)
		// Text that ends before its last line was cut.
		if n == 0 && err != nil {
			if err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return 0, err
		}
	}
}

// take gives out the first n octets of pending, or as many as p has room for.
func (t *pemText) take(p []byte, n int) int {
	n = copy(p, t.pending[:n])
	t.pending = t.pending[n:]
	return n
}

// maxBlanks is how many blanks may stand before a CRL.
const maxBlanks = 64

// ScanBody makes the pass over a body in DER or PEM.
func ScanBody(body io.Reader, asked *SerialSet, visitor Visitor) (*Scan, error) {
	first := make([]byte, 1)
	for blanks := 0; ; blanks++ {
		if blanks > maxBlanks {
			return nil, errors.New("CRL: neither DER nor the PEM of a CRL")
		}
		if _, err := io.ReadFull(body, first); err != nil {
			return nil, fmt.Errorf("CRL: %w", err)
		}
		if !strings.ContainsRune(" \t\r\n", rune(first[0])) {
			break
		}
	}

	whole := io.MultiReader(strings.NewReader(string(first)), body)
	// DER begins with a SEQUENCE, PEM with a dash.
	if first[0] != '-' {
		return ScanDER(whole, -1, asked, visitor)
	}

	text, err := newPEMText(whole)
	if err != nil {
		return nil, err
	}

	decoded := newPEMReader(text, -1)
	defer decoded.Close()
	return ScanDER(decoded, -1, asked, visitor)
}
