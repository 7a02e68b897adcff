package pamstack

import (
	"bytes"
	"errors"
	"strings"
)

// What libpam does not read.
var (
	errUnfinished = errors.New("the file ends behind a backslash")
	errEndless    = errors.New("a backslash is the 1023rd byte of the line: libpam waits for ever")
)

// bufferSize is how much of a logical line libpam holds, the byte that ends a C string included.
const bufferSize = 1024

// blanks separate words.
const blanks = " \n\t"

// logical is a line as libpam puts it together.
type logical struct {
	text   string
	number int // of the line of the file in which it begins, from 1

	split bool // a longer line was cut here, what follows is taken for a line of its own
	nul   bool // something behind a NUL byte was lost
}

// lines reads the logical lines of a file.
type lines struct {
	data   []byte
	number int // of the line of the file at the head of data
}

// newLines starts at the first line of a file.
func newLines(data []byte) *lines { return &lines{data: data, number: 1} }

// next puts the next logical line together. At the end it returns the zero line.
func (l *lines) next() (line logical, err error) {
	text := ""

	for {
		// libpam's buffer holds the whole logical line: each continued line leaves less room in it.
		room := bufferSize - len(text)
		if room == 1 {
			return line, errEndless
		}
		number := l.number
		chunk, more := l.get(room)
		if !more && line.number != 0 {
			return line, errUnfinished
		}
		if !more {
			return line, nil
		}

		// A full buffer without an end of line: fgets gives the rest as the next line.
		full := len(chunk) == room-1 && !bytes.HasSuffix(chunk, []byte("\n"))
		line.split = line.split || full && len(l.data) > 0

		// To C a NUL ends the string, and with it what was read.
		chunk, _, cut := bytes.Cut(chunk, []byte{0})
		line.nul = line.nul || cut

		head := bytes.TrimLeft(chunk, blanks)
		if len(head) == 0 || head[0] == '#' {
			continue // even between a backslash and what continues its line
		}
		if line.number == 0 {
			line.number = number
		}

		// A comment ends the line: a backslash in it continues nothing.
		before, _, comment := bytes.Cut(chunk, []byte("#"))
		continued, backslash := bytes.CutSuffix(bytes.TrimRight(before, blanks), []byte(`\`))
		if comment || !backslash {
			line.text = text + string(before)
			return line, nil
		}
		text += string(continued) + " "
	}
}

// get is fgets(3): a line with its end, of at most size-1 bytes.
func (l *lines) get(size int) (chunk []byte, more bool) {
	if len(l.data) == 0 {
		return nil, false
	}

	length := min(len(l.data), size-1)
	if end := bytes.IndexByte(l.data[:length], '\n'); end >= 0 {
		length = end + 1
		l.number++
	}

	chunk = l.data[:length]
	l.data = l.data[length:]
	return chunk, true
}

// words takes a line apart.
type words struct {
	rest string // what was not read; empty at the end
}

// next is the next word, false at the end. A word in brackets loses them: what is in them may have
// blanks, and "\]" for a bracket.
func (w *words) next() (word string, bracketed, more bool) {
	from := strings.TrimLeft(w.rest, blanks)
	if from == "" {
		w.rest = ""
		return "", false, false
	}
	if from[0] == '[' {
		return w.list(from[1:]), true, true
	}

	end := strings.IndexAny(from, blanks)
	if end < 0 {
		end = len(from)
	}
	// The blank that ends a word is taken with it.
	w.rest = strings.TrimPrefix(from[end:], from[end:min(end+1, len(from))])
	return from[:end], false, true
}

// list reads up to the bracket that closes.
func (w *words) list(from string) string {
	var word strings.Builder

	for i := 0; i < len(from); i++ {
		switch {
		case from[i] == ']':
			w.rest = from[i+1:]
			return word.String()
		case from[i] == '\\' && i+1 < len(from) && from[i+1] == ']':
			i++
		}
		word.WriteByte(from[i])
	}

	w.rest = ""
	return word.String()
}

// all reads the words that are left.
func (w *words) all() (all []string) {
	for {
		word, _, more := w.next()
		if !more {
			return all
		}
		all = append(all, word)
	}
}
