package enrolled

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
	"unicode"

	"golang.org/x/sys/unix"

	"pam_pkcs11/internal/safefile"
)

// Add pairs a key with a user, and reports whether that changed the file, which is made where there
// is none (0644). A line for the same key and user is replaced where it differs in chain.
// Everything else in the file stays as it is. Characters of the comment that could end its line are
// replaced: it comes from a card.
//
// The file is replaced in one step, under a lock on its directory, which is waited for until ctx
// ends.
func Add(ctx context.Context, path string, e Entry) (changed bool, err error) {
	if err := checkUser(e.User); err != nil {
		return false, err
	}
	return edit(ctx, path, func(file *File, lines [][]byte) ([][]byte, error) {
		for _, old := range file.Entries {
			switch {
			case old.Key != e.Key:
			case old.User != e.User:
				return nil, fmt.Errorf("the key is enrolled for %s already (line %d)", old.User, old.Line)
			case old.Chain == e.Chain:
				return nil, nil
			default:
				// Replaced and not added: of several lines one that asks for the chain counts.
				lines[old.Line-1] = []byte(e.text())
				return lines, nil
			}
		}

		// A file with more lines could not be read again.
		if len(file.Entries) >= maxEntries {
			return nil, fmt.Errorf("there are %d keys in it, which is the most", maxEntries)
		}
		return append(lines, []byte(e.text())), nil
	})
}

// Remove removes the lines of a key: those of one user or, with "", of all. It reports whether
// there was one. It waits as Add does.
func Remove(ctx context.Context, path string, key Key, user string) (changed bool, err error) {
	changed, err = edit(ctx, path, func(file *File, lines [][]byte) ([][]byte, error) {
		drop := map[int]bool{}
		for _, e := range file.Entries {
			if e.Key == key && (user == "" || e.User == user) {
				drop[e.Line-1] = true
			}
		}
		if len(drop) == 0 {
			return nil, nil
		}

		kept := make([][]byte, 0, len(lines))
		for i, line := range lines {
			if !drop[i] {
				kept = append(kept, line)
			}
		}
		return kept, nil
	})
	return changed, err
}

// text returns the line as it is written, without its end.
func (e Entry) text() string {
	text := e.Key.String() + " " + e.User
	if e.Chain {
		text += " " + chainWord
	}
	if comment := plainComment(e.Comment); comment != "" {
		text += "  # " + comment
	}
	return text
}

// plainComment returns what of a comment is printable, on one line.
func plainComment(text string) string {
	plain := strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) || r == unicode.ReplacementChar {
			return ' '
		}
		return r
	}, text)

	plain = strings.Join(strings.Fields(plain), " ")
	if len(plain) > maxComment {
		// The bound may cut a character in two.
		plain = strings.ToValidUTF8(plain[:maxComment], "")
	}
	return plain
}

// edit reads the file, lets change make other lines of it, and writes them; nil leaves the file as
// it is.
func edit(ctx context.Context, path string, change func(*File, [][]byte) ([][]byte, error)) (changed bool, err error) {
	unlock, err := lock(ctx, filepath.Dir(path))
	if err != nil {
		return false, fmt.Errorf("%s: %w", path, err)
	}
	defer unlock()

	data, resolved, err := load(path, false)
	if errors.Is(err, fs.ErrNotExist) {
		// The first key makes the file.
		data = nil
		resolved = safefile.Resolved{Path: path}
		err = nil
	}
	if err != nil {
		return false, err
	}
	file, err := parse(data)
	if err != nil {
		return false, fmt.Errorf("%s: %w", path, err)
	}

	lines, err := change(file, linesOf(data))
	switch {
	case err != nil:
		return false, fmt.Errorf("%s: %w", path, err)
	case lines == nil:
		return false, nil
	}

	text := bytes.Join(lines, []byte{'\n'})
	if len(lines) > 0 {
		text = append(text, '\n')
	}

	// Nobody could read a longer one: every login would fail.
	if len(text) > maxFile {
		return false, fmt.Errorf("%s: it would be longer than %d bytes", path, maxFile)
	}
	return true, replace(resolved.Path, text)
}

// linesOf returns the lines without their ends. What follows the last end is a line, too.
func linesOf(data []byte) [][]byte {
	if len(data) == 0 {
		return nil
	}
	return bytes.Split(bytes.TrimSuffix(data, []byte{'\n'}), []byte{'\n'})
}

// replace puts a file with these octets in the place of path. It is complete and on the disk before
// it gets its name, so that a crash leaves the old file or the new one.
func replace(path string, text []byte) error {
	fresh := path + ".new"

	// One is left where an earlier change was ended half-way. The lock says that nobody is writing
	// it.
	if err := os.Remove(fresh); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := safefile.Create(fresh, 0o644)
	if err != nil {
		return err
	}

	// Synced before the rename: else a power failure could leave an empty file under the name.
	_, err = f.Write(text)
	if err == nil {
		err = f.Sync()
	}
	err = errors.Join(err, f.Close())
	if err == nil {
		err = os.Rename(fresh, path)
	}
	if err != nil {
		return errors.Join(err, ignoreMissing(os.Remove(fresh)))
	}
	return syncDirectory(filepath.Dir(path))
}

// ignoreMissing returns nil for a file that does not exist.
func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// syncDirectory brings the new name to the disk.
func syncDirectory(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// lockPause is the time between two tries for a busy lock.
const lockPause = 20 * time.Millisecond

// lock takes the lock of a directory: the file itself is replaced, and no lock on it would last.
func lock(ctx context.Context, dir string) (unlock func(), err error) {
	d, err := os.Open(dir)
	if err != nil {
		return nil, err
	}

	// A blocking flock(2) could not be ended with the context.
	for {
		err := unix.Flock(int(d.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		switch {
		case err == nil:
			return func() { _ = d.Close() }, nil
		case !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR):
			return nil, errors.Join(err, d.Close())
		}

		select {
		case <-ctx.Done():
			return nil, errors.Join(fmt.Errorf("somebody else is changing it: %w", ctx.Err()), d.Close())
		case <-time.After(lockPause):
		}
	}
}
