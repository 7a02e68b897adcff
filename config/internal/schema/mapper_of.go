package schema

import (
	"path"
	"strings"

	"pam_pkcs11/config/internal/finding"
	"pam_pkcs11/config/internal/scconf"
)

// MapperOf finds which built-in mapper a block configures: by type, by module, or by its name. nil
// is a fault, which it adds.
func (r *Reader) MapperOf(it *scconf.Item) *Table {
	var typ, module scconf.Word
	// The first counts, as for every key; an empty one is passed over.
	for _, s := range it.Block.Items {
		switch {
		case s.Block != nil || len(s.Values) == 0:
		case scconf.SameKey(s.Key.Text, "type") && typ.Text == "":
			typ = s.Values[0]
		case scconf.SameKey(s.Key.Text, "module") && module.Text == "":
			module = s.Values[0]
		}
	}

	builtin, f := moduleMapper(module)
	if f != nil {
		r.Fault(f)
		return nil
	}

	at, name := it.Key, it.Name()
	if len(it.Names) > 0 {
		at = it.Names[0]
	}

	// type counts before module, and module before the name of the block.
	switch {
	case typ.Text != "" && builtin != "" && !scconf.SameKey(typ.Text, builtin):
		r.Fault(&Fault{At: typ, Text: "type = " + typ.Text + " contradicts module = " +
			module.Text})
		return nil
	case typ.Text != "":
		at, name = typ, typ.Text
	case builtin != "":
		at, name = module, builtin
	}

	t := Mapper(name)
	if t == nil {
		hint := finding.DidYouMean(name, MapperTypes())
		// Only where nothing looks alike: a name of one's own needs a type.
		if typ.Text == "" && hint == "" {
			hint = "a block of another name says which mapper it is: type = cn;"
		}
		r.Fault(&Fault{At: at, Text: "there is no mapper " + finding.Quote(name), Hint: hint})
	}
	return t
}

// moduleMapper gives the built-in mapper that a path of an old shared object stands for; "" for
// internal.
func moduleMapper(module scconf.Word) (string, *Fault) {
	if module.Text == "" || scconf.SameKey(module.Text, "internal") {
		return "", nil
	}

	// Old files have the path of a shared object, .../NAME_mapper.so: those mappers are built in.
	name, ok := strings.CutSuffix(path.Base(module.Text), "_mapper.so")
	if ok && Mapper(name) != nil {
		return strings.ToLower(name), nil
	}

	return "", &Fault{At: module, Text: "module = " + module.Text +
		" is no built-in mapper, and others are not loaded",
		Hint: "internal, or .../NAME_mapper.so of a built-in one"}
}
