// Package schema knows every key of pam_pkcs11.conf: keys_*.go are the tables, each key with its
// type, default and line of documentation; reader.go reads a block against its table, decode*.go
// each value.
//
// Where the C module silently read something else than what was written, the value is read as it
// was meant; where this would be looser than what was in force, it is refused (misread.go).
package schema

import (
	"slices"

	"pam_pkcs11/config/internal/scconf"
)

// Kind is the type of a key's value.
type Kind uint8

// The kinds of values.
const (
	Bool        Kind = iota // true, yes, on, 1 or false, no, off, 0
	Int                     // as in C: decimal, 0x..., 0...
	Seconds                 // an Int that counts seconds
	Text                    // one word
	Path                    // an absolute path
	Paths                   // a list of absolute paths
	Choice                  // one of Words
	Words                   // any of Words
	Names                   // a list of words without commas and blanks in them
	List                    // a list of anything
	Authorities             // a list of CAs: distinguished names, file:PATH, ski:HEX, sha256:HEX
	Bases                   // a list of distinguished names below which to search; "" is the root
	Conditions              // a list of attribute=item&attribute=item
	Digest                  // the name of a digest algorithm
	Mapfile                 // a URL, a path, or none
	TLSMode                 // off, tls or ssl
	Pattern                 // a regular expression of Go's regexp (RE2)
	Purposes                // ignore, or a list of extended key usages by name or object identifier
	Environment             // a list of NAME=value
	URI                     // pkcs11:...
	WebURLs                 // a list of http or https addresses
	ListURLs                // a list of http, https, ldap, ldaps or file addresses
	OIDs                    // a list of object identifiers
	// CardKeys is a list of references of keys of a PIV card, two hexadecimal digits each.
	CardKeys
	Members  // a list of names of users or groups
	Anything // not looked at
)

// Status is whether a key does anything, and since when.
type Status uint8

// The statuses of a key.
const (
	Active   Status = iota
	NoEffect        // accepted because old files have it
	New             // active, and unknown to pam_pkcs11 0.6.13 and older
)

// Key is one row of the schema.
type Key struct {
	Name    string
	Kind    Kind
	Default string   // as it would be written; "" is empty or none
	Words   []string // allowed words of Choice and Words
	// Form is what an element of a List is, where its kind does not say it; for the manual page.
	Form     string
	Instead  string // hint at a word that is not near any of Words; "" lists them
	Named    []Name // words for numbers of an Int, in lower case
	Min, Max int    // range of Int and Seconds, both included
	Status   Status
	Doc      string // one line for the manual page and the example
	Unread   bool   // the C module documented the key and did not look at it

	// looser reports whether a value lets in what would be kept out without it: a value that the C
	// module did not read as written is then refused, not obeyed (misread.go). nil: never.
	looser func(Value) bool
	// risky values are obeyed and logged at every login, with risk as the reason.
	risky func(Value) bool
	risk  string
	// riskless reports whether the other keys of the block take a risky value's risk away. nil:
	// never.
	riskless func(Values) bool
}

// Name is a word that may be written for a number of an Int.
type Name struct {
	Word   string
	Number int
}

// Table is the keys of one kind of block.
type Table struct {
	Block string // key of the block: pam_pkcs11, pkcs11_module, mapper, rule, service
	Type  string // of a mapper, else ""
	Doc   string // one line
	Keys  []Key
}

// Find looks a key up; keys compare without regard to case.
func (t *Table) Find(name string) *Key {
	for i := range t.Keys {
		if scconf.SameKey(t.Keys[i].Name, name) {
			return &t.Keys[i]
		}
	}
	return nil
}

// Names are those of all keys.
func (t *Table) Names() []string {
	names := make([]string, len(t.Keys))
	for i, k := range t.Keys {
		names[i] = k.Name
	}
	return names
}

// Tables gives the whole schema: the global block, the module block, each mapper, certmap's rule, a
// service's block.
func Tables() []*Table {
	all := []*Table{&Global, &Module}
	for _, typ := range MapperTypes() {
		all = append(all, Mapper(typ))
	}
	return append(all, &Rule, &Service)
}

func isTrue(v Value) bool { return v.True }
func always(Value) bool   { return true }
func isSoft(v Value) bool { return v.Text() == "soft" }

// policyWords are those of cert_policy.
var policyWords = []string{"none", "ca", "signature", "no_signature", "crl_offline", "crl_online",
	"crl_auto", "ocsp_on"}

// looserPolicy reports whether a cert_policy checks less than the default.
func looserPolicy(v Value) bool {
	return !slices.Contains(v.Texts, "ca") || slices.Contains(v.Texts, "none") ||
		slices.Contains(v.Texts, "no_signature")
}
