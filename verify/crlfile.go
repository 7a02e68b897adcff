package verify

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"os"

	"pam_pkcs11/internal/certinfo"
)

// Where the CRLs of a file are. A file may hold several, in PEM or DER, and certificates and text among them. To find
// them takes a few reads, not a pass over the file: a CRL says its length at its beginning.

// crlPart is one CRL in a file.
type crlPart struct {
	at, size int64 // of the DER in the file; of the text when it is PEM
	der      int64 // octets of the DER, -1 when not known
	pem      bool
	width    int  // of the lines, 0 when they are not all equal
	newline  int  // octets at the end of a line
	guessed  bool // where it ends: behind the text that its DER needs
}

const (
	peekFirst    = 4 << 10
	maxCRLInFile = 1000
	maxInFile    = 10000 // CRLs, certificates and other blocks
)

// findCRLs lists the CRLs of a file. The parts that were found before an error are returned with it. Where lines are of
// different lengths the end of a CRL is looked for behind the text that it needs at least, so that it is not read twice;
// exact looks for it from the beginning of the CRL, as a file needs in which one is cut short.
func findCRLs(f io.ReaderAt, size int64, exact bool) ([]crlPart, error) {
	var parts []crlPart
	blocks := 0
	for at := int64(0); at < size; {
		head, err := readSome(f, at, min(peekFirst, size-at))
		if err != nil {
			return parts, err
		}
		blank := len(head) - len(bytes.TrimLeft(head, " \t\r\n"))
		if blank == len(head) {
			at += int64(blank)
			continue
		}
		var part crlPart
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
		if isCRL {
			if len(parts) == maxCRLInFile {
				return parts, fmt.Errorf("more than %d CRLs in it", maxCRLInFile)
			}
			parts = append(parts, part)
		}
		if blocks++; blocks > maxInFile {
			return parts, fmt.Errorf("more than %d CRLs, certificates and others in it", maxInFile)
		}
		at = part.at + part.size
	}
	return parts, nil
}

// errGuess: a CRL does not end where its beginning says, so that the next one may have been taken for a part of it.
var errGuess = errors.New("ends before its end")

func readSome(f io.ReaderAt, at, n int64) ([]byte, error) {
	b := make([]byte, n)
	got, err := f.ReadAt(b, at)
	if err == io.EOF && got > 0 {
		err = nil
	}
	return b[:got], err
}

// derPart looks at one element of DER; a certificate is no CRL and no error.
func derPart(f io.ReaderAt, at, size int64) (part crlPart, isCRL bool, err error) {
	head, err := readSome(f, at, min(peekFirst, size-at))
	if err != nil {
		return part, false, err
	}
	tag, header, length, ok := readHeader(head)
	if !ok || tag != 0x30 {
		return part, false, errors.New("not a CRL")
	}
	part = crlPart{at: at, size: int64(header) + length, der: int64(header) + length}
	if part.size > size-at {
		return part, false, errCRLShort
	}
	_, err = readFrame(head, &crlHead{})
	if err != nil && int64(len(head)) < part.size { // a long name, or a certificate
		if head, err = readSome(f, at, min(certinfo.MaxCertificate, part.size)); err == nil {
			_, err = readFrame(head, &crlHead{})
		}
	}
	if err != nil {
		if int64(len(head)) >= part.size {
			if _, certErr := certinfo.Parse(head[:part.size]); certErr == nil {
				return part, false, nil
			}
		}
		return part, false, err
	}
	return part, true, nil
}

// pemPart finds the next block of PEM; io.EOF when there is none. The size of the part is that of its text.
func pemPart(f io.ReaderAt, at, size int64, exact bool) (part crlPart, isCRL bool, err error) {
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
	part = crlPart{at: begin + int64(first), pem: true}
	least := int64(0)
	if isCRL {
		least = part.measure(head[first:])
		if part.width > 0 && part.at+part.size < size {
			if end, err := readSome(f, part.at+part.size, min(int64(len(pemEnd)), size-part.at-part.size)); err == nil && string(end) == pemEnd {
				return part, true, nil
			}
		}
	}
	part.width, part.der = 0, -1
	if part.guessed = !exact && least > 0 && part.at+least < size; !part.guessed {
		least = 0
	}
	end, err := find(f, part.at+least, size, pemEnd)
	if err == io.EOF {
		if err = errCRLShort; part.guessed {
			err = errGuess
		}
		return part, false, err
	}
	part.size = end - part.at
	return part, isCRL, err
}

