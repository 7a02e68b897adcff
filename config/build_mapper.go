package config

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"pam_pkcs11/config/mappers"
)

// Mapper is one mapper in use.
type Mapper struct {
	Name     string // as in use_mappers
	Type     string // built-in mapper, one of MapperTypes
	Debug    bool
	Issuers  []string         // authorities whose certificates the block is for; nil: any
	Settings mappers.Settings // what the block says, in the type of its mapper
	Values   Values
	Rules    []Rule // of a certmap mapper, in the order of the file
	Line     int    // of the block, 0 when there is none and all defaults hold
	File     string // with the block
	at       Word   // the block, or the name in use_mappers where there is none
}

// Fault makes an error about a key of the block that says where the key is written or, with "" and for one
// that is not written, where the block is.
func (m Mapper) Fault(key string, err error) *Error {
	at := m.placeOf(key)
	return &Error{File: m.File, Line: at.Line, Col: at.Col, Text: "mapper " + m.Name + ": " + err.Error(), cause: err}
}

// Rule is one rule of a certmap mapper.
type Rule struct {
	Name      string
	Values    Values // priority, match, map, domains
	File      string
	Line, Col int
}

// NewMapper makes a mapper without a file, for tests and tools: settings are what would be written.
func NewMapper(name, typ string, settings map[string][]string) (Mapper, error) {
	t := mapperTable(typ)
	if t == nil {
		return Mapper{}, &Error{File: name, Text: "no mapper " + quote(typ), Hint: didYouMean(typ, MapperTypes())}
	}
	block := &Block{}
	for key, texts := range settings {
		it := &Item{Key: Word{Text: key}}
		for _, s := range texts {
			it.Values = append(it.Values, Word{Text: s, Quoted: true})
		}
		block.Items = append(block.Items, it)
	}
	var errs Errors
	var notes []Note
	r := &reader{file: name, inUse: true, errs: &errs, notes: &notes}
	v := r.read(block, t)
	m := Mapper{Name: name, Type: t.Type, Debug: v.Bool("debug"), Values: v, File: name}
	m.fill()
	return m, errs.err()
}

// fill reads the values.
func (m *Mapper) fill() {
	m.Issuers = m.Values.List("issuer")
	m.Settings = settingsOf(m.Type, m.Values, m.Rules)
}

// buildMappers reads the blocks that use_mappers names, and then the others.
func (b *builder) buildMappers(main *Block) {
	used := b.global.get("use_mappers")
	if len(used.texts) == 0 {
		b.note(used.at, NoteRefuses, "use_mappers is empty: nobody can log in")
	}
	blocks := b.mapperBlocks(main)
	seen := map[string]bool{}
	for i, name := range used.texts {
		key := strings.ToLower(name)
		if seen[key] {
			b.note(used.place(i), NoteTolerated, "use_mappers names "+name+" twice")
			continue
		}
		seen[key] = true
		b.useMapper(name, used.place(i), blocks)
	}
	for _, it := range blocks {
		if seen[strings.ToLower(it.Name())] {
			continue
		}
		r := b.aside()
		if t := r.mapperType(it); t != nil {
			r.read(it.Block, t, innerBlocks(t)...)
			r.rules(it.Block, t)
		}
	}
}

// mapperBlocks are the blocks with a name, the first of each name.
func (b *builder) mapperBlocks(main *Block) []*Item {
	var blocks []*Item
	first := map[string]bool{}
	for _, it := range main.Items {
		if it.Block == nil || !equalKeys(it.Key.Text, "mapper") {
			continue
		}
		b.severalNames(it)
		name := strings.ToLower(it.Name())
		if first[name] {
			b.note(it.Key, NoteTolerated, "a second block mapper "+it.Name()+" is not read")
			continue
		}
		first[name] = true
		blocks = append(blocks, it)
	}
	return blocks
}

func innerBlocks(t *Table) []string {
	if t.Type == "certmap" {
		return []string{"rule"}
	}
	return nil
}

