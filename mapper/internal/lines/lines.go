// Package lines reads texts of any size in blocks of whole lines.
package lines

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
)

// Each reads a text in blocks, each of which ends with a whole line; the rest of the block comes
// before the next one. A byte order mark at the beginning does not count. Each ends when f returns
// false.
func Each(ctx context.Context, r io.Reader, size, maxLine int, f func([]byte) bool) error {
	block := make([]byte, size+maxLine)
	kept := 0

	for first := true; ; first = false {
		if err := ctx.Err(); err != nil {
			return err
		}

		n, err := io.ReadFull(r, block[kept:kept+size])
		data := block[:kept+n]
		if first {
			data = bytes.TrimPrefix(data, []byte("\xef\xbb\xbf"))
		}

		switch {
		case err == io.EOF || errors.Is(err, io.ErrUnexpectedEOF):
			f(data)
			return nil
		case err != nil:
			return err
		}

		// The beginning of the next line waits for its end.
		end := bytes.LastIndexByte(data, '\n') + 1
		// A longer one would need a block of its own: the file is not one of lines.
		if len(data)-end > maxLine {
			return fmt.Errorf("line of more than %d octets", maxLine)
		}

		if !f(data[:end]) {
			return nil
		}
		kept = copy(block, data[end:])
	}
}

// IsBlank reports whether an octet is a blank or a tab.
func IsBlank(c byte) bool { return c == ' ' || c == '\t' }

// Cut takes the first line off, without its end.
func Cut(data []byte) (line, rest []byte) {
	if i := bytes.IndexByte(data, '\n'); i >= 0 {
		return data[:i], data[i+1:]
	}
	return data, nil
}
