package crl

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"os"

	"pam_pkcs11/internal/certinfo"
)

// Where the CRLs of a file are. A file may hold several, in PEM or DER, and certificates and text
// among them. To find them takes a few reads, not a pass over the file: a CRL says its length at
// its beginning.

// Part is one CRL in a file.
type Part struct {
	At, Size int64 // of the DER in the file; of the text when it is PEM
	Der      int64 // octets of the DER, -1 when not known
	pem      bool
	width    int  // of the lines, 0 when they are not all equal
	newline  int  // octets at the end of a line
	Guessed  bool // where it ends: behind the text that its DER needs
}

const (
	peekFirst    = 4 << 10
	maxCRLInFile = 1000
	maxInFile    = 10000 // CRLs, certificates and other blocks
)

// FindParts lists the CRLs of a file. The parts that were found before an error are returned with
// it. Where lines are of different lengths the end of a CRL is looked for behind the text that it
// needs at least, so that it is not read twice; exact looks for it from the beginning of the CRL,
// as a file needs in which one is cut short.
func FindParts(f io.ReaderAt, size int64, exact bool) ([]Part, error) {
	var parts []Part
	blocks := 0
	for at := int64(0); at < size; {
		// The first octets tell DER from PEM, and nearly always where a part ends.
		head, err := readSome(f, at, min(peekFirst, size-at))
		if err != nil {
			return parts, err
		}

		// Blanks and empty lines may stand between the parts.
		blank := len(head) - len(bytes.TrimLeft(head, " \t\r\n"))
		if blank == len(head) {
			at += int64(blank)
			continue
		}

		var part Part
		var isCRL bool
		if head[blank] == 0x30 {
			part, isCRL, err = derPart(f, at+int64(blank), size)
		} else {
			part, isCRL, err = pemPart(f, at, size, exact)
		}

		if err == io.EOF {
			return parts, nil
		}
		if err != nil {
			return parts, err
		}

		// Certificates and other blocks are stepped over, but count:
		// a file must not keep this busy for ever.
		if isCRL {
			if len(parts) == maxCRLInFile {
				return parts, fmt.Errorf("more than %d CRLs in it", maxCRLInFile)
			}
			parts = append(parts, part)
		}
		if blocks++; blocks > maxInFile {
			return parts, fmt.Errorf("more than %d CRLs, certificates and others in it", maxInFile)
		}
		at = part.At + part.Size
	}
	return parts, nil
}

// ErrGuess is the error of a CRL that does not end where its beginning says, so that the next one
// may have been taken for a part of it.
var ErrGuess = errors.New("ends before its end")

func readSome(f io.ReaderAt, at, n int64) ([]byte, error) {
	b := make([]byte, n)
	got, err := f.ReadAt(b, at)
	if err == io.EOF && got > 0 {
		err = nil
	}
	return b[:got], err
}

// derPart looks at one element of DER; a certificate is no CRL and no error.
func derPart(f io.ReaderAt, at, size int64) (part Part, isCRL bool, err error) {
	head, err := readSome(f, at, min(peekFirst, size-at))
	if err != nil {
		return part, false, err
	}

	tag, header, length, ok := readHeader(head)
	if !ok || tag != 0x30 {
		return part, false, errors.New("not a CRL")
	}
	part = Part{At: at, Size: int64(header) + length, Der: int64(header) + length}
	if part.Size > size-at {
		return part, false, errShort
	}

	// A long name, or a certificate, needs more of it.
	_, err = readFrame(head, &Head{})
	if err != nil && int64(len(head)) < part.Size {
		if head, err = readSome(f, at, min(certinfo.MaxCertificate, part.Size)); err == nil {
			_, err = readFrame(head, &Head{})
		}
	}

	if err != nil {
		// What is whole and parses as a certificate is a part to step over, and no broken CRL.
		if int64(len(head)) >= part.Size {
			if _, certErr := certinfo.Parse(head[:part.Size]); certErr == nil {
				return part, false, nil
			}
		}
		return part, false, err
	}
	return part, true, nil
}

