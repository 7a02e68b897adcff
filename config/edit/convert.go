package edit

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"pam_pkcs11/config"
	"pam_pkcs11/config/internal/finding"
	"pam_pkcs11/config/internal/scconf"
	"pam_pkcs11/config/internal/schema"
)

// Converted is a file in today's form.
type Converted struct {
	Text    []byte
	Changes []Change // in the order of the old file
}

// Change is one setting or block of the old file that is written otherwise.
type Change struct {
	Line   int    // of the old file
	Key    string // of the setting, or of the block
	Was    string // the old text, on one line
	Now    string // the new one; "" where it became a comment, or stays
	Reason Reason
	Detail string // what the reason says about this key; may be empty
}

// Reason is why something is written otherwise.
type Reason string

// The reasons.
const (
	NoEffect Reason = "no-effect" // the key is not obeyed any more; it became a comment
	Unread   Reason = "unread"    // nothing reads it where it stands; it became a comment
	// a block that the module does not read, of another program perhaps; it stays
	Foreign  Reason = "foreign"
	Repeated Reason = "repeated" // the key or block is there before; it became a comment
	Joined   Reason = "joined"   // the key is there before, and has these values too now
	Spelling Reason = "spelling" // the same in the words of today
)

// inComments are the reasons for a comment, as it has them.
var inComments = map[Reason]string{
	NoEffect: "Without effect",
	Unread:   "Not read",
	Repeated: "Not read",
	Joined:   "Joined",
}

// errEventManager is the error of the file of another program.
var errEventManager = errors.New(
	"this is the file of an event manager, not that of the PAM module: it has nothing to convert")

// Convert writes a file of the C module as one would write it today, with the same meaning:
// settings without effect become comments, values get the spelling of the manual page, repeated
// settings are put together. Blocks that are not in use are converted too, as far as they can be
// read. Comments stay.
//
// The file must be one that logins accept: what they refuse only its owner can mend, and the error
// names all of it. The result has been read again and means the same, or there is an error.
func Convert(file string, data []byte) (*Converted, error) {
	root, err := scconf.ParseFile(file, data)
	if err != nil {
		return nil, err
	}
	if root.Find("pam_pkcs11", "") == nil && isEventManager(root) {
		return nil, fmt.Errorf("%s: %w", file, errEventManager)
	}

	before, err := config.Parse(file, data, nil)
	if err != nil {
		return nil, err
	}

	c := &converter{file: file}
	c.root(root)
	text := root.Format()

	after, err := config.Parse(file, text, nil)
	if err != nil {
		return nil,
			fmt.Errorf("the converted file is refused, which is a fault of this program: %w", err)
	}
	if what := difference(before, after); what != "" {
		return nil,
			fmt.Errorf("%s: the converted file means something else, which is a fault of this program: %s", file, what)
	}
	return &Converted{Text: text, Changes: c.changes}, nil
}

func isEventManager(root *scconf.Block) bool {
	return slices.ContainsFunc(root.Items, func(it *scconf.Item) bool {
		return it.Block != nil &&
			(scconf.SameKey(it.Key.Text, "pkcs11_eventmgr") ||
				scconf.SameKey(it.Key.Text, "card_eventmgr"))
	})
}

// converter goes through one file.
type converter struct {
	file    string
	changes []Change
}

// root converts what stands outside of all blocks, and the block pam_pkcs11.
func (c *converter) root(b *scconf.Block) {
	c.each(b, func(it *scconf.Item) verdict {
		switch {
		case it.Block == nil:
			return verdict{drop: Unread, detail: "it stands outside the block pam_pkcs11"}
		case scconf.SameKey(it.Key.Text, "pam_pkcs11"):
			c.main(it.Block)
		default: // of another program, perhaps
			c.changes = append(c.changes, Change{
				Line:   it.Key.Line,
				Key:    it.Key.Text,
				Was:    it.Key.Text + " { }",
				Reason: Foreign,
				Detail: "the module does not read this block",
			})
		}
		return verdict{}
	})
}

