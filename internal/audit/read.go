package audit

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"pam_pkcs11/internal/logs"
)

// Sources are where entries are read from. The zero value of a field is this machine's own.
type Sources struct {
	// Journalctl is the program and its first arguments; nil looks in /usr/bin and /bin.
	Journalctl []string
	Files      []string         // of syslogd, of which those that are there are read
	Last       string           // the file for what no log took
	Now        func() time.Time // nil is time.Now
}

// syslogFiles are where distributions have the lines of LOG_AUTHPRIV.
var syslogFiles = []string{"/var/log/auth.log", "/var/log/secure", "/var/log/messages"}

const (
	journalTime = 30 * time.Second // that journalctl may take
	maxJournal  = 64 << 20         // bytes that are read of it, and of a file the last of them
	maxEntries  = 10000            // the newest of those that were found
	maxRead     = 1 << 20          // bytes of a line, with all that journalctl writes of an entry
)

// Read returns the entries since a time, the oldest first; the zero time is all. It reads the
// journal or, where there is none, the files of syslogd, and always the file for what no log took.
// An error is returned beside what could be read.
func (s Sources) Read(ctx context.Context, since time.Time) ([]Entry, error) {
	if s.Now == nil {
		s.Now = time.Now
	}
	entries, err := s.journal(ctx, since)
	// A journal that cannot be read is an error: the files beside it would be half of the truth.
	if errors.Is(err, errNoJournal) {
		entries, err = s.files(since)
	}
	last, lastErr := s.file(s.lastFile(), since)
	if lastErr != nil && !os.IsNotExist(lastErr) {
		err = errors.Join(err, lastErr)
	}

	entries = append(entries, last...)
	slices.SortStableFunc(entries, func(a, b Entry) int { return a.Time.Compare(b.Time) })
	if len(entries) > maxEntries {
		entries = entries[len(entries)-maxEntries:]
	}
	return entries, err
}

func (s Sources) lastFile() string {
	if s.Last == "" {
		return logs.LastFile
	}
	return s.Last
}

// errNoJournal is the reason for which the files of syslogd are read.
var errNoJournal = errors.New("there is no journalctl")

// journal asks journalctl, which knows where journals are, and which of them the caller may read.
func (s Sources) journal(ctx context.Context, since time.Time) ([]Entry, error) {
	command := s.Journalctl
	if command == nil {
		if command = journalctl(); command == nil {
			return nil, errNoJournal
		}
	}

	ctx, cancel := context.WithTimeout(ctx, journalTime)
	defer cancel()

	args := append(slices.Clone(command[1:]), "--output=json", "--no-pager", "--quiet", "--reverse",
		"--lines="+strconv.Itoa(maxEntries))

	if !since.IsZero() {
		args = append(args, "--since=@"+strconv.FormatInt(since.Unix(), 10))
	}

	// Only what carries these fields: the journal of a year has millions of other entries.
	args = append(args, "PAM_PKCS11_KIND=auth", "PAM_PKCS11_KIND=chauthtok")

	child := exec.CommandContext(ctx, command[0], args...)
	child.Env = []string{"PATH=/usr/bin:/bin", "LC_ALL=C", "SYSTEMD_PAGER=", "SYSTEMD_COLORS=0"}
	child.WaitDelay = time.Second
	out, err := child.StdoutPipe()
	if err != nil {
		return nil, err
	}

	if err := child.Start(); err != nil {
		return nil, fmt.Errorf("%s: %w", command[0], err)
	}

	// Read in reverse, so that what is beyond the limit is the oldest.
	limited := &io.LimitedReader{R: out, N: maxJournal}
	entries, readErr := readJournal(limited)
	full := limited.N == 0 // what is left is older
	if full {
		cancel()
	}

	_, _ = io.Copy(io.Discard, out) // ends with the child, or with the context
	if err := errors.Join(readErr, ctx.Err(), child.Wait()); err != nil && !full {
		return entries, fmt.Errorf("%s: %w", command[0], err)
	}
	return entries, nil
}

// journalctl is the program in a directory that is root's, nil where there is none.
func journalctl() []string {
	for _, path := range []string{"/usr/bin/journalctl", "/bin/journalctl"} {
		if _, err := os.Stat(path); err == nil {
			return []string{path}
		}
	}
	return nil
}

// readJournal reads one object on each line, the newest first, and returns the oldest first. What
// is no entry is passed over.
func readJournal(r io.Reader) ([]Entry, error) {
	var entries []Entry
	err := eachLine(r, func(line []byte) {
		if e, ok := readObject(line); ok && len(entries) < maxEntries {
			entries = append(entries, e)
		}
	})
	slices.Reverse(entries)
	return entries, err
}