// pemPart finds the next block of PEM; io.EOF when there is none. The size of the part is that of
// its text.
func pemPart(f io.ReaderAt, at, size int64, exact bool) (part Part, isCRL bool, err error) {
	begin, err := find(f, at, size, pemBegin)
	if err != nil {
		return part, false, err
	}
	head, err := readSome(f, begin, min(peekFirst, size-begin))
	if err != nil {
		return part, false, err
	}

	first := bytes.IndexByte(head, '\n') + 1
	if first == 0 {
		return part, false, errPEM
	}

	isCRL = bytes.HasPrefix(head, []byte(pemCRL))
	part = Part{At: begin + int64(first), pem: true}
	least := int64(0)
	if isCRL {
		least = part.measure(head[first:])
		// Lines of one length tell the end: it is enough to see that the block does end there.
		if part.width > 0 && part.At+part.Size < size {
			if end, err := readSome(f, part.At+part.Size, min(int64(len(pemEnd)), size-part.At-part.Size)); err == nil && string(end) == pemEnd {
				return part, true, nil
			}
		}
	}

	// The end has to be searched for, from behind the text that the DER needs, unless exact.
	part.width, part.Der = 0, -1
	if part.Guessed = !exact && least > 0 && part.At+least < size; !part.Guessed {
		least = 0
	}

	end, err := find(f, part.At+least, size, pemEnd)
	// The search may have begun behind the end, where the CRL is cut short.
	if err == io.EOF {
		if err = errShort; part.Guessed {
			err = ErrGuess
		}
		return part, false, err
	}

	part.Size = end - part.At
	return part, isCRL, err
}

// measure works out the length of a PEM body from its first line and the length that the DER says,
// and gives the octets of text that this needs without line ends; 0 when that is not known.
func (p *Part) measure(body []byte) (text int64) {
	raw, _, whole := bytes.Cut(body, []byte("\n"))
	line := bytes.TrimRight(raw, "\r")
	start := make([]byte, base64.StdEncoding.DecodedLen(len(line)))
	// Only whole groups of four are decoded: the line may be cut by what was read.
	got, err := base64.StdEncoding.Decode(start, line[:len(line)&^3])
	_, header, length, ok := readHeader(start[:got])
	if !ok {
		return 0
	}

	p.Der = int64(header) + length
	text = (p.Der + 2) / 3 * 4
	if !whole || err != nil || len(line)%4 != 0 {
		return text
	}

	// Every line but the last is as long as this one, and so is its end.
	p.width = len(line)
	p.newline = len(raw) - len(line) + 1
	p.Size = text + (text+int64(p.width)-1)/int64(p.width)*int64(p.newline)
	return text
}

// find returns the offset of what in a file, io.EOF when it is not there.
func find(f io.ReaderAt, at, size int64, what string) (int64, error) {
	// The buffer moves on by less than its length, so that a match across its end is seen.
	buf := make([]byte, 2*peekFirst)
	for at < size {
		n, err := f.ReadAt(buf[:min(int64(len(buf)), size-at)], at)
		if err != nil && err != io.EOF {
			return 0, err
		}
		if i := bytes.Index(buf[:n], []byte(what)); i >= 0 {
			return at + int64(i), nil
		}

		if n < len(buf) {
			break
		}
		at += int64(n - len(what) + 1)
	}
	return 0, io.EOF
}

