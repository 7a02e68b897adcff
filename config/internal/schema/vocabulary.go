package schema

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"pam_pkcs11/config/mappers"
)

// tlsModes are the words for a TLSMode as they are documented; convertTLSMode takes older ones too.
var tlsModes = []string{"off", "tls", "ssl"}

// vocabulary lists the words that a value may be, or be made of; nil where it is free text or a
// number alone.
func (k *Key) vocabulary() []string {
	switch k.Kind {
	case Bool:
		return []string{"true", "false"}
	case Digest:
		return digests
	case TLSMode:
		return tlsModes
	case Purposes:
		return append([]string{"ignore"}, slices.Sorted(maps.Keys(purposes))...)
	case Conditions:
		return mappers.Items()
	case CardKeys:
		return cardKeys()
	case Int, Seconds:
		var words []string
		for _, name := range k.Named {
			words = append(words, name.Word)
		}
		return words
	}
	return k.Words
}

// openKinds says what a value of a kind without a vocabulary is.
var openKinds = map[Kind]string{
	Text:        "text",
	Path:        "an absolute path",
	Paths:       "a list of absolute paths",
	Names:       "a list of names",
	List:        "a list",
	Members:     "a list of names",
	Authorities: "a list of distinguished names, file:PATH, ski:HEX or sha256:HEX",
	Bases:       fmt.Sprintf("a list of at most %d distinguished names", maxBases),
	Mapfile:     "none, an absolute path, or a URL: file, https, ldaps, ldapi, http, ldap",
	Pattern:     fmt.Sprintf("a regular expression of at most %d characters", maxPattern),
	Environment: "a list of NAME=value",
	URI:         "a PKCS#11 URI",
	WebURLs:     "a list of http or https URLs",
	ListURLs:    "a list of http, https, ldap, ldaps or file URLs",
	OIDs:        "a list of object identifiers",
}

// Values says in a few words what may be written: every word, or the range with both ends. The
// manual page and the example file show it of each key.
func (k *Key) Values() string {
	words := k.vocabulary()

	switch k.Kind {
	case Int, Seconds:
		text := fmt.Sprintf("%d to %d", k.Min, k.Max)
		if k.Kind == Seconds {
			text += " seconds"
		}
		if len(words) > 0 {
			text = strings.Join(words, ", ") + ", or " + text
		}
		return text
	case Words:
		return "a list of " + orList(words)
	case CardKeys:
		return "a list of 9A, 9C, 9D and 82 to 95"
	case Purposes:
		return words[0] + ", or a list of " + strings.Join(words[1:], ", ") +
			" and object identifiers"
	case Conditions:
		return "a list of attribute=item, the item " + orList(words)
	}

	switch {
	case len(words) > 0:
		return orList(words)
	case k.Form != "":
		return k.Form
	}
	return openKinds[k.Kind]
}

// orList writes "a", "a or b", "a, b or c".
func orList(words []string) string {
	if len(words) < 2 {
		return strings.Join(words, "")
	}
	last := len(words) - 1
	return strings.Join(words[:last], ", ") + " or " + words[last]
}
