package schema

import (
	"fmt"
	"slices"
	"strings"

	"pam_pkcs11/config/internal/finding"
	"pam_pkcs11/config/internal/scconf"
)

// Reader reads the settings of one block against its table. Faults of a block in use are errors,
// those of another block are notes.
type Reader struct {
	File  string // for messages
	inUse bool
	errs  *finding.Errors
	notes *[]finding.Note
}

// NewReader makes one for blocks in use.
func NewReader(file string, errs *finding.Errors, notes *[]finding.Note) *Reader {
	return &Reader{
		File:  file,
		inUse: true,
		errs:  errs,
		notes: notes,
	}
}

// ForUnused makes a reader for a block that is not in use: its faults are notes.
func (r *Reader) ForUnused() *Reader {
	other := *r
	other.inUse = false
	return &other
}

// Fault adds an error or, for a block that is not in use, a note.
func (r *Reader) Fault(f *Fault) {
	e := &finding.Error{
		File: r.File,
		Line: f.At.Line,
		Col:  f.At.Col,
		Text: f.Text,
		Hint: f.Hint,
	}

	if r.inUse {
		r.errs.Add(e)
		return
	}

	text := e.Text
	if e.Hint != "" {
		text += " (" + e.Hint + ")"
	}
	r.Note(f.At, finding.NoteUnused, text+"; the block is not in use")
}

// Note adds a note with a place.
func (r *Reader) Note(w scconf.Word, kind finding.NoteKind, text string) {
	finding.AddNote(r.notes, finding.Note{
		File: r.File,
		Line: w.Line,
		Col:  w.Col,
		Kind: kind,
		Text: text,
	})
}

// Read gives the settings of a block; blocks in it must be of a kind in inner.
func (r *Reader) Read(b *scconf.Block, t *Table, inner ...string) Values {
	vals := Values{table: t, given: map[string]Value{}}

	// All words of a key are collected first, and decoded together: a list may be written in
	// pieces. order keeps the file's order for messages.
	written := map[string][]scconf.Word{}
	glued := map[string]bool{}
	var order []*Key
	places := map[string]scconf.Word{}

	for _, it := range b.Items {
		k := t.Find(it.Key.Text)
		if it.Block != nil {
			r.innerBlock(it, k, inner)
			continue
		}
		if k == nil {
			r.unknownKey(it.Key, t, inner)
			continue
		}

		if _, again := places[k.Name]; again {
			r.noteRepeated(k, it)
			// The first value counts; an empty setting has none.
			if !k.IsList() && len(written[k.Name]) > 0 {
				continue
			}
		} else {
			order = append(order, k)
			places[k.Name] = it.Key
		}

		written[k.Name] = append(written[k.Name], it.Values...)
		glued[k.Name] = glued[k.Name] || it.Key.Glued
	}

	for _, k := range order {
		r.setting(vals, k, places[k.Name], written[k.Name], glued[k.Name])
	}

	// Only now: the other keys of the block may take a risk away.
	for _, k := range order {
		if v, read := vals.given[k.Name]; read && k.isRisk(v, vals) {
			r.risk(k, v, places[k.Name])
		}
	}
	return vals
}

func (r *Reader) noteRepeated(k *Key, it *scconf.Item) {
	if k.IsList() {
		r.Note(it.Key, finding.NoteTolerated, k.Name+" is given twice: the values are added up")
	} else {
		r.Note(it.Key, finding.NoteTolerated, k.Name+" is given twice: the first one counts")
	}
}

