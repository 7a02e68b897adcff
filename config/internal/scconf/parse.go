package scconf

import (
	"bytes"
	"fmt"
	"strings"

	"pam_pkcs11/config/internal/finding"
)

const (
	// MaxFileSize is the largest configuration file that is read, in bytes.
	MaxFileSize = 1 << 20
	maxDepth    = 16
)

// Word is one word of a file with its place.
type Word struct {
	Text      string
	Quoted    bool
	Line, Col int // 1-based, Col in bytes; 0 in a word that was not read from a file
	// Glued: an unquoted word that ended without a blank at = { or }, where the C module read on.
	Glued bool
}

// SameKey compares keys and names of blocks: case does not matter.
func SameKey(a, b string) bool { return strings.EqualFold(a, b) }

// Block is what stands between two braces, or a whole file.
type Block struct {
	Items []*Item
	Tail  []string // comments after the last item, without #
}

// Item is one setting `key = value, ...;` or one block `key name { ... }`.
type Item struct {
	Key    Word
	Names  []Word // of a block; only the first counts
	Values []Word // of a setting
	Block  *Block // nil for a setting

	Before []string // comment lines before it, without #
	After  string   // comment on its last line
	Blank  bool     // an empty line stands before it
}

// Name is the first name of a block, "" when it has none.
func (i *Item) Name() string {
	if len(i.Names) == 0 {
		return ""
	}
	return i.Names[0].Text
}

// title is how a message names a block.
func (i *Item) title() string {
	if len(i.Names) == 0 {
		return finding.Clip(i.Key.Text)
	}
	return finding.Clip(i.Key.Text) + " " + finding.Quote(i.Name())
}

// parser builds the tree and collects what is wrong or odd. After an error it goes on behind the
// next `;` or brace, so that one run shows all errors.
type parser struct {
	file     string
	lex      *lexer
	comments []string // seen and not yet attached
	blank    bool
	cut      bool // the end of the file came too early, and that was reported
	errs     finding.Errors
	notes    []finding.Note
}

// Tree is a file that was read.
type Tree struct {
	Root   *Block // what could be read
	Errors finding.Errors
	Notes  []finding.Note // of what is not written as the grammar wants it
	Cut    bool           // the file ended too early: what its rest lacks is no fault of its own
}

// Read reads a whole file.
func Read(file string, data []byte) Tree {
	p := &parser{file: file}
	if len(data) > MaxFileSize {
		p.errs.Add(&finding.Error{File: file,
			Text: fmt.Sprintf("longer than %d bytes", MaxFileSize)})
		return Tree{Root: &Block{}, Errors: p.errs}
	}

	p.lex = newLexer(data)
	if bytes.HasPrefix(data, []byte(byteOrderMark)) {
		p.note(Word{Line: 1, Col: 1}, finding.NoteDifferent,
			"the file begins with a byte order mark, which made its first block unknown to the C module")
	}

	root := p.block(0, nil)
	return Tree{
		Root:   root,
		Errors: p.errs,
		Notes:  p.notes,
		Cut:    p.cut,
	}
}

// ParseFile reads the text of a configuration file to a tree, without regard to what the keys mean.
// The error is an Errors.
func ParseFile(file string, data []byte) (*Block, error) {
	tree := Read(file, data)
	return tree.Root, tree.Errors.Err()
}

func (p *parser) fail(l lexeme, text, hint string) {
	p.errs.Add(&finding.Error{
		File: p.file,
		Line: l.line,
		Col:  l.col,
		Text: text,
		Hint: hint,
	})
}

func (p *parser) note(w Word, kind finding.NoteKind, text string) {
	finding.AddNote(&p.notes, finding.Note{
		File: p.file,
		Line: w.Line,
		Col:  w.Col,
		Kind: kind,
		Text: text,
	})
}

// next passes comments, which it keeps for the item that follows.
func (p *parser) next(inValue bool) lexeme {
	for {
		l := p.lex.next(inValue)
		p.blank = p.blank || l.blank
		if l.kind != lexComment {
			return l
		}
		p.comments = append(p.comments, l.text)
	}
}

func (p *parser) peek(inValue bool) lexeme {
	for {
		l := p.lex.peek(inValue)
		if l.kind != lexComment {
			return l
		}
		p.lex.next(inValue)
		p.comments = append(p.comments, l.text)
	}
}

func wordOf(l lexeme) Word {
	return Word{
		Text:   l.text,
		Quoted: l.quoted,
		Line:   l.line,
		Col:    l.col,
		Glued:  l.glued,
	}
}

// cutOff reports a file that ends too early, at the place of what is open: once, for the innermost.
// A file that lost its end would else be read as a weaker one.
func (p *parser) cutOff(at Word, text string) {
	if p.cut {
		return
	}
	p.cut = true
	p.errs.Add(&finding.Error{
		File: p.file,
		Line: at.Line,
		Col:  at.Col,
		Text: text,
		Hint: "was the file cut off? The C module read such a file as far as it went",
	})
}

// block reads items up to the brace that ends it; depth 0 is the file, which no item opened.
func (p *parser) block(depth int, opened *Item) *Block {
	b := &Block{}
	for {
		l := p.next(false)
		switch {
		case l.kind == lexEnd:
			if opened != nil {
				p.cutOff(opened.Key, "the file ends before the } of the block "+opened.title())
			}
			b.Tail = p.comments
			p.comments = nil
			return b
		case l.is("}") && depth > 0:
			b.Tail = p.comments
			p.comments = nil
			return b
		case l.is("}"):
			p.fail(l, "a } too many", "the C module discarded the whole file for this")
		case l.is(";"):
			p.note(wordOf(l), finding.NoteTolerated, "a ; too many")
		case l.kind == lexWord:
			if item := p.item(l, depth); item != nil {
				b.Items = append(b.Items, item)
			}
		default:
			p.unexpected(l, "a key")
			// Its inside is read all the same, so that its } does not count as one too many.
			if l.is("{") {
				p.nested(l, depth, &Item{Key: wordOf(l)})
			}
		}
	}
}

