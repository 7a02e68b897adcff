package config

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"pam_pkcs11/config/internal/finding"
	"pam_pkcs11/config/internal/scconf"
	"pam_pkcs11/config/internal/schema"
)

// builtin is the built-in card: what module may be instead of a library, and a block that need not
// be written.
const builtin = "builtin"

// maxModules bounds how many blocks one configuration uses.
const maxModules = 8

// selectedModules are the names of the blocks to use, and the library that an argument put in the
// place of the first one's.
func (b *builder) selectedModules(blocks []*scconf.Item) (names []scconf.Word, library string) {
	v := b.global.Get("use_pkcs11_module")
	for i, text := range v.Texts {
		names = append(names, at(v.Place(i), text))
	}

	switch x := b.args.PKCS11Module; {
	// A slash makes it the path of a library.
	case strings.Contains(x, "/"):
		library = x
	case x != "":
		names = []scconf.Word{{Text: x}}
	}

	names = splitNames(names, blocks)
	// The library takes the place of the first block's. The others are not used.
	if library != "" {
		names = names[:1]
	}
	return names, library
}

// splitNames takes apart what is no block's name: several in quotes, or in an argument.
func splitNames(names []scconf.Word, blocks []*scconf.Item) []scconf.Word {
	var all []scconf.Word
	for _, name := range names {
		if findBlock(blocks, name.Text) != nil {
			all = append(all, name)
			continue
		}

		// Only now: a name in quotes may have blanks and commas of its own.
		parts := strings.FieldsFunc(name.Text,
			func(r rune) bool { return strings.ContainsRune(", \t", r) })
		if len(parts) == 0 {
			parts = []string{""} // is the name of no block
		}

		for _, part := range parts {
			all = append(all, at(name, part))
		}
	}
	return all
}

// at is another text at the same place.
func at(place scconf.Word, text string) scconf.Word {
	place.Text = text
	return place
}

// findBlock is the first block of that name; nil when there is none.
func findBlock(blocks []*scconf.Item, name string) *scconf.Item {
	for _, it := range blocks {
		if scconf.SameKey(it.Name(), name) {
			return it
		}
	}
	return nil
}

// buildModules reads the blocks in use, in their order, and looks at the others.
func (b *builder) buildModules(main *scconf.Block) {
	var blocks []*scconf.Item
	for _, it := range main.Items {
		if it.Block != nil && scconf.SameKey(it.Key.Text, "pkcs11_module") {
			b.noteNames(it)
			blocks = append(blocks, it)
		}
	}

	names, library := b.selectedModules(blocks)
	b.readUnused(blocks, names)

	if len(names) > maxModules {
		b.refuse(names[maxModules],
			fmt.Sprintf("use_pkcs11_module names more than %d blocks", maxModules), "")
		return
	}

	for i, name := range names {
		twice := slices.ContainsFunc(names[:i],
			func(w scconf.Word) bool { return scconf.SameKey(w.Text, name.Text) })
		if twice {
			b.refuse(name, "use_pkcs11_module names "+name.Text+" twice", "")
			continue
		}

		b.buildModule(blocks, name, library)
	}

	// From here on Module is the first block, unless Config.Block makes it another.
	if len(b.conf.Modules) > 0 {
		b.selectBlock(0)
	}
}

// selectBlock makes Modules[i], which was built before, the block under work.
func (b *builder) selectBlock(i int) {
	b.conf.Module = *b.conf.Modules[i]
	b.conf.block = i
	b.module = b.conf.blocks[i]
}

// readUnused reads the blocks that are not in use, for their notes.
func (b *builder) readUnused(blocks []*scconf.Item, used []scconf.Word) {
	for _, it := range blocks {
		inUse := slices.ContainsFunc(used,
			func(w scconf.Word) bool { return scconf.SameKey(w.Text, it.Name()) })

		switch {
		case !inUse:
			b.ForUnused().Read(it.Block, &schema.Module)
		// Of two blocks with one name the first is used: findBlock finds no other.
		case findBlock(blocks, it.Name()) != it:
			b.Note(it.Key, finding.NoteTolerated, "a second block pkcs11_module "+it.Name()+
				" is not read")
		}
	}
}

