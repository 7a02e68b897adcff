package config

import (
	"strings"

	"pam_pkcs11/config/internal/finding"
	"pam_pkcs11/config/mappers"
)

// checkMapper looks at what the keys of a mapper in use say together. A mapper that could say yes
// to nobody is an error: its writer forgot something, and would look for it at the wrong place.
func (b *builder) checkMapper(m Mapper) {
	b.checkMapfile(m.Values)

	switch m.Type {
	case "digest", "serial":
		if mapfileOf(m) == "" {
			b.refuse(m.placeOf("mapfile"), "mapper "+m.Name+
				" has no mapfile, and without one it knows nobody",
				"write mapfile = file:///path; or leave "+m.Name+" out of use_mappers")
		}
	case "ldap":
		if !m.hasDirectory() {
			b.refuse(m.placeOf("uri"), "mapper "+m.Name+" has no server to ask",
				"write uri, ldaphost or srv_domain, or leave "+m.Name+" out of use_mappers")
		}
		b.noteShortened(m)
		b.noteBase(m)
	case "certmap":
		b.noteBase(m)
	}
}

// hasDirectory reports whether the block names a server. The old example had ldaphost = "", and the
// C module took no host of one letter.
func (m Mapper) hasDirectory() bool {
	v := m.Values
	return strings.TrimSpace(strings.Join(v.List("uri"), "")) != "" ||
		len(v.String("ldaphost")) > 1 || v.String("srv_domain") != ""
}

// noteBase notes that base is not set. Its default is that of the C module's source, an example.
func (b *builder) noteBase(m Mapper) {
	if m.hasDirectory() && !m.Values.Set("base") {
		b.Note(m.placeOf("base"), finding.NoteTolerated, "mapper "+m.Name+
			": base is not set, and hardly any directory has the default, "+
			finding.Quote(m.Values.String("base"))+": every search would find nothing")
	}
}

// noteShortened names the items that only the beginning of a name stands for.
func (b *builder) noteShortened(m Mapper) {
	v := m.Values.Get("attribute_map")
	for i, text := range v.Texts {
		conditions, err := mappers.ParseConditions(text)
		if err != nil {
			continue // an error already
		}
		for _, c := range conditions {
			if c.Shortened {
				b.Note(v.Place(i), finding.NoteTolerated, "attribute_map: "+finding.Quote(text)+
					" is read as "+c.Attribute+"="+c.Item)
			}
		}
	}
}
