package inventory

import (
	"fmt"
	"time"

	"pam_pkcs11/token"
)

// Reader is one slot. Its JSON, and that of what is in it, is an interface.
type Reader struct {
	Slot  int    `json:"slot"` // from 1
	Name  string `json:"name"`
	State string `json:"state"`
	Why   string `json:"why,omitempty"`  // no login takes its card
	Card  *Card  `json:"card,omitempty"` // nil where it cannot be read
}

// subject names the reader in findings.
func (r *Reader) subject() string {
	if r.Name == "" {
		return fmt.Sprintf("slot %d", r.Slot)
	}
	return r.Name
}

// Card is what is in a reader.
type Card struct {
	Label        string        `json:"label"`
	Serial       string        `json:"serial"`
	Manufacturer string        `json:"manufacturer"`
	Model        string        `json:"model"`
	Block        string        `json:"block"`             // of the configuration
	Problem      string        `json:"problem,omitempty"` // why its certificates could not be read
	PIN          PIN           `json:"pin"`
	Certificates []Certificate `json:"certificates"`
}

// PIN is what a card tells of its PIN.
type PIN struct {
	Set         bool   `json:"set"`
	Required    bool   `json:"required"`
	State       string `json:"state"`                // untold, few, last or locked
	TriesLeft   *int   `json:"tries_left,omitempty"` // nil where the card does not count them
	TriesMost   int    `json:"tries_most,omitempty"`
	Default     bool   `json:"default"`
	ToBeChanged bool   `json:"to_be_changed"`
	AtReader    bool   `json:"at_reader"`

	Told token.PIN `json:"-"` // all of it
}

// Certificate is one certificate of a card.
type Certificate struct {
	Place     string    `json:"place"` // key reference of PIV, such as 9A, or CKA_ID in hexadecimal
	Label     string    `json:"label"`
	Subject   string    `json:"subject"`
	Issuer    string    `json:"issuer"`
	Serial    string    `json:"serial"`
	NotBefore time.Time `json:"not_before,omitzero"`
	NotAfter  time.Time `json:"not_after,omitzero"`
	Key       string    `json:"key,omitempty"` // sha256:HEX, as the file of enrolled keys has it
	Good      bool      `json:"good"`
	Check     string    `json:"check,omitempty"` // why it is not good
	User      string    `json:"user,omitempty"`  // whose it is
	Mapper    string    `json:"mapper,omitempty"`
	// all that may log in with it, where there are several
	Accounts []string `json:"accounts,omitempty"`
}

// levels are the words of PIN.State.
var levels = map[token.Level]string{
	token.Untold: "untold",
	token.Few:    "few",
	token.Last:   "last",
	token.Locked: "locked",
}

// pinOf is what a card tells of its PIN.
func pinOf(told token.PIN) PIN {
	p := PIN{
		Set:         told.Set,
		Required:    told.Required,
		State:       levels[told.Tries.Level],
		TriesMost:   told.Tries.Most,
		Default:     told.Default,
		ToBeChanged: told.ToBeChanged,
		AtReader:    told.AtReader,
		Told:        told,
	}
	// Without a counter there is no number: nil, and not 0, which would be a locked PIN.
	if told.Tries.Counted {
		p.TriesLeft = &told.Tries.Left
	}
	return p
}
