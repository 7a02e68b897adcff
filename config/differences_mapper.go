package config

import (
	"slices"
	"strings"

	"pam_pkcs11/config/internal/finding"
	"pam_pkcs11/config/mappers"
)

// mapperDifferences notes what changed for one mapper in use.
func (b *builder) mapperDifferences(m Mapper) []finding.Note {
	var notes []finding.Note
	add := func(kind finding.NoteKind, key, text, restore string) {
		at := m.at
		if key != "" {
			at = m.placeOf(key)
		}
		notes = append(notes, finding.Note{
			File:    b.File,
			Line:    at.Line,
			Col:     at.Col,
			Kind:    kind,
			Text:    "mapper " + m.Name + ": " + text,
			Restore: restore,
		})
	}

	for _, key := range []string{"base", "uri"} {
		if isType(m, "ldap", "certmap") && len(m.Values.List(key)) > 1 {
			add(finding.NoteChanged, key, "all values of "+key+
				" count; of several lines the first one counted", "one line "+key)
		}
	}

	if asksDirectory(m) {
		add(finding.NoteGeneral, "",
			"a base that does not exist, a referral and attributes that the server does not know are faults, with Error 2380; they were nothing found", "")
		if m.Values.Int("cache_hours") > 0 {
			add(finding.NoteChanged, "cache_hours",
				"a kept answer serves only where no server was reached in its time, and those kept by earlier versions do not; "+
					"it served after invalid credentials, refused searches and size limits too", "")
		}

		if findsBySerial(m) {
			add(finding.NoteGeneral, "certificate_match",
				"an entry that was found by issuer and serial number, and whose certificate cannot be read, counts only where the issuer's name "+
					"stands for its key",
				"the attribute readable for the bind; or the CA's certificate in ca_dir; or issuer = \"sha256:...\";")
		}
	}

	if key, goes := goesByIssuerName(m); goes && b.conf.Module.Policy.CA {
		add(finding.NoteChanged, key,
			"the name of an issuer of which ca_dir has CAs stands for their keys, and for keys of that name below the same anchor; "+
				"it stood for any CA of the name",
			"the other CA's certificate in ca_dir; or issuer = \"sha256:...\";")
	}

	if isType(m, "opensc", "openssh") {
		add(finding.NoteGeneral, "",
			"without a user name a home that does not answer is passed over after 200 ms, and whether its file has the certificate is not known; "+
				"the login ended with Error 2362", "")
	}

	if len(m.Rules) > 1 {
		add(finding.NoteChanged, "",
			"where a user name is given all rules that fit count, and without one the user is asked which account is meant; "+
				"those of the lowest number counted", "the rules for other accounts left out")
	}

	return append(notes, b.ruleDifferences(m)...)
}

// ruleDifferences notes the rules that find more than they did.
func (b *builder) ruleDifferences(m Mapper) []finding.Note {
	var notes []finding.Note
	for _, r := range m.Rules {
		text := strings.ToLower(r.Values.String("match"))
		for _, kind := range []string{"otherName", "x400Address", "ediPartyName"} {
			if strings.Contains(text, "<san:"+strings.ToLower(kind)+">") {
				notes = append(notes, finding.Note{
					File: b.File,
					Line: r.Line,
					Col:  r.Col,
					Kind: finding.NoteChanged,
					Text: "rule " + r.Name + ": <SAN:" + kind +
						"> finds its octets anywhere in the value, as SSSD does; the whole value had to be equal",
				})
			}
		}
	}
	return notes
}

func isType(m Mapper, types ...string) bool { return slices.Contains(types, m.Type) }

// findsBySerial reports whether a directory may be asked for issuer and serial number in place of
// the certificate.
func findsBySerial(m Mapper) bool {
	return m.Type == "certmap" ||
		slices.Contains([]string{"auto", "exact"}, m.Values.String("certificate_match"))
}

// goesByIssuerName reports whether a block knows an authority by its name, and returns the key of
// the block by which it does; "" is the block.
func goesByIssuerName(m Mapper) (key string, goes bool) {
	named := func(text string) bool {
		kind, _, _ := strings.Cut(text, ":")
		return !slices.Contains([]string{"file", "ski", "sha256"}, kind)
	}

	issuers := m.Values.List("issuer")

	switch {
	case slices.ContainsFunc(issuers, named):
		return "issuer", true
	// All of them are bound to a key or a file, whatever other keys compare.
	case len(issuers) > 0:
		return "", false
	case m.Type == "serial":
		return "", true
	case m.Type == "certmap":
		comparesIssuer := func(r Rule) bool {
			return strings.Contains(strings.ToUpper(r.Values.String("match")), "<ISSUER>")
		}
		return "", slices.ContainsFunc(m.Rules, comparesIssuer)
	// Its own attribute_map compares altSecurityIdentities, which holds the issuer's name.
	case m.Type == "ldap" && m.Values.Bool("active_directory") &&
		len(m.Values.List("attribute_map")) == 0:
		return "active_directory", true
	case m.Type == "ldap":
		return "attribute_map", slices.ContainsFunc(m.Values.List("attribute_map"), mapsIssuer)
	}
	return "", false
}

// mapsIssuer reports whether a line of attribute_map has an item that names the issuer.
func mapsIssuer(text string) bool {
	conditions, err := mappers.ParseConditions(text)
	return err == nil && slices.ContainsFunc(conditions,
		func(c mappers.Condition) bool { return c.Item == "issuer" || c.Item == "altsecid" })
}

// mapfileMappers are those with a mapfile.
func (b *builder) mapfileMappers() []Mapper {
	return slices.DeleteFunc(slices.Clone(b.conf.Mappers),
		func(m Mapper) bool { return mapfileOf(m) == "" })
}