func (b *builder) useMapper(name string, at Word, blocks []*Item) {
	i := slices.IndexFunc(blocks, func(it *Item) bool { return equalKeys(it.Name(), name) })
	if i < 0 {
		t := mapperTable(name)
		if t == nil {
			known := MapperTypes()
			for _, it := range blocks {
				known = append(known, it.Name())
			}
			b.fault(&fault{at, "use_mappers names " + quote(name) + ", which is no mapper", didYouMean(name, known)})
			return
		}
		b.addMapper(Mapper{Name: name, Type: t.Type, Values: Values{table: t}, at: at})
		return
	}
	it := blocks[i]
	t := b.mapperType(it)
	if t == nil {
		return
	}
	v := b.read(it.Block, t, innerBlocks(t)...)
	b.addMapper(Mapper{
		Name: name, Type: t.Type, Debug: v.Bool("debug"), Values: v, Rules: b.rules(it.Block, t), Line: it.Key.Line, at: it.Key,
	})
}

func (b *builder) addMapper(m Mapper) {
	m.File = b.file
	m.fill()
	b.checkMapper(m)
	b.conf.Mappers = append(b.conf.Mappers, m)
}

// checkMapfile refuses a mapfile that travels in the clear, unless that is asked for.
func (b *builder) checkMapfile(v Values) {
	if v.table.find("insecure_mapfile") == nil || v.Bool("insecure_mapfile") {
		return
	}
	scheme, _, _ := strings.Cut(v.String("mapfile"), ":")
	if equalKeys(scheme, "http") || equalKeys(scheme, "ldap") {
		b.fault(&fault{v.get("mapfile").at, "the mapfile would travel in the clear: anybody on the way could name users",
			"use https or ldaps; insecure_mapfile = true obeys it as it is"})
	}
}

// mapperType finds which built-in mapper a block configures: by type, by module, or by its name.
func (r *reader) mapperType(it *Item) *Table {
	var typ, module Word
	for _, s := range it.Block.Items {
		switch {
		case s.Block != nil || len(s.Values) == 0:
		case equalKeys(s.Key.Text, "type") && typ.Text == "":
			typ = s.Values[0]
		case equalKeys(s.Key.Text, "module") && module.Text == "":
			module = s.Values[0]
		}
	}
	builtin, f := moduleMapper(module)
	if f != nil {
		r.fault(f)
		return nil
	}
	at, name := it.Key, it.Name()
	if len(it.Names) > 0 {
		at = it.Names[0]
	}
	switch {
	case typ.Text != "" && builtin != "" && !equalKeys(typ.Text, builtin):
		r.fault(&fault{typ, "type = " + typ.Text + " contradicts module = " + module.Text, ""})
		return nil
	case typ.Text != "":
		at, name = typ, typ.Text
	case builtin != "":
		at, name = module, builtin
	}
	t := mapperTable(name)
	if t == nil {
		hint := didYouMean(name, MapperTypes())
		if typ.Text == "" && hint == "" {
			hint = "a block of another name says which mapper it is: type = cn;"
		}
		r.fault(&fault{at, "there is no mapper " + quote(name), hint})
	}
	return t
}

// moduleMapper gives the built-in mapper that a path of an old shared object stands for; "" for internal.
func moduleMapper(module Word) (string, *fault) {
	if module.Text == "" || equalKeys(module.Text, "internal") {
		return "", nil
	}
	name, ok := strings.CutSuffix(path.Base(module.Text), "_mapper.so")
	if ok && mapperTable(name) != nil {
		return strings.ToLower(name), nil
	}
	return "", &fault{module, "module = " + module.Text + " is no built-in mapper, and others are not loaded", "internal, or .../NAME_mapper.so of a built-in one"}
}

// rules reads the rules of a certmap mapper.
func (r *reader) rules(b *Block, t *Table) []Rule {
	if t.Type != "certmap" {
		return nil
	}
	var rules []Rule
	for _, it := range b.Items {
		if it.Block == nil || !equalKeys(it.Key.Text, "rule") {
			continue
		}
		v := r.read(it.Block, &ruleTable)
		name := it.Name()
		if name == "" {
			name = fmt.Sprintf("line %d", it.Key.Line)
		}
		rules = append(rules, Rule{Name: name, Values: v, File: r.file, Line: it.Key.Line, Col: it.Key.Col})
	}
	return rules
}
