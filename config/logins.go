package config

import (
	"regexp"
	"strings"
	"sync"

	"pam_pkcs11/config/internal/finding"
)

// loginNotes notes, of a mapper that asks a directory, what decides the login of an entry: its
// name, or an attribute and whoever may write that.
func (b *builder) loginNotes(m Mapper) []finding.Note {
	if !asksDirectory(m) {
		return nil
	}

	note := func(key, text, restore string) []finding.Note {
		at := m.Values.Get(key).At
		return []finding.Note{{
			File:    b.File,
			Line:    at.Line,
			Col:     at.Col,
			Kind:    finding.NoteChanged,
			Text:    "mapper " + m.Name + ": " + text,
			Restore: restore,
		}}
	}

	attribute := comparedAttribute(m.Values.String("filter"))
	windows := m.Type == "ldap" && m.Values.Bool("active_directory")
	switch uid := m.Values.String("uid_attribute"); {
	case uid != "":
		return note("uid_attribute", "whoever may write "+uid+
			" may log in as anybody, unless entries are named by it (RDN); one that is named otherwise "+
			"must be the only one with its value, and have the account's uidNumber; only filter was compared", "")
	case windows:
		return note("active_directory",
			"the login of an entry is its sAMAccountName; it must be the only one with it, and its uidNumber, if there is one, the account's",
			"uid_attribute = ATTRIBUTE; (the one that filter compares)")
	case attribute == "":
		return nil
	}

	return note("filter", "entries must be named by "+attribute+
		" (RDN), and have that login alone; any value of "+attribute+" was a login",
		"uid_attribute = ATTRIBUTE; (one that only administrators may write)")
}

// asksDirectory reports whether a mapper asks a server.
func asksDirectory(m Mapper) bool {
	if m.Type != "ldap" && m.Type != "certmap" {
		return false
	}
	return m.Values.String("uri") != "" || m.Values.String("ldaphost") != "" ||
		m.Values.String("srv_domain") != ""
}

var comparedShape = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`([A-Za-z0-9.;-]+)=[^()]*%s`)
})

// comparedAttribute finds the attribute that a filter compares with the login; "" when there is
// none.
func comparedAttribute(filter string) string {
	found := comparedShape().FindStringSubmatch(strings.ReplaceAll(filter, " ", ""))
	if found == nil {
		return ""
	}
	return found[1]
}
