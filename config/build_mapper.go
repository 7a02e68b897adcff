package config

import (
	"fmt"
	"slices"
	"strings"

	"pam_pkcs11/config/internal/finding"
	"pam_pkcs11/config/internal/scconf"
	"pam_pkcs11/config/internal/schema"
)

// NewMapper makes a mapper without a file, for tests and tools: settings are what would be written.
func NewMapper(name, typ string, settings map[string][]string) (Mapper, error) {
	t := schema.Mapper(typ)
	if t == nil {
		return Mapper{}, &finding.Error{
			File: name,
			Text: "no mapper " + finding.Quote(typ),
			Hint: finding.DidYouMean(typ, schema.MapperTypes()),
		}
	}

	block := &scconf.Block{}
	for key, texts := range settings {
		it := &scconf.Item{Key: scconf.Word{Text: key}}
		for _, s := range texts {
			// In quotes, as a file would have to write a value with commas.
			it.Values = append(it.Values, scconf.Word{Text: s, Quoted: true})
		}
		block.Items = append(block.Items, it)
	}

	var errs finding.Errors
	var notes []finding.Note
	r := schema.NewReader(name, &errs, &notes)
	v := r.Read(block, t)

	m := Mapper{
		Name:   name,
		Type:   t.Type,
		Debug:  v.Bool("debug"),
		Values: v,
		File:   name,
	}
	m.fill()

	return m, errs.Err()
}

// fill reads the values.
func (m *Mapper) fill() {
	m.Issuers = m.Values.List("issuer")
	m.Settings = settingsOf(m.Type, m.Values, m.Rules)
}

// buildMappers reads the blocks that use_mappers names, and then the others.
func (b *builder) buildMappers(main *scconf.Block) {
	used := b.global.Get("use_mappers")
	if len(used.Texts) == 0 {
		b.Note(used.At, finding.NoteRefuses, "use_mappers is empty: nobody can log in")
	}

	blocks := b.mapperBlocks(main)

	seen := map[string]bool{}
	for i, name := range used.Texts {
		key := strings.ToLower(name)
		if seen[key] {
			b.Note(used.Place(i), finding.NoteTolerated, "use_mappers names "+name+" twice")
			continue
		}

		seen[key] = true
		b.useMapper(name, used.Place(i), blocks)
	}

	for _, it := range blocks {
		if seen[strings.ToLower(it.Name())] {
			continue
		}

		// Faults of a block that is not in use are notes: no login is refused for them.
		r := b.ForUnused()
		if t := r.MapperOf(it); t != nil {
			r.Read(it.Block, t, innerBlocks(t)...)
			readRules(r, it.Block, t)
		}
	}
}

// mapperBlocks are the blocks with a name, the first of each name.
func (b *builder) mapperBlocks(main *scconf.Block) []*scconf.Item {
	var blocks []*scconf.Item
	first := map[string]bool{}
	for _, it := range main.Items {
		if it.Block == nil || !scconf.SameKey(it.Key.Text, "mapper") {
			continue
		}

		b.noteNames(it)

		name := strings.ToLower(it.Name())
		if first[name] {
			b.Note(it.Key, finding.NoteTolerated, "a second block mapper "+it.Name()+" is not read")
			continue
		}

		first[name] = true
		blocks = append(blocks, it)
	}
	return blocks
}

func innerBlocks(t *schema.Table) []string {
	if t.Type == "certmap" {
		return []string{"rule"}
	}
	return nil
}

func (b *builder) useMapper(name string, at scconf.Word, blocks []*scconf.Item) {
	isNamed := func(it *scconf.Item) bool { return scconf.SameKey(it.Name(), name) }
	i := slices.IndexFunc(blocks, isNamed)
	if i < 0 {
		// A mapper for which all defaults hold needs no block: its type is its name.
		t := schema.Mapper(name)
		if t == nil {
			known := schema.MapperTypes()
			for _, it := range blocks {
				known = append(known, it.Name())
			}
			b.refuse(at, "use_mappers names "+finding.Quote(name)+", which is no mapper",
				finding.DidYouMean(name, known))
			return
		}

		b.addMapper(Mapper{
			Name:   name,
			Type:   t.Type,
			Values: schema.Defaults(t),
			at:     at,
		})
		return
	}

	it := blocks[i]
	t := b.MapperOf(it)
	if t == nil {
		return
	}

	v := b.Read(it.Block, t, innerBlocks(t)...)
	b.addMapper(Mapper{
		Name:   name,
		Type:   t.Type,
		Debug:  v.Bool("debug"),
		Values: v,
		Rules:  readRules(b.Reader, it.Block, t),
		Line:   it.Key.Line,
		at:     it.Key,
	})
}

func (b *builder) addMapper(m Mapper) {
	m.File = b.File
	m.fill()
	b.checkMapper(m)
	b.conf.Mappers = append(b.conf.Mappers, m)
}

// checkMapfile refuses a mapfile that travels in the clear, unless that is asked for.
func (b *builder) checkMapfile(v schema.Values) {
	if !v.Has("insecure_mapfile") || v.Bool("insecure_mapfile") {
		return
	}
	scheme, _, _ := strings.Cut(v.String("mapfile"), ":")
	if scconf.SameKey(scheme, "http") || scconf.SameKey(scheme, "ldap") {
		b.refuse(v.Get("mapfile").At,
			"the mapfile would travel in the clear: anybody on the way could name users",
			"use https or ldaps; insecure_mapfile = true obeys it as it is")
	}
}

// readRules reads the rules of a certmap mapper.
func readRules(r *schema.Reader, b *scconf.Block, t *schema.Table) []Rule {
	if t.Type != "certmap" {
		return nil
	}
	var rules []Rule
	for _, it := range b.Items {
		if it.Block == nil || !scconf.SameKey(it.Key.Text, "rule") {
			continue
		}

		v := r.Read(it.Block, &schema.Rule)
		name := it.Name()
		if name == "" {
			name = fmt.Sprintf("line %d", it.Key.Line)
		}

		rules = append(rules, Rule{
			Name:   name,
			Values: v,
			File:   r.File,
			Line:   it.Key.Line,
			Col:    it.Key.Col,
		})
	}
	return rules
}
