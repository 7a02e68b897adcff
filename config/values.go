package config

import (
	"flag"
	"fmt"
	"regexp"
	"time"
)

// value is what one setting says.
type value struct {
	set   bool // written in the file, or by a module argument
	texts []string
	b     bool
	n     int
	re    *regexp.Regexp
	at    Word   // the first word, or the key
	words []Word // as texts, with their places; nil for a default
}

// place is where the i-th text stands.
func (v value) place(i int) Word {
	if i < len(v.words) {
		return v.words[i]
	}
	return v.at
}

// text is the one text of a scalar.
func (v value) text() string {
	if len(v.texts) == 0 {
		return ""
	}
	return v.texts[0]
}

// Values are the settings of one block, with the schema's defaults for what is not written. The zero
// Values has no keys.
type Values struct {
	table *Table
	given map[string]value // by the key's name in the table
}

// get gives the value of a key. A key that is not in the table is a fault of the program: a test stops
// at it, a login goes on with the zero value.
func (v Values) get(key string) value {
	if val, ok := v.given[key]; ok {
		return val
	}
	var row *Key
	if v.table != nil {
		row = v.table.find(key)
	}
	if row == nil {
		if flag.Lookup("test.v") != nil {
			panic(fmt.Sprintf("config: the schema has no key %q", key))
		}
		return value{}
	}
	return row.defaultValue()
}

// String gives the text of a scalar key; "" when empty. For a Mapfile that is "" or a URL, for a TLSMode
// "", off, tls or ssl, for a Digest "" or Go's spelling in lower case without a hyphen (sha256).
func (v Values) String(key string) string { return v.get(key).text() }

// Bool gives a Bool key.
func (v Values) Bool(key string) bool { return v.get(key).b }

// Int gives an Int key.
func (v Values) Int(key string) int { return v.get(key).n }

// Duration gives a Seconds key.
func (v Values) Duration(key string) time.Duration {
	return time.Duration(v.get(key).n) * time.Second
}

// List gives all texts of a key; nil when empty.
func (v Values) List(key string) []string { return append([]string(nil), v.get(key).texts...) }

// Pattern gives a Pattern key, anchored at both ends; nil when it is not set.
func (v Values) Pattern(key string) *regexp.Regexp { return v.get(key).re }

// Has reports whether blocks of this kind have the key.
func (v Values) Has(key string) bool { return v.table != nil && v.table.find(key) != nil }

// Set reports whether the key is written, with a value.
func (v Values) Set(key string) bool { return v.get(key).set }

// writtenAt is where a key stands in the block, if it does.
func (v Values) writtenAt(key string) (at Word, written bool) {
	val, written := v.given[key]
	return val.at, written
}

// defaults are the settings of a block that is not there.
func defaults(t *Table) Values { return Values{table: t} }