// measure works out the length of a PEM body from its first line and the length that the DER says, and gives the octets
// of text that this needs without line ends; 0 when that is not known.
func (p *crlPart) measure(body []byte) (text int64) {
	raw, _, whole := bytes.Cut(body, []byte("\n"))
	line := bytes.TrimRight(raw, "\r")
	start := make([]byte, base64.StdEncoding.DecodedLen(len(line)))
	got, err := base64.StdEncoding.Decode(start, line[:len(line)&^3])
	_, header, length, ok := readHeader(start[:got])
	if !ok {
		return 0
	}
	p.der = int64(header) + length
	text = (p.der + 2) / 3 * 4
	if !whole || err != nil || len(line)%4 != 0 {
		return text
	}
	p.width, p.newline = len(line), len(raw)-len(line)+1
	p.size = text + (text+int64(p.width)-1)/int64(p.width)*int64(p.newline)
	return text
}

// find gives the place of a line that begins so.
func find(f io.ReaderAt, at, size int64, what string) (int64, error) {
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

// readAt reads decoded octets at an offset of the DER, up to its end; only where the text has lines of one length.
func (p *crlPart) readAt(f io.ReaderAt, at, n int64) ([]byte, error) {
	if n = min(n, p.der-at); n <= 0 {
		return nil, io.EOF
	}
	if !p.pem {
		b := make([]byte, n)
		_, err := f.ReadAt(b, p.at+at)
		if err == io.EOF {
			err = errCRLShort
		}
		return b, err
	}
	group := at / 3 * 4 // the place in the text without line ends
	lines := group / int64(p.width)
	from := lines * int64(p.width+p.newline)
	skip := at - lines*int64(p.width)/4*3
	want := (skip+n+2)/3*4 + int64(p.width)
	text := io.NewSectionReader(f, p.at+from, min(p.size-from, want+want/int64(p.width)*int64(p.newline)+8))
	decoded, err := io.ReadAll(&wholeGroups{pemDecoder{in: text, table: base64Pairs()}, nil})
	if int64(len(decoded)) < skip+n {
		if err == nil {
			err = errCRLShort
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

// body gives the DER as a stream.
func (p *crlPart) body(f io.ReaderAt) io.ReadCloser {
	section := io.NewSectionReader(f, p.at, p.size)
	if !p.pem {
		return io.NopCloser(section)
	}
	return newPEMReader(section, p.size)
}

// bodyOf gives the DER as a stream that takes the file with it when it is closed.
func (p *crlPart) bodyOf(f *os.File) io.ReadCloser { return &crlBody{p.body(f), f} }

// crlBody is the DER of a CRL with the file that it is read from.
type crlBody struct {
	io.ReadCloser
	file io.Closer
}

func (b *crlBody) concurrent() bool { return isConcurrent(b.ReadCloser) }

// Close ends the decoding before it takes the file away.
func (b *crlBody) Close() error { return errors.Join(b.ReadCloser.Close(), b.file.Close()) }

// begins reads what stands before the entries, in text of any form.
func (p *crlPart) begins(f io.ReaderAt) (*crlHead, error) {
	h := &crlHead{}
	body := p.body(f)
	defer body.Close()
	start, err := io.ReadAll(io.LimitReader(body, windowCarry))
	if err == nil {
		_, err = readFrame(start, h)
	}
	return h, err
}

// peek reads what stands around the entries without a pass over them.
func (p *crlPart) peek(f io.ReaderAt) (*crlHead, error) {
	if p.pem && p.width == 0 {
		return nil, errNoPeek
	}
	h := &crlHead{}
	var frame crlFrame
	for n := int64(peekFirst); ; n = windowCarry {
		start, err := p.readAt(f, 0, n)
		if err != nil {
			return nil, err
		}
		if frame, err = readFrame(start, h); err == nil {
			break
		}
		if err != errCRLShort || n == windowCarry {
			return nil, err
		}
	}
	behind := frame.total - frame.entriesEnd
	if frame.total != p.der || behind > windowCarry {
		return nil, errMalformedList
	}
	tail, err := p.readAt(f, frame.entriesEnd, behind)
	if err != nil {
		return nil, err
	}
	return h, frame.readTail(tail, h, &h.signature)
}

// errNoPeek: the text has to be read from its beginning.
var errNoPeek = errors.New("lines of different lengths")