// setting decodes one key.
func (r *Reader) setting(vals Values, k *Key, at scconf.Word, words []scconf.Word, glued bool) {
	if k.Status == NoEffect {
		r.Note(at, finding.NoteNoEffect, k.Name+" has no effect. "+k.Doc)
	}
	if k.Kind == Anything {
		return
	}

	v, oldReading, f := k.Decode(words)
	if f != nil {
		r.Fault(f)
		return
	}
	if k.Status == NoEffect {
		vals.given[k.Name] = v // for the check that nothing is lost with it
		return
	}

	switch {
	case k.Status == New || k.isDefault(v):
		oldReading = "" // the C module never knew the key, or read the same by not reading it
	case glued:
		oldReading = unreadGlued
	case k.Unread:
		oldReading = "the C module did not look at it"
	}

	if oldReading != "" {
		r.misread(k, v, at, oldReading)
	}

	// An empty setting has no word of its own: its place is that of the key.
	if !v.Set {
		v.At = at
	}
	vals.given[k.Name] = v
}

// isRisk reports whether a value should not stay, in a block with these keys.
func (k *Key) isRisk(v Value, block Values) bool {
	return k.risky != nil && k.risky(v) && (k.riskless == nil || !k.riskless(block))
}

// risk notes a value that is obeyed and should not stay.
func (r *Reader) risk(k *Key, v Value, at scconf.Word) {
	text := fmt.Sprintf("%s = %s: %s", k.Name, v.show(k), k.risk)
	if r.inUse {
		r.Note(at, finding.NoteInsecure, text)
	} else {
		r.Note(at, finding.NoteUnused, text+"; the block is not in use")
	}
}

// isDefault reports whether v is what the C module had without the line. It is false for lists of
// words, whose defaults are not those of the C module.
func (k *Key) isDefault(v Value) bool {
	if !v.Set {
		return true
	}

	d := k.defaultValue()
	return k.Kind != Words && v.True == d.True && v.Number == d.Number &&
		slices.Equal(v.Texts, d.Texts)
}

func (v Value) show(k *Key) string {
	if k.Kind == Bool {
		return fmt.Sprint(v.True)
	}
	return strings.Join(v.Texts, ", ")
}

func (r *Reader) innerBlock(it *scconf.Item, k *Key, inner []string) {
	switch {
	// Nothing would be added any more, and a file of thousands of blocks costs a search each.
	case r.inUse && r.errs.Full():
	case slices.ContainsFunc(inner, func(s string) bool { return scconf.SameKey(s, it.Key.Text) }):
	case k != nil:
		r.Fault(&Fault{it.Key, k.Name + " is a setting, not a block", "write " + k.Name +
			" = ...;"})
	default:
		r.Fault(&Fault{it.Key, "unknown block " + finding.Quote(it.Key.Text),
			finding.DidYouMean(it.Key.Text, inner)})
	}
}

// unknownKey names the nearest key of this block, or the block that has the key.
func (r *Reader) unknownKey(w scconf.Word, t *Table, inner []string) {
	// The search for what was meant compares with every key: it is left out where nobody sees its
	// result, so that a huge file of unknown keys costs no more than a small one.
	var full bool
	if r.inUse {
		full = r.errs.Full()
	} else {
		full = len(*r.notes) >= finding.MaxNotes
	}
	if full {
		return
	}

	hint := finding.DidYouMean(w.Text, append(t.Names(), inner...))
	// A key of another block is a likelier mistake than a key that merely looks alike.
	if hint == "" || !nearlyEqual(w.Text, hint) {
		for _, other := range Tables() {
			if other.Find(w.Text) != nil {
				hint = "it belongs in a block " + strings.TrimSpace(other.Block+" "+other.Type)
				break
			}
		}
	}

	where := strings.TrimSpace(t.Block + " " + t.Type)
	r.Fault(&Fault{w, "unknown key " + finding.Quote(w.Text) + " in " + where, hint})
}

// nearlyEqual reports whether the hint's word differs by a slip of the fingers: by less than three
// letters.
func nearlyEqual(word, hint string) bool {
	meant := strings.TrimSuffix(strings.TrimPrefix(hint, "did you mean "), "?")
	return finding.Distance(strings.ToLower(word), meant, 3) < 3
}
