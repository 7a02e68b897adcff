package config

import (
	"slices"

	"pam_pkcs11/config/internal/schema"
)

// Persons says who must, may or must not use a card. The zero value says nothing: foreign_card and card_only do then.
type Persons struct {
	Required  People // who must
	Optional  People // who may
	Forbidden People // who must not
	Others    string // who is in no list: "" or "configured", "required", "optional" or "forbidden"
}

// People are users and members of groups, by the names that the name service has for them.
type People struct{ Users, Groups []string }

// Empty reports whether nobody is named.
func (p People) Empty() bool { return len(p.Users) == 0 && len(p.Groups) == 0 }

// Empty reports whether all users are treated alike, as foreign_card and card_only say.
func (p Persons) Empty() bool {
	return p.Required.Empty() && p.Optional.Empty() && p.Forbidden.Empty() && !p.othersAre("required", "optional", "forbidden")
}

// Requires reports whether there may be somebody who must use a card.
func (p Persons) Requires() bool { return !p.Required.Empty() || p.othersAre("required") }

// Forbids reports whether there may be somebody who must not use a card.
func (p Persons) Forbids() bool { return !p.Forbidden.Empty() || p.othersAre("forbidden") }

// allows reports whether there may be somebody for whom a card is one way of several.
func (p Persons) allows() bool { return !p.Optional.Empty() || p.othersAre("optional") }

func (p Persons) othersAre(words ...string) bool { return slices.Contains(words, p.Others) }

// personsOf are those of the block pam_pkcs11.
func personsOf(v schema.Values) Persons {
	people := func(key string) People {
		return People{Users: v.List(key + "_users"), Groups: v.List(key + "_groups")}
	}
	return Persons{
		Required:  people("card_required"),
		Optional:  people("card_optional"),
		Forbidden: people("card_forbidden"),
		Others:    v.String("card_others"),
	}
}
