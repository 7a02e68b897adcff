// Package logs writes records of log/slog where an administrator looks for them: to the system's
// log as pam_syslog would, and to a tool's standard error. Whatever a card, a certificate or a user
// put into a record stays on its one line: control characters are escaped and the line is bounded.
package logs

import (
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// MaxLine is the longest line in bytes, prefix included: the socket of syslogd takes more, but
// readers of it cut.
const MaxLine = 8 << 10

// cut ends a line that was longer than MaxLine.
const cut = " [cut]"

// line is one record being written: "message key=value key="another value"".
type line struct {
	text   []byte
	fields []field
}

func (l *line) full() bool { return len(l.text) >= MaxLine }

// finish bounds the line. A character is not cut in two.
func (l *line) finish() []byte {
	if len(l.text) <= MaxLine {
		return l.text
	}
	end := MaxLine - len(cut)
	for end > 0 && !utf8.RuneStart(l.text[end]) {
		end--
	}
	return append(l.text[:end], cut...)
}

// message appends free text.
func (l *line) message(s string) { l.text = appendEscaped(l.text, s, MaxLine) }

// attr appends " key=value"; a group becomes one field for each member, with the names joined by
// dots.
func (l *line) attr(group string, a slog.Attr) {
	v := a.Value.Resolve()

	// slog asks handlers to leave out empty attributes; a nil error says nothing.
	nothing := a.Key == "" && v.Kind() != slog.KindGroup
	isNil := v.Kind() == slog.KindAny && v.Any() == nil
	if l.full() || nothing || isNil {
		return
	}

	if v.Kind() == slog.KindGroup {
		for _, member := range v.Group() {
			l.attr(join(group, a.Key), member)
		}
		return
	}

	f := field{join(group, a.Key), text(v)}
	l.fields = append(l.fields, f)

	l.text = append(l.text, ' ')
	l.text = appendEscaped(l.text, strings.Map(keyRune, f.key), 256)
	l.text = append(l.text, '=')
	l.value(f.value)
}

func join(group, key string) string {
	if group == "" || key == "" {
		return group + key
	}
	return group + "." + key
}

// keyRune keeps what separates fields out of their names.
func keyRune(r rune) rune {
	if r == ' ' || r == '=' || r == '"' {
		return '_'
	}
	return r
}

func text(v slog.Value) string {
	if v.Kind() != slog.KindAny {
		return v.String()
	}
	switch x := v.Any().(type) {
	case error:
		return x.Error()
	case fmt.Stringer:
		return x.String()
	default:
		return fmt.Sprintf("%v", x)
	}
}

// value appends a value, in quotes where its end could not be found otherwise.
func (l *line) value(s string) {
	if s != "" && !strings.ContainsAny(s, " \"=\\") {
		l.text = appendEscaped(l.text, s, MaxLine)
		return
	}

	// Hardly ever: the table of a replacer is made when it is first used.
	if strings.ContainsAny(s, `\"`) {
		s = quoted.Replace(s)
	}

	l.text = append(l.text, '"')
	l.text = appendEscaped(l.text, s, MaxLine)
	l.text = append(l.text, '"')
}

var quoted = strings.NewReplacer(`\`, `\\`, `"`, `\"`)

// appendEscaped appends s and stops after limit bytes. Escaped are control characters, what is not
// UTF-8, line and paragraph separators, and format characters, which can make a terminal show a
// line in another order.
func appendEscaped(to []byte, s string, limit int) []byte {
	end := len(to) + limit
	for i, r := range s {
		switch {
		case len(to) > end:
			return to
		// RuneError stands for octets that are not UTF-8, and for U+FFFD itself, which is shown.
		case r == utf8.RuneError && !strings.HasPrefix(s[i:], "\uFFFD"):
			to = append(to, `\x`...)
			to = append(to, hex[s[i]>>4], hex[s[i]&15])
		case r == '\n':
			to = append(to, `\n`...)
		case r < 0x80 && unicode.IsControl(r):
			to = append(to, `\x`...)
			to = append(to, hex[r>>4], hex[r&15])
		case unicode.IsControl(r), unicode.In(r, unicode.Cf, unicode.Zl, unicode.Zp):
			to = append(to, `\u{`...)
			to = strconv.AppendInt(to, int64(r), 16)
			to = append(to, '}')
		default:
			to = utf8.AppendRune(to, r)
		}
	}
	return to
}

const hex = "0123456789abcdef"
