package mappers

import (
	"fmt"
	"slices"
	"strings"

	"pam_pkcs11/config/internal/finding"
)

// Condition is one attribute=item of attribute_map: an attribute of the entry equals an item of the
// certificate.
type Condition struct {
	Attribute string
	Item      string // whole name, one of those in oldItems and newItems
	Shortened bool   // only the beginning of the item's name is written
}

// oldItems in the order in which the C module compared what was written with their beginnings.
var oldItems = []string{"cn", "subject", "kpn", "email", "upn", "uid", "cert"}

// newItems are known by their whole names only.
var newItems = []string{"serial", "issuer", "sid", "altsecid"}

// Items names what of a certificate attribute_map can compare.
func Items() []string { return slices.Concat(oldItems, newItems) }

// ParseConditions reads one value of attribute_map, "attribute=item&attribute=item": all of it must
// hold.
func ParseConditions(text string) ([]Condition, error) {
	var all []Condition
	for part := range strings.SplitSeq(text, "&") {
		attribute, item, found := strings.Cut(part, "=")
		attribute = strings.TrimSpace(attribute)
		item = strings.ToLower(strings.TrimSpace(item))
		if !found || !IsAttribute(attribute) {
			return nil, fmt.Errorf("attribute_map: %s is not attribute=item", finding.Quote(part))
		}

		c, known := conditionOf(attribute, item)
		if !known {
			return nil, fmt.Errorf("attribute_map: %s has no item %s, expected one of %s",
				finding.Quote(part), finding.Quote(item), strings.Join(Items(), ", "))
		}

		all = append(all, c)
	}
	return all, nil
}

// conditionOf finds an item by its name or, as the C module did, an old one by the beginning of its
// name. An empty item is refused: the C module took it for cn, which nobody meant who forgot the
// item.
func conditionOf(attribute, item string) (Condition, bool) {
	if slices.Contains(newItems, item) || slices.Contains(oldItems, item) {
		return Condition{Attribute: attribute, Item: item}, true
	}

	i := slices.IndexFunc(oldItems, func(old string) bool { return strings.HasPrefix(old, item) })
	if item == "" || i < 0 {
		return Condition{}, false
	}

	return Condition{Attribute: attribute, Item: oldItems[i], Shortened: true}, true
}

// IsAttribute reports whether a text is an attribute description (RFC 4512, 2.5): a name or an
// object identifier, and options behind semicolons.
func IsAttribute(text string) bool {
	const name = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-"
	for i, part := range strings.Split(text, ";") {
		allowed := name
		if i == 0 {
			allowed += "."
		}
		if part == "" || strings.Trim(part, allowed) != "" {
			return false
		}
		// A name begins with a letter, an object identifier with a digit.
		if i == 0 && strings.ContainsAny(part[:1], "-.") {
			return false
		}
	}
	return true
}
