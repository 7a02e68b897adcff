// Package posix compiles POSIX regular expressions, basic and extended, for an engine that matches
// in linear time.
package posix

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Kind is how the KEY of a mapfile is read.
type Kind int

// The kinds.
const (
	Literal Kind = iota
	Basic
	Extended
)

// POSIX regular expressions (IEEE 1003.1, 9.3 and 9.4) are written for Go's engine, which matches
// in linear time and so cannot do back-references. What POSIX leaves undefined is refused: C
// libraries differ in it. Escapes that it leaves undefined are read as GNU's library reads them
// (gnuEscapes), as people who write rules for Linux expect; those that Go's engine has no way to
// write are refused too.

// MaxExpression bounds an expression, in octets.
const MaxExpression = 4096

// maxRepeat is RE_DUP_MAX, what every POSIX system allows.
const maxRepeat = 255

var errBackReference = errors.New("back-references are not supported")

// Compile compiles an expression that must match the whole text.
func Compile(expression string, kind Kind, ignoreCase bool) (*regexp.Regexp, error) {
	text, err := translate(expression, kind)
	if err != nil {
		return nil, err
	}

	// Without "s" a dot would not match a line feed, as it does for regexec(3).
	flags := "(?s)"
	if ignoreCase {
		flags = "(?si)"
	}
	// The whole text has to match: a part of a name is another name.
	return regexp.Compile(flags + `\A(?:` + text + `)\z`)
}

// CompileSearch compiles an extended expression that may match anywhere in the text, as regexec(3)
// does it: leftmost, and of those the longest.
func CompileSearch(expression string) (*regexp.Regexp, error) {
	if expression == "" {
		return nil, errors.New("the regular expression is empty")
	}

	text, err := translate(expression, Extended)
	if err != nil {
		return nil, err
	}

	re, err := regexp.Compile("(?s)" + text)
	if err != nil {
		return nil, err
	}

	re.Longest()
	return re, nil
}

// translate writes an expression in Go's syntax.
func translate(expression string, kind Kind) (string, error) {
	if len(expression) > MaxExpression {
		return "", fmt.Errorf("longer than %d octets", MaxExpression)
	}
	// Go's engine reads characters: octets that are none would match something else.
	if !utf8.ValidString(expression) || strings.ContainsRune(expression, 0) {
		return "", errors.New("not UTF-8, or with a NUL")
	}
	if kind == Basic {
		return translateBasic(expression)
	}
	return translateExtended(expression)
}

