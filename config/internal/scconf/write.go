package scconf

import (
	"bytes"
	"strings"
)

// QuoteValues writes a list of values, in quotes where they must be.
func QuoteValues(texts []string) string {
	words := make([]Word, len(texts))
	for i, s := range texts {
		words[i] = Word{Text: s}
	}
	return joinWords(words)
}

func joinWords(words []Word) string {
	all := make([]string, len(words))
	for i, w := range words {
		all[i] = w.written()
	}
	return strings.Join(all, ", ")
}

// written puts a word in quotes where it was, or where it must be to be read again as it is.
func (w Word) written() string {
	special := strings.ContainsAny(w.Text, " \t;,={}#")
	if w.Quoted || w.Text == "" || special && w.Line == 0 {
		return `"` + w.Text + `"`
	}
	return w.Text
}

// Format writes the tree as text that reads to the same tree, with its comments, indented by two
// blanks. A word that was not read from a file must hold no quotation mark and no control
// character: the grammar has no way to write them (CanWrite).
func (b *Block) Format() []byte {
	var out bytes.Buffer
	b.format(&out, "")
	return out.Bytes()
}

// CanWrite reports whether text can be a value of a configuration file.
func CanWrite(text string) bool {
	return !strings.ContainsFunc(text,
		func(r rune) bool { return r == '"' || r < ' ' && r != '\t' || r == 0x7f })
}

func (b *Block) format(out *bytes.Buffer, indent string) {
	for _, it := range b.Items {
		it.format(out, indent)
	}
	writeComments(out, b.Tail, indent)
}

func writeComments(out *bytes.Buffer, comments []string, indent string) {
	for _, c := range comments {
		out.WriteString(indent + "#" + c + "\n")
	}
}

func (it *Item) format(out *bytes.Buffer, indent string) {
	if it.Blank && out.Len() > 0 {
		out.WriteByte('\n')
	}
	writeComments(out, it.Before, indent)

	out.WriteString(indent + it.Key.written())
	if it.Block == nil {
		out.WriteString(" = " + joinWords(it.Values) + ";")
	} else {
		for _, n := range it.Names {
			out.WriteString(" " + n.written())
		}
		out.WriteString(" {\n")
		it.Block.format(out, indent+"  ")
		out.WriteString(indent + "}")
	}

	if it.After != "" {
		out.WriteString(" #" + it.After)
	}
	out.WriteByte('\n')
}

// Set gives a key its values: in the place of the first setting of that key, without the others, or
// at the end of the block.
func (b *Block) Set(key string, values ...string) {
	words := make([]Word, len(values))
	for i, v := range values {
		words[i] = Word{Text: v}
	}

	var kept []*Item
	done := false
	for _, it := range b.Items {
		if it.Block == nil && SameKey(it.Key.Text, key) {
			// Later settings of the same key go: two of them would be added up, or the first would
			// count.
			if done {
				continue
			}
			it.Values = words
			done = true
		}
		kept = append(kept, it)
	}

	if !done {
		kept = append(kept, &Item{Key: Word{Text: key}, Values: words})
	}
	b.Items = kept
}