func (p *parser) unexpected(l lexeme, wanted string) {
	if l.kind == lexBad {
		p.bad(l)
		return
	}
	p.fail(l, fmt.Sprintf("%q where %s is due", l.text, wanted), "")
}

// bad reports what the lexer could not read.
func (p *parser) bad(l lexeme) {
	if l.atEnd {
		p.cutOff(wordOf(l), l.text)
		return
	}
	p.fail(l, l.text, "")
}

// nested reads the inside of the block that an item opened.
func (p *parser) nested(l lexeme, depth int, opened *Item) *Block {
	if depth+1 <= maxDepth {
		return p.block(depth+1, opened)
	}

	// Each block is a recursion, and a file of MaxFileSize could open a million of them.
	p.fail(l, fmt.Sprintf("blocks are nested deeper than %d", maxDepth), "")

	// The rest is left out, so nothing about its end may be reported.
	p.cut = true
	p.lex.advance(len(p.lex.src) - p.lex.pos)
	return &Block{}
}

// item reads what follows a key.
func (p *parser) item(key lexeme, depth int) *Item {
	it := &Item{Key: wordOf(key), Before: p.comments, Blank: p.blank}
	p.comments = nil
	p.blank = false

	for {
		l := p.next(false)
		switch {
		case l.is("="):
			if len(it.Names) > 0 {
				p.fail(l, fmt.Sprintf("%q where { is due", "="),
					fmt.Sprintf("is a ; missing before %s?", it.Names[len(it.Names)-1].Text))
			}
			if it.Key.Quoted {
				it.Key.Glued = false
			}
			p.values(it)
		case l.is("{"):
			it.Block = p.nested(l, depth, it)
		case l.kind == lexWord:
			it.Names = append(it.Names, wordOf(l))
			continue
		case l.is(",") && len(it.Names) > 0:
			continue
		default:
			p.afterKey(it, l)
			return nil
		}

		p.trailingComment(it)
		return it
	}
}

// afterKey reports a key without = or {.
func (p *parser) afterKey(it *Item, l lexeme) {
	hint := ""
	if len(it.Names) > 0 {
		hint = "is a comma or a = missing?"
	}

	switch {
	case l.kind == lexBad:
		p.bad(l)
	case l.kind == lexEnd:
		p.cutOff(it.Key, "the file ends after "+finding.Quote(it.Key.Text))
	case l.is("}"):
		p.errs.Add(&finding.Error{
			File: p.file,
			Line: it.Key.Line,
			Col:  it.Key.Col,
			Text: "= or { is due after " + finding.Quote(it.Key.Text),
			Hint: hint,
		})
		// The brace still closes the block: the parser reads it once more.
		p.lex.pos--
		p.lex.col--
	default:
		p.errs.Add(&finding.Error{
			File: p.file,
			Line: it.Key.Line,
			Col:  it.Key.Col,
			Text: "= or { is due after " + finding.Quote(it.Key.Text),
			Hint: hint,
		})
	}
}

// values reads the list after =, up to its ; or to where a new item begins.
func (p *parser) values(it *Item) {
	due := true // a value may come
	for {
		l := p.peek(due)
		switch {
		case l.kind == lexWord && due:
			p.next(true)
			w := wordOf(l)
			if w.Glued {
				p.note(w, finding.NoteDifferent, "the C module read the } as a part of "+
					finding.Quote(w.Text))
			}

			it.Values = append(it.Values, w)
			due = false
			// At the very end a cut may have shortened it: /etc/pki/ca may have been
			// /etc/pki/ca-strict.
			if l.atEnd {
				p.insideValue(it)
				return
			}
		case l.kind == lexWord && !l.quoted && l.text == "->" && SameKey(it.Key.Text, "crl_mirror"):
			// FROM -> TO without quotes: the arrow needs no comma before or after it.
			p.next(due)
			it.Values = append(it.Values, wordOf(l))
			due = true
		case l.is(","):
			p.next(due)
			if due {
				p.note(wordOf(l), finding.NoteTolerated, "a comma too many")
			}
			due = true
		case l.is(";"):
			p.next(due)
			return
		case l.kind == lexEnd:
			p.insideValue(it)
			return
		case l.kind == lexWord || l.is("}"):
			// The old parser, too, took a word without a comma for the next key.
			p.note(it.Key, finding.NoteTolerated, "a ; is missing after "+
				finding.Quote(it.Key.Text)+" and its value")
			return
		default:
			p.next(due)
			p.unexpected(l, "a value, a comma or a ;")
			return
		}
	}
}

func (p *parser) insideValue(it *Item) {
	p.cutOff(it.Key, "the file ends inside the value of "+finding.Quote(it.Key.Text))
}

// trailingComment takes a comment on the line on which the item ended.
func (p *parser) trailingComment(it *Item) {
	line := p.lex.line
	if l := p.lex.peek(false); l.kind == lexComment && l.line == line && len(p.comments) == 0 {
		p.lex.next(false)
		it.After = l.text
	}
}

// Find gives the first block of the kind with the name; both compare without regard to case.
func (b *Block) Find(kind, name string) *Item {
	for _, it := range b.Items {
		if it.Block != nil && strings.EqualFold(it.Key.Text, kind) &&
			strings.EqualFold(it.Name(), name) {
			return it
		}
	}
	return nil
}
