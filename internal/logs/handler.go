package logs

import (
	"context"
	"io"
	"log/slog"
	"slices"
	"sync"
)

// sink takes one finished record, and the fields that are in it once more, one by one.
type sink interface {
	write(level slog.Level, record []byte, fields []field) error
}

// field is one attribute of a record.
type field struct{ key, value string }

// handler is the slog.Handler of both destinations.
type handler struct {
	to    sink
	level slog.Leveler
	group string      // the names of open groups, joined by dots
	attrs []groupAttr // given by With
}

type groupAttr struct {
	group string
	attr  slog.Attr
}

// Enabled reports whether a record of this level is written.
func (h *handler) Enabled(_ context.Context, level slog.Level) bool {
	return level >= h.level.Level()
}

// Handle writes one record. Its time is not printed: the system's log and a terminal have their
// own.
func (h *handler) Handle(_ context.Context, r slog.Record) error {
	var l line
	l.message(r.Message)

	for _, a := range h.attrs {
		l.attr(a.group, a.attr)
	}

	r.Attrs(func(a slog.Attr) bool {
		l.attr(h.group, a)
		return !l.full()
	})

	return h.to.write(r.Level, l.finish(), l.fields)
}

// WithAttrs returns a handler whose records carry these fields too.
func (h *handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	with := *h
	// Copied: two handlers made of one must not append to the same array.
	with.attrs = slices.Clone(h.attrs)
	for _, a := range attrs {
		with.attrs = append(with.attrs, groupAttr{h.group, a})
	}
	return &with
}

// WithGroup returns a handler that puts name and a dot before the fields to come.
func (h *handler) WithGroup(name string) slog.Handler {
	with := *h
	with.group = join(h.group, name)
	return &with
}

// Stderr returns a handler for a tool's standard error: one line "level: message key=value" for
// each record of at least this level; a nil level is slog.LevelInfo.
func Stderr(w io.Writer, level slog.Leveler) slog.Handler {
	if level == nil {
		level = slog.LevelInfo
	}
	return &handler{to: &lines{w: w}, level: level}
}

// lines writes to a stream.
type lines struct {
	mu sync.Mutex
	w  io.Writer
}

func (s *lines) write(level slog.Level, record []byte, _ []field) error {
	var word string
	switch {
	case level >= slog.LevelError:
		word = "error: "
	case level >= slog.LevelWarn:
		word = "warning: "
	case level < slog.LevelInfo:
		word = "debug: "
	}

	s.mu.Lock()
	defer s.mu.Unlock()

	// One write for a line: other programs write to the same stream.
	_, err := s.w.Write(append(append([]byte(word), record...), '\n'))
	return err
}
