package daemon

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"log/syslog"
	"strconv"
	"strings"
	"sync"
	"unicode"
)

// lineHandler writes "message key=value ..." lines, each with control characters escaped,
// to a file or to syslog.
type lineHandler struct {
	level  slog.Level
	prefix bool // "<N>" before each line: the priority, as the journal reads it (sd-daemon(3))
	attrs  string
	mu     *sync.Mutex // guards w; shared by all handlers of a log
	w      io.Writer
	sys    *syslog.Writer
}

func newLog(w io.Writer, sys *syslog.Writer, level slog.Level, journal bool) *slog.Logger {
	return slog.New(&lineHandler{
		level:  level,
		prefix: journal,
		mu:     new(sync.Mutex),
		w:      w,
		sys:    sys,
	})
}

// Enabled reports whether a level is logged.
func (h *lineHandler) Enabled(_ context.Context, l slog.Level) bool { return l >= h.level }

// WithAttrs returns a handler that adds attributes to each line.
func (h *lineHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	with := *h
	for _, a := range attrs {
		with.attrs += attribute(a)
	}
	return &with
}

// WithGroup is not used.
func (h *lineHandler) WithGroup(string) slog.Handler { return h }

// Handle writes one line.
func (h *lineHandler) Handle(_ context.Context, r slog.Record) error {
	var b strings.Builder
	b.WriteString(printable(r.Message))
	b.WriteString(h.attrs)
	r.Attrs(func(a slog.Attr) bool {
		b.WriteString(attribute(a))
		return true
	})

	// A line is written in one piece, however many goroutines log.
	h.mu.Lock()
	defer h.mu.Unlock()

	if h.sys != nil {
		return h.toSyslog(r.Level, b.String())
	}

	prefix := ""
	if h.prefix {
		prefix = fmt.Sprintf("<%d>", priority(r.Level))
	}
	_, err := fmt.Fprintf(h.w, "%s%s\n", prefix, b.String())
	return err
}

func (h *lineHandler) toSyslog(l slog.Level, line string) error {
	switch priority(l) {
	case 3:
		return h.sys.Err(line)
	case 4:
		return h.sys.Warning(line)
	case 6:
		return h.sys.Info(line)
	}
	return h.sys.Debug(line)
}

// priority is the level as a priority of syslog(3).
func priority(l slog.Level) int {
	switch {
	case l >= slog.LevelError:
		return 3
	case l >= slog.LevelWarn:
		return 4
	case l >= slog.LevelInfo:
		return 6
	}
	return 7
}

// attribute is " key=value", with the value in quotes where its end would not be clear.
func attribute(a slog.Attr) string {
	v := a.Value.Resolve().String()
	if v == "" || strings.ContainsAny(v, " \"=") || printable(v) != v {
		v = strconv.Quote(v)
	}
	return " " + a.Key + "=" + v
}

// printable escapes what a terminal might act on: names come from readers and programs.
func printable(s string) string {
	if strings.IndexFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) < 0 {
		return s
	}
	q := strconv.Quote(s)
	return q[1 : len(q)-1]
}
