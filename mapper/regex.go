package mapper

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
)

// POSIX regular expressions (IEEE 1003.1, 9.3 and 9.4) in terms of Go's engine, which matches in linear
// time and so cannot do back-references.

// maxExpression bounds an expression, in octets.
const maxExpression = 4096

var errBackReference = errors.New("back-references are not supported")

// compile compiles an expression that must match the whole text.
func compile(expression string, kind keyKind, ignoreCase bool) (*regexp.Regexp, error) {
	if len(expression) > maxExpression {
		return nil, fmt.Errorf("longer than %d octets", maxExpression)
	}
	translate := translateExtended
	if kind == basic {
		translate = translateBasic
	}
	text, err := translate(expression)
	if err != nil {
		return nil, err
	}
	flags := "(?s)"
	if ignoreCase {
		flags = "(?si)"
	}
	return regexp.Compile(flags + `\A(?:` + text + `)\z`)
}

// translateBasic turns a basic regular expression into Go's syntax: there "\(", "\)", "\{", "\}", and as
// GNU has it "\|", "\+" and "\?", are special, and their bare forms are themselves.
func translateBasic(e string) (string, error) {
	var b strings.Builder
	for i := 0; i < len(e); {
		c := e[i]
		switch {
		case c == '\\':
			if i+1 == len(e) {
				return "", errors.New(`"\" at the end`)
			}
			if err := escapedBasic(&b, e[i+1]); err != nil {
				return "", err
			}
			i += 2
		case c == '[':
			n, err := bracket(&b, e[i:])
			if err != nil {
				return "", err
			}
			i += n
		case c == '*' && starBegins(b.String()):
			b.WriteString(`\*`)
			i++
		case strings.IndexByte("(){}|+?^$", c) >= 0:
			b.WriteByte('\\')
			b.WriteByte(c)
			i++
		default:
			b.WriteByte(c)
			i++
		}
	}
	return b.String(), nil
}

// starBegins: at the beginning of an expression or group "*" is itself.
func starBegins(before string) bool {
	return before == "" || strings.HasSuffix(before, "(") && !strings.HasSuffix(before, `\(`) || strings.HasSuffix(before, "|") && !strings.HasSuffix(before, `\|`)
}

func escapedBasic(b *strings.Builder, c byte) error {
	switch {
	case strings.IndexByte("(){}|+?", c) >= 0:
		b.WriteByte(c)
	case c >= '1' && c <= '9':
		return errBackReference
	case strings.IndexByte(`.[\*^$/"-`, c) >= 0:
		b.WriteString(regexp.QuoteMeta(string(c)))
	default:
		return fmt.Errorf(`"\%c" is not defined`, c)
	}
	return nil
}

// translateExtended turns an extended regular expression into Go's syntax. They differ in bracket
// expressions and in what a backslash does.
func translateExtended(e string) (string, error) {
	var b strings.Builder
	for i := 0; i < len(e); {
		switch c := e[i]; {
		case c == '\\' && i+1 == len(e):
			return "", errors.New(`"\" at the end`)
		case c == '\\' && e[i+1] >= '1' && e[i+1] <= '9':
			return "", errBackReference
		case c == '\\' && strings.IndexByte(`.[]\(){}*+?|^$/"-`, e[i+1]) < 0:
			return "", fmt.Errorf(`"\%c" is not defined`, e[i+1])
		case c == '\\':
			b.WriteString(regexp.QuoteMeta(string(e[i+1])))
			i += 2
		case c == '[':
			n, err := bracket(&b, e[i:])
			if err != nil {
				return "", err
			}
			i += n
		case c == '(' && i+1 < len(e) && e[i+1] == '?':
			return "", errors.New(`"(?" is not defined`)
		default:
			b.WriteByte(c)
			i++
		}
	}
	return b.String(), nil
}

// bracket translates a bracket expression (9.3.5), in which a backslash is itself, and returns its length.
func bracket(b *strings.Builder, e string) (int, error) {
	i := 1
	b.WriteByte('[')
	if i < len(e) && e[i] == '^' {
		b.WriteByte('^')
		i++
	}
	for first := true; i < len(e); first = false {
		switch c := e[i]; {
		case c == ']' && !first:
			b.WriteByte(']')
			return i + 1, nil
		case c == '[' && i+1 < len(e) && e[i+1] == ':':
			end := strings.Index(e[i:], ":]")
			if end < 0 {
				return 0, errors.New(`"[:" without ":]"`)
			}
			b.WriteString(e[i : i+end+2])
			i += end + 2
		case c == '[' && i+1 < len(e) && (e[i+1] == '.' || e[i+1] == '='):
			return 0, errors.New("collating elements are not supported")
		case strings.IndexByte(`[]\^&~`, c) >= 0:
			b.WriteByte('\\')
			b.WriteByte(c)
			i++
		default:
			b.WriteByte(c)
			i++
		}
	}
	return 0, errors.New(`"[" without "]"`)
}