// readAt reads decoded octets at an offset of the DER, up to its end; only where the text has lines
// of one length.
func (p *Part) readAt(f io.ReaderAt, at, n int64) ([]byte, error) {
	if n = min(n, p.Der-at); n <= 0 {
		return nil, io.EOF
	}

	if !p.pem {
		b := make([]byte, n)
		_, err := f.ReadAt(b, p.At+at)
		if err == io.EOF {
			err = errShort
		}
		return b, err
	}
	// Offsets of the DER become places in the text: groups of four characters for three octets,
	// in lines of one width with their ends.
	group := at / 3 * 4
	lines := group / int64(p.width)
	from := lines * int64(p.width+p.newline)

	skip := at - lines*int64(p.width)/4*3
	// One line more, and some octets: the stretch may begin and end in the middle of a line.
	want := (skip+n+2)/3*4 + int64(p.width)
	text := io.NewSectionReader(f, p.At+from, min(p.Size-from, want+want/int64(p.width)*int64(p.newline)+8))
	decoded, err := io.ReadAll(&wholeGroups{pemDecoder{in: text, table: base64Pairs()}, nil})

	if int64(len(decoded)) < skip+n {
		if err == nil {
			err = errShort
		}
		return nil, err
	}
	return decoded[skip : skip+n], nil
}

// wholeGroups reads a stretch of PEM text whose end is cut anywhere.
type wholeGroups struct {
	decoder pemDecoder
	chunk   []byte
}

// Read gives decoded octets; a group that the end of the stretch cuts is the end.
func (g *wholeGroups) Read(b []byte) (int, error) {
	if len(g.chunk) == 0 {
		var err error
		if g.chunk, err = g.decoder.next(nil); err != nil {
			return 0, io.EOF
		}
	}
	n := copy(b, g.chunk)
	g.chunk = g.chunk[n:]
	return n, nil
}

// Body gives the DER as a stream.
func (p *Part) Body(f io.ReaderAt) io.ReadCloser {
	section := io.NewSectionReader(f, p.At, p.Size)
	if !p.pem {
		return io.NopCloser(section)
	}
	return newPEMReader(section, p.Size)
}

// BodyOf gives the DER as a stream that takes the file with it when it is closed.
func (p *Part) BodyOf(f *os.File) io.ReadCloser { return &fileBody{p.Body(f), f} }

// fileBody is the DER of a CRL with the file that it is read from.
type fileBody struct {
	io.ReadCloser
	file io.Closer
}

// concurrent reports whether a goroutine of its own decodes.
func (b *fileBody) concurrent() bool { return isConcurrent(b.ReadCloser) }

// Close ends the decoding before it takes the file away.
func (b *fileBody) Close() error { return errors.Join(b.ReadCloser.Close(), b.file.Close()) }

// Begins reads what stands before the entries, in text of any form.
func (p *Part) Begins(f io.ReaderAt) (*Head, error) {
	h := &Head{}
	body := p.Body(f)
	defer body.Close()

	start, err := io.ReadAll(io.LimitReader(body, windowCarry))
	if err == nil {
		_, err = readFrame(start, h)
	}
	return h, err
}

// Peek reads what stands around the entries without a pass over them.
func (p *Part) Peek(f io.ReaderAt) (*Head, error) {
	// In lines of different lengths an offset of the DER has no place in the text.
	if p.pem && p.width == 0 {
		return nil, ErrNoPeek
	}

	h := &Head{}
	// The head nearly always fits into the first read; a long issuer name needs one more.
	var frame listFrame
	for n := int64(peekFirst); ; n = windowCarry {
		start, err := p.readAt(f, 0, n)
		if err != nil {
			return nil, err
		}
		if frame, err = readFrame(start, h); err == nil {
			break
		}
		if err != errShort || n == windowCarry {
			return nil, err
		}
	}

	// Extensions and signature stand behind the entries. A part that
	// is larger than its frame is no single CRL.
	behind := frame.total - frame.entriesEnd
	if frame.total != p.Der || behind > windowCarry {
		return nil, errMalformedList
	}

	tail, err := p.readAt(f, frame.entriesEnd, behind)
	if err != nil {
		return nil, err
	}
	return h, frame.readTail(tail, h, &h.signature)
}

// ErrNoPeek is the error of a text that has to be read from its beginning.
var ErrNoPeek = errors.New("lines of different lengths")