// translateBasic turns a basic regular expression into Go's syntax. There "\(", "\)", "\{", "\}",
// and as GNU has it "\|", "\+" and "\?", are special, and the bare characters are not.
func translateBasic(e string) (string, error) {
	var b strings.Builder
	anchored := false // the escape before is a place, not a character: nothing to repeat

	for i := 0; i < len(e); {
		c := e[i]
		if anchored && repeatsBasic(e[i:]) {
			return "", fmt.Errorf("%q has nothing to repeat", e[i:i+1])
		}
		anchored = false

		switch {
		case c == '\\':
			if i+1 == len(e) {
				return "", errors.New(`"\" at the end`)
			}
			if err := escapedBasic(&b, e[i+1:]); err != nil {
				return "", err
			}
			anchored = gnuEscapes[e[i+1]].anchor
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
		// Ordinary characters here, and operators in Go's syntax.
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

// starBegins reports whether a "*" after this text is itself: at the beginning of an expression, a
// group or an alternative.
func starBegins(before string) bool {
	if before == "" {
		return true
	}
	afterGroup := strings.HasSuffix(before, "(") && !strings.HasSuffix(before, `\(`)
	afterBar := strings.HasSuffix(before, "|") && !strings.HasSuffix(before, `\|`)
	return afterGroup || afterBar
}

// repeatsBasic reports whether a repetition begins e.
func repeatsBasic(e string) bool {
	return e[0] == '*' || len(e) > 1 && e[0] == '\\' && strings.IndexByte("{+?", e[1]) >= 0
}

// escapedBasic writes what follows a backslash: in basic expressions operators have one.
func escapedBasic(b *strings.Builder, rest string) error {
	if strings.IndexByte("(){}|+?", rest[0]) >= 0 {
		b.WriteByte(rest[0])
		return nil
	}
	return escaped(b, rest)
}

// before is what the last item was, which decides what may follow it.
type before int

const (
	beginning  before = iota // of the expression, a group or an alternative
	anchor                   // "^" or "$"
	atom                     // what can be repeated
	repetition               // what was repeated
)

// translateExtended turns an extended regular expression into Go's syntax. They differ in bracket
// expressions, in what a backslash does, and in repetitions: Go takes "a*?" for a lazy one, and "{"
// that begins none for itself.
func translateExtended(e string) (string, error) {
	var b strings.Builder
	state := beginning
	inWord := false // the item before is a character of a word, and not repeated

	for i := 0; i < len(e); {
		n := 1
		next := atom
		var err error

		wordCharacter := false

		switch c := e[i]; c {
		case '\\':
			n, next, err = escapedExtended(&b, e[i+1:], inWord)
			wordCharacter = strings.HasPrefix(e[i:], `\w`)
		case '[':
			n, err = bracket(&b, e[i:])
		case '*', '+', '?', '{':
			n, err = repeat(&b, e[i:], state)
			next = repetition
		case '(', '|', ')':
			next, err = group(e[i:], state, i+1 == len(e))
			b.WriteByte(c)
		case '^', '$':
			next = anchor
			b.WriteByte(c)
		default:
			b.WriteByte(c)
			wordCharacter = isWord(c)
		}
		if err != nil {
			return "", err
		}

		i += n
		state = next
		inWord = wordCharacter
	}
	return b.String(), nil
}

// group checks a parenthesis or a bar: POSIX does not define an empty group or alternative (9.4.3).
func group(e string, state before, last bool) (before, error) {
	switch c := e[0]; {
	case c == '(' && strings.HasPrefix(e, "(?"):
		return 0, errors.New(`"(?" is not defined`)
	case c == '(':
		return beginning, nil
	case state == beginning, c == '|' && last:
		return 0, fmt.Errorf("nothing stands before or after %q", string(c))
	case c == '|':
		return beginning, nil
	}
	return atom, nil
}

// repeat translates a repetition at the beginning of e and gives its length.
func repeat(b *strings.Builder, e string, state before) (int, error) {
	switch state {
	case beginning, anchor:
		return 0, fmt.Errorf("%q has nothing to repeat", e[:1])
	case repetition:
		return 0, fmt.Errorf("%q after another repetition is not defined", e[:1])
	}

	if e[0] != '{' {
		b.WriteByte(e[0])
		return 1, nil
	}

	// A "{" that begins no repetition is itself in Go, and undefined in POSIX: it is refused.
	end := strings.IndexByte(e, '}')
	if end < 0 {
		return 0, errors.New(`"{" without "}"`)
	}
	low, high, comma := strings.Cut(e[1:end], ",")
	least, err := strconv.ParseUint(low, 10, 16)
	most := least
	if err == nil && high != "" {
		most, err = strconv.ParseUint(high, 10, 16)
	}

	isEmpty := low == "" && high == "" && !comma
	isRange := err == nil && !isEmpty && least <= most
	if !isRange || most > maxRepeat {
		return 0, fmt.Errorf("%q is no repetition, expected {n}, {n,} or {n,m} up to %d", e[:end+1], maxRepeat)
	}

	b.WriteString(e[:end+1])
	return end + 1, nil
}

// escapedExtended translates what follows a backslash. It returns the length of both and what
// the item is for the next one.
func escapedExtended(b *strings.Builder, rest string, inWord bool) (int, before, error) {
	switch {
	case rest == "":
		return 0, 0, errors.New(`"\" at the end`)
	case rest[0] == '<' || rest[0] == '>':
		return 2, anchor, wordEdge(b, rest[0], inWord, rest[1:])
	case gnuEscapes[rest[0]].anchor:
		return 2, anchor, escaped(b, rest)
	}
	return 2, atom, escaped(b, rest)
}

// gnuEscape is the meaning of a letter behind a backslash in GNU's library, in Go's syntax.
type gnuEscape struct {
	text   string
	anchor bool // a place between characters, not a character
}

// gnuEscapes are the escapes of the glibc manual ("Regular Expressions") and of regcomp's source.
// Words are of ASCII here, as classes are.
var gnuEscapes = map[byte]gnuEscape{
	'w':  {text: `[0-9A-Za-z_]`},
	'W':  {text: `[^0-9A-Za-z_]`},
	's':  {text: `[[:space:]]`},
	'S':  {text: `[^[:space:]]`},
	'b':  {text: `\b`, anchor: true},
	'B':  {text: `\B`, anchor: true},
	'`':  {text: `\A`, anchor: true},
	'\'': {text: `\z`, anchor: true},
}

// escaped writes the character behind a backslash: itself if it is special or any other sign, or
// the meaning that it has in GNU's library, if Go's syntax can write that.
func escaped(b *strings.Builder, rest string) error {
	c := rest[0]
	gnu, known := gnuEscapes[c]
	switch {
	case known:
		b.WriteString(gnu.text)
	case c >= '1' && c <= '9':
		return errBackReference
	case strings.IndexByte(` !"#$%&()*+,-./:;=?@[\]^_{|}~`, c) >= 0:
		b.WriteString(regexp.QuoteMeta(rest[:1]))
	default:
		r, _ := utf8.DecodeRuneInString(rest)
		return fmt.Errorf(`"\%c" is not defined`, r)
	}
	return nil
}

// isWord reports whether an octet is part of a word to \w.
func isWord(c byte) bool {
	isLetter := c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z'
	return isLetter || c == '_' || c >= '0' && c <= '9'
}

// wordEdge translates GNU's \< and \>, the beginning and the end of a word. Go has only \b, which
// is either; it says the same where a character of the word is certain to stand beside it.
func wordEdge(b *strings.Builder, edge byte, inWord bool, rest string) error {
	sure := inWord
	if edge == '<' {
		// What may be repeated zero times is not certain to stand there.
		isOptional := len(rest) > 1 && strings.IndexByte("*?{", rest[1]) >= 0
		sure = rest != "" && isWord(rest[0]) && !isOptional
	}
	if !sure {
		return fmt.Errorf(`"\%c" is not defined but beside a letter, a digit or "_" of the word`, edge)
	}
	b.WriteString(`\b`)
	return nil
}

// classes are the character classes of POSIX, for ASCII; Go has more.
var classes = []string{
	"alnum", "alpha", "blank", "cntrl", "digit", "graph",
	"lower", "print", "punct", "space", "upper", "xdigit",
}

// bracket translates a bracket expression (9.3.5), in which a backslash is itself, and returns its
// length.
func bracket(b *strings.Builder, e string) (int, error) {
	i := 1
	b.WriteByte('[')
	if i < len(e) && e[i] == '^' {
		b.WriteByte('^')
		i++
	}

	// A "]" that comes first is itself (9.3.5).
	for first := true; i < len(e); first = false {
		switch c := e[i]; {
		case c == ']' && !first:
			b.WriteByte(']')
			return i + 1, nil
		case strings.HasPrefix(e[i:], "[:"):
			end := strings.Index(e[i:], ":]")
			if end < 0 {
				return 0, errors.New(`"[:" without ":]"`)
			}
			// "[:]" has its end before its name: max keeps the slice in bounds.
			if name := e[i+2 : i+max(end, 2)]; !slices.Contains(classes, name) {
				return 0, fmt.Errorf("there is no class [:%s:]", name)
			}
			b.WriteString(e[i : i+end+2])
			i += end + 2
		// They depend on the locale, which a login must not.
		case strings.HasPrefix(e[i:], "[."), strings.HasPrefix(e[i:], "[="):
			return 0, errors.New("collating elements are not supported")
		case strings.IndexByte(`[]\^&~`, c) >= 0:
			// Go would take these for an escape, an end or a set operation.
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
