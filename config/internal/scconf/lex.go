// Package scconf reads and writes the grammar of pam_pkcs11.conf, whatever the keys mean: lex.go
// cuts a file into lexemes with their places, parse.go makes a tree of blocks and settings of them,
// write.go text of a tree, with its comments.
package scconf

import (
	"bytes"
	"strings"
)

// The old lexer, for comparison (reference: pam_pkcs11 0.6.13, observed): `#` begins a comment only
// where a lexeme could begin; `{ } , = ;` are punctuation only there too; an unquoted word runs to
// the next `;`, `,`, blank or line end, so that `debug=true` and `soft{` were single words that
// nobody knew; a quoted word runs to the next `"`, knows no escapes and ends at the line end.

type lexKind uint8

const (
	lexEnd     lexKind = iota // end of the file
	lexWord                   // quoted or not
	lexPunct                  // one of { } , = ;
	lexComment                // from # to the end of the line
	lexBad                    // text says what is wrong
)

// lexeme is one piece of the file with its place.
type lexeme struct {
	kind      lexKind
	text      string // without quotation marks, without #
	quoted    bool
	line, col int
	// glued: an unquoted word that ended without a blank at = { or }, where the old lexer read on.
	glued bool
	// blank: an empty line stands before.
	blank bool
	// atEnd: a word that runs to the end of the file, where a cut may have shortened it.
	atEnd bool
}

func (l lexeme) is(punct string) bool { return l.kind == lexPunct && l.text == punct }

// lexer cuts the file. What ends an unquoted word depends on where it stands, so the parser asks
// either for a name or for a value.
type lexer struct {
	src       []byte
	pos       int
	line, col int
}

const byteOrderMark = "\xef\xbb\xbf"

func newLexer(src []byte) *lexer {
	return &lexer{src: bytes.TrimPrefix(src, []byte(byteOrderMark)), line: 1, col: 1}
}

func (l *lexer) advance(n int) {
	for _, c := range l.src[l.pos : l.pos+n] {
		if c == '\n' {
			l.line++
			l.col = 1
		} else {
			l.col++
		}
	}
	l.pos += n
}

// next gives the lexeme at the current position, which it passes.
func (l *lexer) next(inValue bool) lexeme {
	blank := l.skipBlanks()
	lex := lexeme{line: l.line, col: l.col, blank: blank}
	if l.pos == len(l.src) {
		return lex
	}

	rest := l.src[l.pos:]

	switch c := rest[0]; {
	case c == '#':
		lex.kind = lexComment
		n := lineLength(rest)
		// Format writes the comment back with \n alone: the \r of a CRLF line end must not stay in
		// it.
		lex.text = strings.TrimRight(string(rest[1:n]), "\r \t")
		l.advance(n)
		// A C program ends the line at a NUL and would not see what follows it.
		if i := strings.IndexByte(lex.text, 0); i >= 0 {
			lex.kind = lexBad
			lex.text = "a NUL byte"
		}
	case strings.IndexByte("{},=;", c) >= 0:
		lex.kind = lexPunct
		lex.text = string(c)
		l.advance(1)
	case c == '"':
		l.quoted(&lex, rest)
	default:
		l.word(&lex, rest, inValue)
	}

	return lex
}

// peek looks at the next lexeme.
func (l *lexer) peek(inValue bool) lexeme {
	saved := *l
	lex := l.next(inValue)
	*l = saved
	return lex
}

func (l *lexer) skipBlanks() (emptyLine bool) {
	n, lines := 0, 0
	for _, c := range l.src[l.pos:] {
		if c == '\n' {
			lines++
		} else if c != ' ' && c != '\t' && c != '\r' {
			break
		}
		n++
	}

	l.advance(n)
	return lines > 1
}

func lineLength(b []byte) int {
	if i := bytes.IndexByte(b, '\n'); i >= 0 {
		return i
	}
	return len(b)
}

func (l *lexer) quoted(lex *lexeme, rest []byte) {
	lex.kind = lexWord
	lex.quoted = true

	end := bytes.IndexAny(rest[1:], "\"\n")

	if end < 0 {
		lex.kind = lexBad
		lex.text = "the file ends inside a quoted word"
		lex.atEnd = true
		l.advance(len(rest))
		return
	}

	if rest[1+end] != '"' {
		lex.kind = lexBad
		lex.text = `a quotation mark is not closed on its line`
		// Only this line is lost: the next one is read, and its errors are reported in the same
		// run.
		l.advance(lineLength(rest))
		return
	}

	lex.text = string(rest[1 : 1+end])
	l.advance(end + 2)
	lex.refuseControls()
}

// word takes an unquoted word. As a name it also ends at = { }. As a value it may hold them, as in
// `uid=%s` or `[0-9]{6}`, but gives back closing braces that it did not open: `true}` closes a
// block.
func (l *lexer) word(lex *lexeme, rest []byte, inValue bool) {
	ends := "; ,\t\r\n"
	if !inValue {
		ends += "={}"
	}

	n := bytes.IndexAny(rest, ends)
	if n < 0 {
		// Nothing ended the word but the end of the file, which may have been cut off in its
		// middle.
		n = len(rest)
		lex.atEnd = true
	}

	if inValue {
		n -= unopened(rest[:n])
	}

	lex.kind = lexWord
	lex.text = string(rest[:n])
	lex.glued = n < len(rest) && strings.IndexByte("={}", rest[n]) >= 0

	l.advance(n)
	lex.refuseControls()
}

// unopened counts the braces at the end of a word that close more than the word opened. A word is
// never eaten up by it: `}` where a value is due is punctuation.
func unopened(word []byte) int {
	over := bytes.Count(word, []byte("}")) - bytes.Count(word, []byte("{"))

	n := 0
	for n < over && n < len(word)-1 && word[len(word)-1-n] == '}' {
		n++
	}
	return n
}

// refuseControls turns a word with control characters into an error: C programs cut text at a NUL,
// and terminals obey the others.
func (l *lexeme) refuseControls() {
	for i := range len(l.text) {
		if c := l.text[i]; c < ' ' && c != '\t' || c == 0x7f {
			l.kind = lexBad
			l.text = "a control character in a word"
			l.col += i
			return
		}
	}
}