// buildModule reads one block in use, or makes the one that need not be written.
func (b *builder) buildModule(blocks []*scconf.Item, name scconf.Word, library string) {
	// Nothing of the block before may stay: what follows fills fields, not the whole.
	b.conf.Module = Module{}

	block := &scconf.Block{}
	selected := findBlock(blocks, name.Text)

	switch {
	case selected != nil:
		block = selected.Block
		b.conf.Module.Name = selected.Name()
	// The built-in card needs no block: all keys have defaults.
	case scconf.SameKey(name.Text, builtin) && library == "":
		b.conf.Module.Name = builtin
	// A library from the arguments needs none either.
	case library == "":
		var known []string
		for _, it := range blocks {
			known = append(known, it.Name())
		}
		b.refuse(name, "there is no block pkcs11_module "+name.Text,
			finding.DidYouMean(name.Text, append(known, builtin)))
		return
	}

	b.module = b.Read(block, &schema.Module)
	b.fillModule(b.module, block, library)

	b.checkEnvironment()

	// A copy: conf.Module is filled anew for the next block.
	m := b.conf.Module
	b.conf.Modules = append(b.conf.Modules, &m)
	b.conf.blocks = append(b.conf.blocks, b.module)
}

// noteNames notes what the names of a block are not read for: more than one, none, or one without a
// blank before its brace.
func (b *builder) noteNames(it *scconf.Item) {
	if len(it.Names) > 1 {
		b.Note(it.Names[1], finding.NoteTolerated, "a block has one name; "+
			finding.Quote(it.Names[1].Text)+" is not read")
	}

	last := it.Key
	if len(it.Names) > 0 {
		last = it.Names[len(it.Names)-1]
	} else {
		b.Note(it.Key, finding.NoteTolerated, it.Key.Text+" has no name, so nothing can use it")
	}

	if last.Glued && !last.Quoted {
		b.Note(last, finding.NoteDifferent,
			"a blank before { is missing: the C module could not read this file")
	}
}

// text is the value of the file, or of the argument where that was given.
func text(file string, argument *string) string {
	if argument != nil {
		return *argument
	}
	return file
}

// fillSource says where the cards of the block come from.
func (b *builder) fillSource(v schema.Values, library string) {
	m := &b.conf.Module
	written := v.Get("module")
	named := scconf.SameKey(m.Name, builtin)
	m.Path = v.String("module")

	switch {
	case library != "":
		m.Path = library
	case m.Path == builtin, named && !written.Set:
		m.Builtin = true
		m.Path = ""
		b.refuseSecondBuiltin(written.At)
		return
	case named:
		b.refuse(written.At, "the block builtin is the built-in card, and module = "+m.Path+
			" is a library",
			"give the block another name, or leave module out")
	case strings.EqualFold(m.Path, builtin):
		b.refuse(written.At, "module = "+m.Path+" is neither a library nor the built-in card",
			"write module = builtin")
	}

	if !path.IsAbs(m.Path) {
		b.Note(written.At, finding.NoteDifferent, "module = "+m.Path+" is not an absolute path")
	}
}

// refuseSecondBuiltin refuses a second block of the built-in card, which could only see what the
// first could not read.
func (b *builder) refuseSecondBuiltin(place scconf.Word) {
	for _, m := range b.conf.Modules {
		if m.Builtin {
			b.refuse(place, "the built-in card is that of the block "+m.Name+
				" already, which comes first", "use one of them")
			return
		}
	}
}

