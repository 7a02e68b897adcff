package schema

import (
	"flag"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"pam_pkcs11/config/internal/scconf"
)

// Value is what one setting says.
type Value struct {
	Set    bool           // written in the file, or by a module argument
	Texts  []string       // as they are meant: see Values.String
	True   bool           // of a Bool
	Number int            // of an Int or Seconds
	re     *regexp.Regexp // of a Pattern
	At     scconf.Word    // the first word, or the key
	words  []scconf.Word  // as texts, with their places; nil for a default
}

// Place is where the i-th text stands.
func (v Value) Place(i int) scconf.Word {
	if i < len(v.words) {
		return v.words[i]
	}
	return v.At
}

// Text is the one text of a scalar.
func (v Value) Text() string {
	if len(v.Texts) == 0 {
		return ""
	}
	return v.Texts[0]
}

// Written is a value as one would write it: true or false, numbers in decimal, purposes by the
// names they were given.
func (k *Key) Written(v Value) []string {
	switch {
	case k.Kind == Bool:
		return []string{strconv.FormatBool(v.True)}
	case k.Kind != Int && k.Kind != Seconds && k.Kind != Purposes:
		return v.Texts
	case k.Kind == Purposes && len(v.words) > 0:
		var texts []string
		for _, w := range v.words {
			texts = append(texts, w.Text)
		}
		return texts
	case k.Kind == Purposes || k.isNamed(v.Text()):
		return v.Texts
	}
	return []string{strconv.Itoa(v.Number)}
}

// isNamed reports whether a word stands for a number.
func (k *Key) isNamed(word string) bool {
	return slices.ContainsFunc(k.Named,
		func(n Name) bool { return strings.EqualFold(n.Word, word) })
}

// Values are the settings of one block, with the schema's defaults for what is not written. The
// zero Values has no keys.
type Values struct {
	table *Table
	given map[string]Value // by the key's name in the table
}

// Get gives the value of a key. A key that is not in the table is a fault of the program: it panics
// in a test, and a login goes on with the zero value.
func (v Values) Get(key string) Value {
	if val, ok := v.given[key]; ok {
		return val
	}

	var row *Key
	if v.table != nil {
		row = v.table.Find(key)
	}

	if row == nil {
		if flag.Lookup("test.v") != nil {
			panic(fmt.Sprintf("config: the schema has no key %q", key))
		}
		return Value{}
	}
	return row.defaultValue()
}

// String gives the text of a scalar key; "" when empty. For a Mapfile that is "" or a URL, for a
// TLSMode "", off, tls or ssl, for a Digest "" or Go's spelling in lower case without a hyphen
// (sha256).
func (v Values) String(key string) string { return v.Get(key).Text() }

// Bool gives a Bool key.
func (v Values) Bool(key string) bool { return v.Get(key).True }

// Int gives an Int key.
func (v Values) Int(key string) int { return v.Get(key).Number }

// Duration gives a Seconds key.
func (v Values) Duration(key string) time.Duration {
	return time.Duration(v.Get(key).Number) * time.Second
}

// List gives all texts of a key; nil when empty.
func (v Values) List(key string) []string { return append([]string(nil), v.Get(key).Texts...) }

// Pattern gives a Pattern key, anchored at both ends; nil when it is not set.
func (v Values) Pattern(key string) *regexp.Regexp { return v.Get(key).re }

// Has reports whether blocks of this kind have the key.
func (v Values) Has(key string) bool { return v.table != nil && v.table.Find(key) != nil }

// Set reports whether the key is written, with a value.
func (v Values) Set(key string) bool { return v.Get(key).Set }

// Written is where a key stands in the block, if it does.
func (v Values) Written(key string) (at scconf.Word, written bool) {
	val, written := v.given[key]
	return val.At, written
}

// Defaults are the settings of a block that is not there.
func Defaults(t *Table) Values { return Values{table: t} }