// eachLine takes every line of at most maxRead bytes. A longer one is passed over: whoever may
// write to the log must not end its reading.
func eachLine(r io.Reader, take func(line []byte)) error {
	// ReadSlice never holds more than maxRead bytes, however long a line is.
	lines := bufio.NewReaderSize(r, maxRead)
	for long := false; ; {
		line, err := lines.ReadSlice('\n')
		if errors.Is(err, bufio.ErrBufferFull) {
			long = true
			continue
		}
		if !long {
			take(line)
		}
		long = false

		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		}
	}
}

// journalPrefix begins the names of our fields.
const journalPrefix = "PAM_PKCS11_"

// readObject reads one entry in journalctl's JSON: a value is a text, numbers where it is no text,
// a list of these where the field is there more than once, or null where it was too large.
func readObject(object []byte) (Entry, bool) {
	var raw map[string]json.RawMessage
	if json.Unmarshal(object, &raw) != nil || len(raw) > 512 {
		return Entry{}, false
	}

	// Any user may write to the journal: what is no record of ours is passed over.
	message, ok := readText(raw["MESSAGE"])
	at := words.FindStringSubmatchIndex(message)
	if !ok || at == nil || at[0] != 0 {
		return Entry{}, false
	}

	e := Entry{Service: message[at[2]:at[3]], Kind: message[at[4]:at[5]]}
	e.Message, e.Fields = readRecord(message[at[1]:])
	e.Writer, _ = readText(raw["_UID"])
	for name, value := range raw {
		key, ours := strings.CutPrefix(name, journalPrefix)
		if text, ok := readText(value); ours && ok && len(e.Fields) < maxFields {
			e.Fields[strings.ToLower(key)] = text
		}
	}

	if stamp, ok := readText(raw["__REALTIME_TIMESTAMP"]); ok {
		if micro, err := strconv.ParseInt(stamp, 10, 64); err == nil {
			e.Time = time.UnixMicro(micro)
		}
	}
	return e, true
}

// readText reads a value, of several the first.
func readText(value json.RawMessage) (string, bool) {
	var text *string
	if json.Unmarshal(value, &text) == nil && text != nil {
		return *text, true
	}

	// journalctl writes octets as numbers where a text is not UTF-8.
	var octets []uint16
	if json.Unmarshal(value, &octets) == nil && octets != nil {
		b := make([]byte, len(octets))
		for i, o := range octets {
			b[i] = byte(o)
		}
		return string(b), true
	}
	// The list must get shorter with each step, so that the recursion ends.
	var several []json.RawMessage
	if json.Unmarshal(value, &several) == nil && len(several) > 0 && len(several[0]) < len(value) {
		return readText(several[0])
	}
	return "", false
}

// files reads those files of syslogd that are there.
func (s Sources) files(since time.Time) ([]Entry, error) {
	files := s.Files
	if files == nil {
		files = syslogFiles
	}
	var entries []Entry
	var errs []error
	for _, path := range files {
		some, err := s.file(path, since)
		if err != nil && !os.IsNotExist(err) {
			errs = append(errs, err)
		}
		entries = append(entries, some...)
	}
	return entries, errors.Join(errs...)
}

// file reads the end of one file.
func (s Sources) file(path string, since time.Time) ([]Entry, error) {
	// A FIFO would wait for its writer.
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()

	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() {
		return nil, errors.Join(fmt.Errorf("%s: it is no regular file", path), err)
	}

	// The newest lines are at the end of the file.
	if info.Size() > maxJournal {
		if _, err := f.Seek(-maxJournal, io.SeekEnd); err != nil {
			return nil, err
		}
	}

	var entries []Entry
	err = eachLine(io.LimitReader(f, maxJournal), func(line []byte) {
		e, ok := parseLine(string(line), s.Now())
		if !ok || !since.IsZero() && e.Time.Before(since) {
			return
		}

		// The older half goes: Read keeps no more than maxEntries anyway.
		entries = append(entries, e)
		if len(entries) >= 2*maxEntries {
			entries = slices.Clone(entries[maxEntries:])
		}
	})
	return entries, err
}

// LastRefusal returns the newest entry that refuses a login, of this user where one is named.
func LastRefusal(entries []Entry, user string) (Entry, bool) {
	for i := len(entries) - 1; i >= 0; i-- {
		e := entries[i]
		switch e.Outcome() {
		case Refused, NotGranted, NoDecision, NotChanged:
			if user == "" || e.User() == user {
				return e, true
			}
		}
	}
	return Entry{}, false
}