// main converts the block pam_pkcs11.
func (c *converter) main(b *scconf.Block) {
	seen := map[string]bool{}
	c.settings(b, &schema.Global, func(it *scconf.Item) verdict {
		kind := strings.ToLower(it.Key.Text)
		if kind == "service" {
			c.settings(it.Block, &schema.Service, nil)
			return verdict{}
		}
		if kind != "pkcs11_module" && kind != "mapper" {
			return verdict{}
		}

		name := kind + " " + strings.ToLower(it.Name())
		if seen[name] && it.Name() != "" {
			return verdict{drop: Repeated, detail: "of several blocks of a name the first is read"}
		}
		seen[name] = true
		c.oneName(it)
		if kind == "pkcs11_module" {
			c.settings(it.Block, &schema.Module, nil)
			return verdict{}
		}
		c.mapper(it)
		return verdict{}
	})
}

// oneName leaves a block the name that is read.
func (c *converter) oneName(it *scconf.Item) {
	if len(it.Names) < 2 {
		return
	}
	var was []string
	for _, n := range it.Names {
		was = append(was, n.Text)
	}
	it.Names = it.Names[:1]
	c.changes = append(c.changes, Change{
		Line:   it.Key.Line,
		Key:    it.Key.Text,
		Was:    it.Key.Text + " " + strings.Join(was, " "),
		Now:    it.Key.Text + " " + it.Name(),
		Reason: Spelling,
		Detail: "a block has one name",
	})
}

// mapper converts the block of a mapper. One of an unknown mapper stays as it is.
func (c *converter) mapper(it *scconf.Item) {
	var errs finding.Errors
	var notes []finding.Note
	table := schema.NewReader(c.file, &errs, &notes).MapperOf(it)
	if table == nil {
		return
	}

	c.settings(it.Block, table, func(inner *scconf.Item) verdict {
		if table.Type == "certmap" && scconf.SameKey(inner.Key.Text, "rule") {
			c.settings(inner.Block, &schema.Rule, nil)
		}
		return verdict{}
	})
	c.internal(it, table)
}

// internal writes the path of a mapper's shared object, none of which is loaded any more, as the
// built-in mapper.
func (c *converter) internal(it *scconf.Item, table *schema.Table) {
	at := slices.IndexFunc(it.Block.Items,
		func(s *scconf.Item) bool { return s.Block == nil && scconf.SameKey(s.Key.Text, "module") })
	if at < 0 || len(it.Block.Items[at].Values) == 0 ||
		scconf.SameKey(it.Block.Items[at].Values[0].Text, "internal") {
		return
	}
	module := it.Block.Items[at]
	change := Change{
		Line:   module.Key.Line,
		Key:    "module",
		Was:    written(module),
		Reason: Spelling,
		Detail: "mappers are built in",
	}

	module.Values = []scconf.Word{{Text: "internal"}}
	change.Now = written(module)
	typed := slices.ContainsFunc(it.Block.Items, func(s *scconf.Item) bool {
		return s.Block == nil && scconf.SameKey(s.Key.Text, "type") && len(s.Values) > 0
	})
	if !typed && !scconf.SameKey(it.Name(), table.Type) {
		own := &scconf.Item{Key: scconf.Word{Text: "type"},
			Values: []scconf.Word{{Text: table.Type}}}
		it.Block.Items = slices.Insert(it.Block.Items, at+1, own)
		change.Now += " " + written(own)
	}
	c.changes = append(c.changes, change)
}

// verdict is what becomes of an item; the zero verdict leaves it.
type verdict struct {
	drop   Reason // "" keeps it; otherwise it becomes a comment, for this reason
	detail string
}

// each goes through the items of a block and makes comments of those that are dropped.
func (c *converter) each(b *scconf.Block, decide func(*scconf.Item) verdict) {
	var kept []*scconf.Item
	var comments []string
	blank := false
	for _, it := range b.Items {
		v := decide(it)
		if v.drop == "" {
			it.Before, comments = slices.Concat(comments, it.Before), nil
			it.Blank, blank = it.Blank || blank, false
			kept = append(kept, it)
			continue
		}

		change := Change{
			Line:   it.Key.Line,
			Key:    it.Key.Text,
			Was:    written(it),
			Reason: v.drop,
			Detail: v.detail,
		}
		c.changes = append(c.changes, change)
		comments = slices.Concat(comments, it.Before, asComment(it, v))
		blank = blank || it.Blank
	}
	b.Items, b.Tail = kept, slices.Concat(comments, b.Tail)
	slices.SortStableFunc(c.changes, func(x, y Change) int { return x.Line - y.Line })
}

