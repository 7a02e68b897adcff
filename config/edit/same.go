package edit

import (
	"fmt"
	"reflect"
	"regexp"

	"pam_pkcs11/config"
	"pam_pkcs11/config/mappers"
)

// difference says in what two configurations differ for a login, "" where they mean the same:
// settings, blocks of cards, mappers, and what each service that has a block makes of them. Names
// of files and places of keys do not count.
func difference(a, b *config.Config) string {
	if what := sameForAll(a, b); what != "" {
		return what
	}

	services := a.Services()
	if len(services) != len(b.Services()) {
		return "the blocks service"
	}
	for i, s := range services {
		if b.Services()[i].Name != s.Name {
			return "the block service " + s.Name
		}
		with, err := a.ForService(s.Name)
		also, failed := b.ForService(s.Name)
		if (err == nil) != (failed == nil) {
			return "whether the block service " + s.Name + " can be obeyed"
		}
		if err != nil {
			continue
		}
		if what := sameForAll(with, also); what != "" {
			return fmt.Sprintf("the service %s: %s", s.Name, what)
		}
	}
	return ""
}

// sameForAll compares without the blocks of services.
func sameForAll(a, b *config.Config) string {
	if what := fields("", reflect.ValueOf(a.Global), reflect.ValueOf(b.Global)); what != "" {
		return what
	}
	if len(a.Modules) != len(b.Modules) {
		return "use_pkcs11_module"
	}
	for i, m := range a.Modules {
		if what := fields("pkcs11_module "+m.Name+" ", reflect.ValueOf(*m),
			reflect.ValueOf(*b.Modules[i])); what != "" {
			return what
		}
	}

	if len(a.Mappers) != len(b.Mappers) {
		return "use_mappers"
	}
	for i, m := range a.Mappers {
		o := b.Mappers[i]
		same := m.Name == o.Name && m.Type == o.Type && m.Debug == o.Debug &&
			reflect.DeepEqual(m.Issuers, o.Issuers) &&
			reflect.DeepEqual(placeless(m), placeless(o))
		if !same {
			return "mapper " + m.Name
		}
	}
	return ""
}

// fields names the first field in which two structures differ.
func fields(where string, a, b reflect.Value) string {
	for i := range a.NumField() {
		if !equal(a.Field(i).Interface(), b.Field(i).Interface()) {
			return where + a.Type().Field(i).Name
		}
	}
	return ""
}

// equal compares two values of a field; expressions by their text.
func equal(a, b any) bool {
	p, isPattern := a.(*regexp.Regexp)
	q, _ := b.(*regexp.Regexp)
	if !isPattern || p == nil || q == nil {
		return reflect.DeepEqual(a, b)
	}
	return p.String() == q.String()
}

// placeless are the settings of a mapper without the places of its rules. A rule without a name is
// called by its line.
func placeless(m config.Mapper) mappers.Settings {
	s, isCertmap := m.Settings.(mappers.Certmap)
	if !isCertmap {
		return m.Settings
	}
	rules := make([]mappers.Rule, len(s.Rules))
	for i, r := range s.Rules {
		if r.Name == fmt.Sprintf("line %d", r.Line) {
			r.Name = ""
		}
		r.Line, r.Col = 0, 0
		rules[i] = r
	}
	s.Rules = rules
	return s
}
