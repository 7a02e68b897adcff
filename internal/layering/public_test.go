package layering

import (
	"fmt"
	"go/types"
	"slices"
	"strings"
	"testing"
)

// public are the packages that programs of others may import.
var public = []string{
	"ccid", "ccid/ccidtest", "ccid/device", "ccid/message", "ccid/plan", "ccid/serial", "ccid/usb",
	"pcsc", "pcsc/resmgr", "pcsc/server",
}

// TestPublicPackagesShowNoInternalType: a program of another module can name every type that a
// public package shows it.
func TestPublicPackagesShowNoInternalType(t *testing.T) {
	seen := make(map[string]bool)
	for _, p := range goPackages(t) {
		if !slices.Contains(public, p.dir) {
			continue
		}
		seen[p.dir] = true
		for _, problem := range internalTypes(p.types) {
			t.Errorf("%s: %s", p.dir, problem)
		}
	}
	for _, dir := range public {
		if !seen[dir] {
			t.Errorf("%s is public, and is not there", dir)
		}
	}
}

// internalTypes says where a package shows types of internal packages.
func internalTypes(p *types.Package) []string {
	s := &signatures{pkg: p, seen: make(map[types.Type]bool)}
	for _, name := range p.Scope().Names() {
		o := p.Scope().Lookup(name)
		if o.Exported() {
			s.object(name, o)
		}
	}
	return s.found
}

// signatures looks through what a package exports.
type signatures struct {
	pkg   *types.Package
	seen  map[types.Type]bool // named types of the package
	found []string
}

// object looks at a function, a variable, a constant or a type. where says how one comes to it.
func (s *signatures) object(where string, o types.Object) {
	if name, ok := o.(*types.TypeName); ok && name.IsAlias() {
		s.typ(where, types.Unalias(o.Type()))
		return
	}
	s.typ(where, o.Type())
}

// typ looks at a type and the parts of it that can be seen from outside.
func (s *signatures) typ(where string, typ types.Type) {
	switch x := types.Unalias(typ).(type) {
	case *types.Named:
		s.named(where, x)
	case *types.Pointer:
		s.typ(where, x.Elem())
	case *types.Slice:
		s.typ(where, x.Elem())
	case *types.Array:
		s.typ(where, x.Elem())
	case *types.Chan:
		s.typ(where, x.Elem())
	case *types.Map:
		s.typ(where, x.Key())
		s.typ(where, x.Elem())
	case *types.Signature:
		s.signature(where, x)
	case *types.Struct:
		for f := range x.Fields() {
			if f.Exported() || f.Embedded() {
				s.typ(where+"."+f.Name(), f.Type())
			}
		}
	case *types.Interface:
		for m := range x.ExplicitMethods() {
			if m.Exported() {
				s.typ(where+"."+m.Name(), m.Type())
			}
		}
		for e := range x.EmbeddedTypes() {
			s.typ(where, e)
		}
	case *types.Union:
		for term := range x.Terms() {
			s.typ(where, term.Type())
		}
	}
}

func (s *signatures) signature(where string, f *types.Signature) {
	for p := range f.TypeParams().TypeParams() {
		s.typ(where, p.Constraint())
	}
	for v := range f.Params().Variables() {
		s.typ(where, v.Type())
	}
	for v := range f.Results().Variables() {
		s.typ(where, v.Type())
	}
}

// named looks at a type with a name: where it is declared, and, when that is in the package itself,
// at its fields and methods.
func (s *signatures) named(where string, n *types.Named) {
	for arg := range n.TypeArgs().Types() {
		s.typ(where, arg)
	}

	pkg := n.Obj().Pkg()
	switch {
	case pkg == nil: // error, comparable
		return
	case isInternal(pkg.Path()):
		s.found = append(s.found, fmt.Sprintf("%s shows %s.%s", where, pkg.Path(), n.Obj().Name()))
		return
	case pkg.Path() != s.pkg.Path(), s.seen[n.Origin()]:
		return
	}

	n = n.Origin()
	s.seen[n] = true
	for p := range n.TypeParams().TypeParams() {
		s.typ(where, p.Constraint())
	}
	s.typ(where, n.Underlying())
	for m := range n.Methods() {
		if m.Exported() {
			s.typ(where+"."+m.Name(), m.Type())
		}
	}
}

// isInternal reports whether a package of ours is closed to other modules.
func isInternal(path string) bool {
	return strings.HasPrefix(path, module+"/") && strings.Contains(path+"/", "/internal/")
}

// TestInternalTypesAreSeen keeps the look honest: each of these shows an internal type, or does not.
func TestInternalTypesAreSeen(t *testing.T) {
	p := types.NewPackage(module+"/public", "public")
	hidden := types.NewPackage(module+"/internal/hidden", "hidden")
	inner := types.NewNamed(types.NewTypeName(0, hidden, "T", nil), types.Typ[types.Int], nil)
	deep := types.NewMap(types.Typ[types.String], types.NewSlice(types.NewPointer(inner)))
	one := types.NewTuple(types.NewVar(0, p, "v", deep))

	function := func(name string, params, results *types.Tuple) types.Object {
		return types.NewFunc(0, p, name, types.NewSignatureType(nil, nil, nil, params, results, false))
	}
	holder := func(field string, embedded bool) types.Object {
		o := types.NewTypeName(0, p, "T", nil)
		fields := []*types.Var{types.NewField(0, p, field, inner, embedded)}
		types.NewNamed(o, types.NewStruct(fields, nil), nil)
		return o
	}
	for name, tt := range map[string]struct {
		object types.Object
		shows  bool
	}{
		"a parameter":       {function("F", one, nil), true},
		"a result":          {function("F", nil, one), true},
		"an own function":   {function("f", one, nil), false},
		"a variable":        {types.NewVar(0, p, "V", deep), true},
		"a field":           {holder("F", false), true},
		"an own field":      {holder("f", false), false},
		"an embedded field": {holder("t", true), true},
		"an alias":          {types.NewTypeName(0, p, "T", inner), true},
		"nothing":           {types.NewVar(0, p, "V", types.Typ[types.Int]), false},
	} {
		p := types.NewPackage(p.Path(), p.Name())
		p.Scope().Insert(tt.object)
		if got := len(internalTypes(p)) > 0; got != tt.shows {
			t.Errorf("%s: shows an internal type: %v", name, got)
		}
	}
}