// asComment is an item as comments, without their #.
func asComment(it *scconf.Item, v verdict) []string {
	bare := *it
	bare.Before, bare.Blank = nil, false
	text := strings.TrimRight(string((&scconf.Block{Items: []*scconf.Item{&bare}}).Format()), "\n")

	return append([]string{" " + inComments[v.drop] + ": " + v.detail},
		strings.Split(text, "\n")...)
}

// written is an item on one line; of a block only its head.
func written(it *scconf.Item) string {
	bare := *it
	bare.Before = nil
	bare.After = ""
	bare.Blank = false
	if it.Block != nil {
		bare.Block = &scconf.Block{}
	}
	return strings.Join(strings.Fields(
		string((&scconf.Block{Items: []*scconf.Item{&bare}}).Format())), " ")
}

// settings converts the settings of a block; blocks in it are for inner, where there is one.
func (c *converter) settings(b *scconf.Block, t *schema.Table, inner func(*scconf.Item) verdict) {
	first := map[string]*scconf.Item{}
	c.each(b, func(it *scconf.Item) verdict {
		k := t.Find(it.Key.Text)
		switch {
		case it.Block != nil && inner != nil:
			return inner(it)
		case it.Block != nil || k == nil:
			return verdict{} // a fault of a block that is not in use
		case k.Status == schema.NoEffect && k.Name != "description": // which lists of cards show
			return verdict{drop: NoEffect, detail: k.Doc}
		}

		if earlier := first[k.Name]; earlier != nil {
			if v := c.again(k, earlier, it); v.drop != "" {
				return v
			}
		}
		if first[k.Name] == nil || len(first[k.Name].Values) == 0 {
			first[k.Name] = it
		}
		c.spell(k, it)
		return verdict{}
	})
}

// again says what becomes of a key that is there before.
func (c *converter) again(k *schema.Key, earlier, it *scconf.Item) verdict {
	switch {
	case k.IsList():
		c.spell(k, it)
		earlier.Values = append(earlier.Values, it.Values...)
		return verdict{drop: Joined, detail: "its values were added to those above"}
	case len(earlier.Values) > 0:
		return verdict{drop: Repeated, detail: "of several settings of a key the first counts"}
	}
	return verdict{}
}

// spell writes a setting as the manual page does.
func (c *converter) spell(k *schema.Key, it *scconf.Item) {
	was := written(it)
	glued := it.Key.Glued
	it.Key = scconf.Word{Text: k.Name, Line: it.Key.Line, Col: it.Key.Col}
	if texts := today(k, it.Values); texts != nil {
		var words []scconf.Word
		for _, text := range texts {
			words = append(words, scconf.Word{Text: text})
		}
		it.Values = words
	}

	if now := written(it); now != was {
		c.changes = append(c.changes, Change{
			Line:   it.Key.Line,
			Key:    k.Name,
			Was:    was,
			Now:    now,
			Reason: Spelling,
		})
	} else if glued {
		c.changes = append(c.changes, Change{
			Line:   it.Key.Line,
			Key:    k.Name,
			Was:    strings.Replace(was, " =", "=", 1),
			Now:    now,
			Reason: Spelling,
			Detail: "the C module read no key without a blank before =",
		})
	}
}

// today is the spelling of values as they are meant; nil where they stay as they are.
func today(k *schema.Key, words []scconf.Word) []string {
	v, _, fault := k.Decode(words)
	if fault != nil || len(words) == 0 {
		return nil
	}

	texts := k.Written(v)
	same := slices.EqualFunc(texts, words,
		func(text string, w scconf.Word) bool { return text == w.Text })
	if len(texts) == 0 || same ||
		!slices.ContainsFunc(texts, func(s string) bool { return s != "" }) {
		return nil
	}
	return texts
}