func (b *builder) fillModule(v schema.Values, block *scconf.Block, library string) {
	m := &b.conf.Module
	a := b.args
	b.fillSource(v, library)

	m.Description = description(block)
	m.TokenType = text(v.String("token_type"), a.TokenType)
	m.SlotDescription = text(v.String("slot_description"), a.SlotDescription)
	m.SlotNum = v.Int("slot_num")
	if a.SlotNum != nil {
		m.SlotNum = *a.SlotNum
	}

	m.TokenLabel = v.String("token_label")
	m.TokenURI = v.String("token_uri")
	m.SupportThreads = v.Bool("support_threads")
	m.CADir = text(v.String("ca_dir"), a.CADir)
	m.CRLDir = text(v.String("crl_dir"), a.CRLDir)

	m.Environment = v.List("environment")
	b.fillPIV(v)
	b.fillAccess(v)

	m.EKU = ekuOf(v)

	// Two ways to name a slot could name two slots.
	if m.SlotNum != 0 && m.SlotDescription != "" {
		// Either may come from an argument: the place is that of the one that the file has.
		at := v.Get("slot_num").At
		if !v.Set("slot_num") {
			at = v.Get("slot_description").At
		}
		b.refuse(at, fmt.Sprintf("slot_num = %d contradicts slot_description", m.SlotNum),
			"use one of them")
	}

	// The policy comes first: without some of its words keys of the others have no effect.
	b.fillPolicy(v)
	b.fillChain(v)
	b.fillCRL(v)
	b.fillOCSP(v)
}

func ekuOf(v schema.Values) EKU {
	if v.String("eku") == "ignore" {
		return EKU{Ignore: true}
	}
	return EKU{Required: v.List("eku")}
}

// description is read though it has no effect: lists of modules show it.
func description(block *scconf.Block) string {
	for _, it := range block.Items {
		if it.Block == nil && scconf.SameKey(it.Key.Text, "description") && len(it.Values) > 0 {
			return it.Values[0].Text
		}
	}
	return ""
}

func (b *builder) fillPolicy(v schema.Values) {
	words := v.Get("cert_policy")
	p, problem := newPolicy(words.Texts)
	if problem != "" {
		b.refuse(words.At, problem, "")
		return
	}

	// The fault is in the arguments, so it has no place in the file.
	if p, problem = p.withArgument(b.args.CertPolicy); problem != "" {
		b.errs.Add(&finding.Error{File: argumentsFile, Text: problem})
		return
	}

	if problem := p.problem(); problem != "" {
		b.refuse(words.At, problem, "add ca, or leave the other word out")
		return
	}

	b.conf.Module.Policy = p
}

// refuseLooserBlocks refuses a block that is less strict than one before it: a card that the
// earlier one cannot read would log in by checks that its writer did not mean for it.
func (b *builder) refuseLooserBlocks() {
	for i, later := range b.conf.Modules {
		v := b.conf.blocks[i]
		if v.Bool("allow_looser_block") {
			// Nothing comes before it that it could be less strict than.
			if i == 0 {
				b.Note(v.Get("allow_looser_block").At, finding.NoteNoEffect,
					"allow_looser_block has no effect in the first block")
			}
			continue
		}

		for _, earlier := range b.conf.Modules[:i] {
			if keys := b.looserKeys(later, earlier); len(keys) > 0 {
				// The key may not be written in the later block: its default is less strict then.
				place := b.global.Get("use_pkcs11_module").At
				if v.Has(keys[0]) && v.Set(keys[0]) {
					place = v.Get(keys[0]).At
				}
				b.refuse(place, "the block "+later.Name+" is less strict than "+earlier.Name+
					", which comes before it: "+strings.Join(keys, ", "),
					"make them alike, or write allow_looser_block = true in the later block")
				break
			}
		}
	}
}

// looserKeys names the keys in which a block is less strict than another, or goes by other
// authorities.
func (b *builder) looserKeys(later, earlier *Module) []string {
	var keys []string
	for _, rule := range looserRules {
		if rule.looser(later, earlier) {
			keys = append(keys, rule.key)
		}
	}

	// The built-in card is never used without its PIN.
	if earlier.Builtin && !later.Builtin && !b.conf.Global.RequirePIN {
		keys = append(keys, "require_pin")
	}
	return keys
}
