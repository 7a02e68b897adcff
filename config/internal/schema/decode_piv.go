package schema

import (
	"fmt"
	"slices"
	"strings"

	"pam_pkcs11/config/internal/finding"
	"pam_pkcs11/config/internal/scconf"
)

// The references of retired keys, SP 800-73pt1-5, table 5.
const (
	firstRetired = 0x82
	lastRetired  = 0x95
)

// cardKeys are the references that piv_keys may name.
func cardKeys() []string {
	words := []string{"9A", "9C", "9D"}
	for ref := firstRetired; ref <= lastRetired; ref++ {
		words = append(words, fmt.Sprintf("%02X", ref))
	}
	return words
}

// convertCardKeys writes references in capitals. 9E is refused by name: a key that signs without a
// PIN proves nothing about its holder.
func convertCardKeys(v *Value, words []scconf.Word) *Fault {
	known := cardKeys()
	for i, w := range words {
		// The list of known references is in capitals, and a file may have small letters.
		ref := strings.ToUpper(w.Text)

		switch {
		case ref == "9E":
			return &Fault{w, "the key 9E (Card Authentication) is for no login",
				"it signs without a PIN, for whoever has found the card"}
		case !slices.Contains(known, ref):
			return &Fault{w, "piv_keys has no key " + finding.Quote(w.Text),
				"9A, 9C, 9D, or 82 to 95"}
		case slices.Contains(v.Texts[:i], ref):
			return &Fault{w, "piv_keys names the key " + ref + " twice", ""}
		}

		v.Texts[i] = ref
	}
	return nil
}
