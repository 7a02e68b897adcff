package config

import (
	"fmt"
	"slices"
	"strings"
)

// reader reads the settings of one block against its table. Faults of a block in use are errors, those
// of another block are notes.
type reader struct {
	file  string
	inUse bool
	errs  *Errors
	notes *[]Note
}

// newReader makes one for blocks in use.
func newReader(file string, errs *Errors, notes *[]Note) *reader {
	return &reader{file: file, inUse: true, errs: errs, notes: notes}
}

// aside makes one for a block that is not in use.
func (r *reader) aside() *reader {
	other := *r
	other.inUse = false
	return &other
}

func (r *reader) fault(f *fault) {
	e := &Error{File: r.file, Line: f.word.Line, Col: f.word.Col, Text: f.text, Hint: f.hint}
	if r.inUse {
		r.errs.add(e)
		return
	}
	text := e.Text
	if e.Hint != "" {
		text += " (" + e.Hint + ")"
	}
	r.note(f.word, NoteUnused, text+"; the block is not in use")
}

func (r *reader) note(w Word, kind NoteKind, text string) {
	addNote(r.notes, Note{File: r.file, Line: w.Line, Col: w.Col, Kind: kind, Text: text})
}

// read gives the settings of a block; blocks in it must be of a kind in inner.
func (r *reader) read(b *Block, t *Table, inner ...string) Values {
	vals := Values{table: t, given: map[string]value{}}
	written := map[string][]Word{}
	glued := map[string]bool{}
	var order []*Key
	places := map[string]Word{}
	for _, it := range b.Items {
		k := t.find(it.Key.Text)
		if it.Block != nil {
			r.innerBlock(it, k, inner)
			continue
		}
		if k == nil {
			r.unknownKey(it.Key, t, inner)
			continue
		}
		if _, again := places[k.Name]; again {
			r.twice(k, it)
			if !k.isList() && len(written[k.Name]) > 0 {
				continue
			}
		} else {
			order = append(order, k)
			places[k.Name] = it.Key
		}
		written[k.Name] = append(written[k.Name], it.Values...)
		glued[k.Name] = glued[k.Name] || it.Key.glued
	}
	for _, k := range order {
		r.setting(vals, k, places[k.Name], written[k.Name], glued[k.Name])
	}
	return vals
}

func (r *reader) twice(k *Key, it *Item) {
	if k.isList() {
		r.note(it.Key, NoteTolerated, k.Name+" is given twice: the values are added up")
	} else {
		r.note(it.Key, NoteTolerated, k.Name+" is given twice: the first one counts")
	}
}

// setting decodes one key.
func (r *reader) setting(vals Values, k *Key, at Word, words []Word, glued bool) {
	if k.Status == NoEffect {
		r.note(at, NoteNoEffect, k.Name+" has no effect. "+k.Doc)
	}
	if k.Kind == Anything {
		return
	}

	v, odd, f := k.decode(words)
	if f != nil {
		r.fault(f)
		return
	}
	if k.Status == NoEffect {
		vals.given[k.Name] = v // for the check that nothing is lost with it
		return
	}

	switch {
	case k.Status == New || k.isDefault(v):
		odd = "" // the C module never knew the key, or read the same by not reading it
	case glued:
		odd = unreadGlued
	case k.Unread:
		odd = "the C module did not look at it"
	}
	if odd != "" {
		r.misread(k, v, at, odd)
	}
	if k.risky != nil && k.risky(v) {
		r.risk(k, v, at)
	}
	if !v.set {
		v.at = at
	}
	vals.given[k.Name] = v
}

// risk notes a value that is obeyed and should not stay.
func (r *reader) risk(k *Key, v value, at Word) {
	text := fmt.Sprintf("%s = %s: %s", k.Name, v.show(k), k.risk)
	if r.inUse {
		r.note(at, NoteInsecure, text)
	} else {
		r.note(at, NoteUnused, text+"; the block is not in use")
	}
}

// isDefault: not for lists of words, whose defaults are not those of the C module.
func (k *Key) isDefault(v value) bool {
	d := k.defaultValue()
	return k.Kind != Words && v.b == d.b && v.n == d.n && slices.Equal(v.texts, d.texts) || !v.set
}

func (v value) show(k *Key) string {
	if k.Kind == Bool {
		return fmt.Sprint(v.b)
	}
	return strings.Join(v.texts, ", ")
}

func (r *reader) innerBlock(it *Item, k *Key, inner []string) {
	switch {
	case r.inUse && r.errs.full():
	case slices.ContainsFunc(inner, func(s string) bool { return equalKeys(s, it.Key.Text) }):
	case k != nil:
		r.fault(&fault{it.Key, k.Name + " is a setting, not a block", "write " + k.Name + " = ...;"})
	default:
		r.fault(&fault{it.Key, "unknown block " + quote(it.Key.Text), didYouMean(it.Key.Text, inner)})
	}
}

// unknownKey names the nearest key of this block, or the block that has the key.
func (r *reader) unknownKey(w Word, t *Table, inner []string) {
	if r.inUse && r.errs.full() || !r.inUse && len(*r.notes) >= maxNotes {
		return // the search for what was meant takes its time
	}
	hint := didYouMean(w.Text, append(t.names(), inner...))
	if hint == "" || !nearlyEqual(w.Text, hint) {
		for _, other := range Tables() {
			if other.find(w.Text) != nil {
				hint = "it belongs in a block " + strings.TrimSpace(other.Block+" "+other.Type)
				break
			}
		}
	}
	where := strings.TrimSpace(t.Block + " " + t.Type)
	r.fault(&fault{w, "unknown key " + quote(w.Text) + " in " + where, hint})
}

// nearlyEqual tells a slip of the fingers from a word that merely looks alike.
func nearlyEqual(word, hint string) bool {
	meant := strings.TrimSuffix(strings.TrimPrefix(hint, "did you mean "), "?")
	return editDistance(strings.ToLower(word), meant, 3) < 3
}
